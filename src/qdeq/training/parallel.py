"""How a computation for one seed becomes one program for many seeds on many devices.

Seeds are independent, so devices that hold different seeds never talk to each other. Devices that
hold parts of the same batches add up their sums (see `epoch.py`), once per optimiser step. Outside
of the programs every array is whole and the same everywhere, so that nothing else needs to know.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from qdeq import native
from qdeq.errors import UserError, told
from qdeq.training.config import TrainConfig
from qdeq.training.processes import wait_for_all_processes

SEEDS, BATCH = "seeds", "batch"

_AMPLITUDES_CPU = 2**18
_AMPLITUDES_ACCELERATOR = 2**26


class BatchAxis(eqx.Module):
    """A mesh axis over whose devices every batch is split.

    Parameters
    ----------
    name
        Of the axis; what is computed of a batch then runs inside `jax.shard_map`.
    size
        Number of devices along it.
    """

    name: str = eqx.field(static=True)
    size: int = eqx.field(static=True)

    def own(self, batch: Array) -> Array:
        """This device's part of a batch along axis 1: `(n, B)` -> `(n, ceil(B / size))`.

        Where `size` does not divide B, the last part is filled up with the first entries of the
        batch; the caller's `weights` must be zero there.
        """
        part = -(-batch.shape[1] // self.size)
        filled = jnp.take(batch, jnp.arange(part * self.size) % batch.shape[1], axis=1)
        start = jax.lax.axis_index(self.name) * part
        return jax.lax.dynamic_slice_in_dim(filled, start, part, axis=1)

    def own_weights(self, weights: Array) -> Array:
        """As `own`, with zero weight for what only fills up."""
        surplus = -weights.shape[1] % self.size
        return self.own(jnp.pad(weights, ((0, 0), (0, surplus))))


@dataclass(frozen=True)
class Layout:
    """Where the seeds and the batches of a run are computed.

    Attributes
    ----------
    n_seeds
        S, the length of the leading axis of a state.
    mesh
        Devices by (seeds, batch); None: JAX's default device does everything.
    seeds_at_once
        Seeds that a device computes together, as one more array axis; more are taken in turn.
    """

    n_seeds: int = 1
    mesh: Mesh | None = None
    seeds_at_once: int = 1

    @classmethod
    def of(cls, n_seeds: int, *, n_devices: int | None = None, seeds_at_once: int = 1) -> "Layout":
        """The layout that this project uses by itself: seeds over devices first, then batches.

        Parameters
        ----------
        n_seeds
            S.
        n_devices
            How many of JAX's devices to use, those of other processes included; None: all.

        Raises
        ------
        UserError
            When there are not so many devices.
        """
        devices = jax.devices()
        n_devices = len(devices) if n_devices is None else n_devices
        if not isinstance(n_devices, Integral) or not 1 <= n_devices <= len(devices):
            raise UserError(
                f"devices={told(n_devices)}: JAX has {len(devices)} ({devices[0].device_kind}); "
                "give a number from 1 to that, or let more processes take part"
            )
        if n_devices < len(devices) and jax.process_count() > 1:
            raise UserError(
                f"devices={n_devices}: {jax.process_count()} processes take part with "
                f"{len(devices)} devices in all; leave the option out to use all of them"
            )
        mesh = None
        if n_devices > 1:
            # The most devices that can have seeds of their own while all devices have work.
            across = max(k for k in range(1, n_devices + 1) if n_devices % k == 0 and k <= n_seeds)
            grid = np.array(devices[:n_devices]).reshape(across, n_devices // across)
            mesh = Mesh(grid, (SEEDS, BATCH))
        return cls(n_seeds, mesh, seeds_at_once)

    @property
    def batch_axis(self) -> BatchAxis | None:
        """The mesh axis that splits batches, if one does."""
        if self.mesh is None or self.mesh.shape[BATCH] == 1:
            return None
        return BatchAxis(BATCH, self.mesh.shape[BATCH])

    @property
    def n_devices(self) -> int:
        """How many devices take part."""
        return 1 if self.mesh is None else self.mesh.size

    def put(self, tree: PyTree) -> PyTree:
        """Put whole arrays, equal in every process, where the programs expect them."""
        if self.mesh is None:
            # `jnp.asarray` compiles a copy for every new shape.
            return jax.tree.map(jax.device_put, tree)
        everywhere = NamedSharding(self.mesh, PartitionSpec())

        def put(array: Any) -> jax.Array:
            array = np.asarray(array)
            return jax.make_array_from_callback(array.shape, everywhere, lambda index: array[index])

        return jax.tree.map(put, tree)

    def compile(
        self,
        function: Callable[..., tuple[PyTree, ...]],
        arguments: Sequence[PyTree],
        *,
        split_arguments: Sequence[bool] | None = None,
        split_results: Sequence[bool],
    ) -> Callable[..., tuple[PyTree, ...]]:
        """Compile a computation for one seed into a program for all of them.

        Parameters
        ----------
        function
            `function(state, *shared)`, with a state of one seed. Its results get a leading seed
            axis.
        arguments
            Arrays, or their shapes: the state with its leading seed axis, then the shared ones.
        split_arguments
            Which shared arguments are split by samples along their first axis, whose length is
            a multiple of the batch axis; None: none is.
        split_results
            Which results are, per seed, split by samples.
        """
        everywhere = PartitionSpec()

        def local(states: PyTree, *shared: PyTree) -> tuple[PyTree, ...]:
            return _map_seeds(lambda state: function(state, *shared), states, self.seeds_at_once)

        if self.mesh is None:
            return compile_lowered(jax.jit(local).lower(*arguments))
        across = self.mesh.shape[SEEDS]
        split_arguments = split_arguments or [False] * len(arguments[1:])
        shared_specs = [PartitionSpec(BATCH) if split else everywhere for split in split_arguments]
        mapped = jax.shard_map(
            local,
            mesh=self.mesh,
            in_specs=(PartitionSpec(SEEDS), *shared_specs),
            out_specs=tuple(
                PartitionSpec(SEEDS, BATCH) if split else PartitionSpec(SEEDS)
                for split in split_results
            ),
            check_vma=False,  # `lax.while_loop` of the solvers mixes both kinds of values
        )

        def program(states: PyTree, *shared: PyTree) -> tuple[PyTree, ...]:
            states = jax.tree.map(lambda a: _filled(a, -self.n_seeds % across), states)
            return jax.tree.map(lambda a: a[: self.n_seeds], mapped(states, *shared))

        whole = NamedSharding(self.mesh, everywhere)
        jitted = jax.jit(program, in_shardings=whole, out_shardings=whole)
        compiled = compile_lowered(jitted.lower(*arguments))
        # Processes compile at different speeds, and the first sum over all of them waits for only
        # half a minute.
        wait_for_all_processes()
        return compiled


def compile_lowered(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compile for the default backend; on CPU by the way that is quicker for these programs.

    Measured on the training epoch of 4 qubits: 2.5 s to compile as it comes, 2.0 s without fusion
    emitters, 0.9 s with fewer passes of LLVM as well; a step takes 0.31, 0.31 and 0.33 ms. What is
    worth optimising is in the kernels, so all passes are for those who lack them. The options
    belong to XLA: a version without one refuses all of them, as JAX 0.12 does the first.
    """
    if jax.default_backend() == "cpu":
        level: dict[str, Any] = (
            {"xla_backend_optimization_level": 1} if native.serves(jnp.float32) else {}
        )
        for options in ({"xla_cpu_use_fusion_emitters": False} | level, level):
            try:
                return lowered.compile(compiler_options=options)
            except jax.errors.JaxRuntimeError:
                pass
    return lowered.compile()


