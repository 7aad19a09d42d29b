"""Several processes, on one machine or many, as one: JAX's own coordination.

Every process runs the same command and computes its part; all of them end with the whole result,
and the first one writes it.
"""

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qdeq.errors import UserError

_LONGEST_WAIT_MS = 3_600_000
_barriers = itertools.count()

VARIABLES = ("QDEQ_COORDINATOR", "QDEQ_PROCESSES", "QDEQ_PROCESS_ID")
"""Environment variables that stand for the options of the same names."""


@dataclass(frozen=True)
class Processes:
    """Which processes take part, and which of them this is.

    Attributes
    ----------
    coordinator
        `HOST:PORT` of process 0, reachable from every other one.
    n_processes
        How many take part.
    process_id
        This one's number, from 0.
    """

    coordinator: str
    n_processes: int
    process_id: int

    @classmethod
    def of(
        cls,
        coordinator: str | None,
        n_processes: int | None,
        process_id: int | None,
        *,
        environment: Mapping[str, str] = os.environ,
    ) -> "Processes | None":
        """Options, or else the environment's variables; None when neither names a coordinator.

        Raises
        ------
        UserError
            When some are given and others not, or a value is out of range.

        Examples
        --------
        >>> Processes.of("node0:4321", 2, 1)
        Processes(coordinator='node0:4321', n_processes=2, process_id=1)
        """
        values: list[str | int | None] = []
        for option, variable in zip((coordinator, n_processes, process_id), VARIABLES, strict=True):
            values.append(environment.get(variable) if option is None else option)
        if all(value is None for value in values):
            return None
        if any(value is None for value in values):
            raise UserError(
                "--coordinator, --processes and --process-id belong together: give all three (or "
                f"{', '.join(VARIABLES)}), or none for a single process"
            )
        address, *numbers = (str(value) for value in values)
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise UserError(f"coordinator={address}: give HOST:PORT of process 0")
        if not all(number.isdecimal() for number in numbers):
            raise UserError(f"processes={numbers[0]}, process_id={numbers[1]}: give whole numbers")
        total, number = map(int, numbers)
        if not 0 <= number < total:
            raise UserError(
                f"process_id={number}: processes are numbered from 0 to {total - 1} where "
                f"{total} take part"
            )
        return cls(address, total, number)

    def join(self) -> None:
        """Meet the other processes; must come before JAX is used.

        Raises
        ------
        UserError
            When they cannot be met.
        """
        import jax

        # Only matters on CPU, where JAX has no way of its own to add up across processes.
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        try:
            jax.distributed.initialize(self.coordinator, self.n_processes, self.process_id)
        except RuntimeError as error:
            raise UserError(
                f"coordinator={self.coordinator}: process {self.process_id} of {self.n_processes} "
                f"cannot join ({error}); start all of them within five minutes, with the address "
                "of process 0"
            ) from error


def wait_for_all_processes() -> None:
    """Return when every process has called this as often as this one; at once for a single one."""
    import jax

    if jax.process_count() == 1:
        return
    name = f"qdeq-{next(_barriers)}"
    client = _coordination()
    if client is None:
        from jax.experimental.multihost_utils import sync_global_devices

        sync_global_devices(name)
    else:
        client.wait_at_barrier(name, timeout_in_ms=_LONGEST_WAIT_MS)


def _coordination() -> Any:
    """JAX's client of the coordinator, or None in a version of JAX that keeps it elsewhere.

    `jax.distributed` hands out none, and the public barrier is a sum over devices, whose first use
    is what must not wait long.
    """
    try:
        from jax._src.distributed import global_state

        return global_state.client
    except (ImportError, AttributeError):
        return None