def _map_seeds(function: Callable[[PyTree], PyTree], states: PyTree, at_once: int) -> PyTree:
    """Apply a function to every state of a stack, `at_once` of them as one."""
    n_seeds = jax.tree.leaves(states)[0].shape[0]
    at_once = min(at_once, n_seeds)

    def chunk_of(states: PyTree) -> PyTree:
        if at_once > 1:
            return jax.vmap(function)(states)
        result = function(jax.tree.map(lambda a: a[0], states))
        return jax.tree.map(lambda a: a[None], result)

    if at_once == n_seeds:
        return chunk_of(states)

    def by_chunks(array: jax.Array) -> jax.Array:
        array = _filled(array, -n_seeds % at_once)
        return array.reshape(-1, at_once, *array.shape[1:])

    results = jax.lax.map(chunk_of, jax.tree.map(by_chunks, states))
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:n_seeds], results)


def _filled(states: jax.Array, surplus: int) -> jax.Array:
    """Lengthen the seed axis by repeating seeds."""
    n_seeds = states.shape[0]
    return states if surplus == 0 else states[jnp.arange(n_seeds + surplus) % n_seeds]


def seeds_at_once(config: TrainConfig, n_qubits: int) -> int:
    """How many seeds a device computes together, by the amplitudes that their batches hold.

    Notes
    -----
    Bounds the memory whatever the number of seeds. The bound for CPUs rests on single timings on
    two busy cores: 4 seeds of 10 qubits took 107 ms a step and seed together, 54 in turn; for 4
    qubits no difference stood out from the noise. The bound for accelerators is not measured.
    """
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu and not native.serves(jnp.float32):
        return 1  # a loop of JAX runs for every seed until the slowest sample of all is done
    amplitudes = _AMPLITUDES_CPU if on_cpu else _AMPLITUDES_ACCELERATOR
    return max(1, amplitudes // (config.batch_size * 2**n_qubits))
