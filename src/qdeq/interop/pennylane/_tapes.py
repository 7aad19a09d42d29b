"""Many rows of parameters for the same tapes, in one submission; values and Jacobians as NumPy.

This file runs on the host, inside JAX callbacks, and uses no JAX.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdeq.errors import UserError
from qdeq.interop._foreign import ask
from qdeq.interop.pennylane._guest import TRANSFORM, Guest


@dataclass(frozen=True)
class Slot:
    """One parameter of one tape that changes from row to row.

    Attributes
    ----------
    tape, parameter
        Its place: `tapes[tape].get_parameters(trainable_only=False)[parameter]`.
    shape
        `()` for an angle; state vectors and matrices are arrays.
    """

    tape: int
    parameter: int
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Tapes:
    """Tapes whose slots are filled row by row.

    Attributes
    ----------
    guest
        The QNode they came from.
    tapes
        The parameters in the slots are placeholders.
    slots
        In the order in which `run` takes arrays.
    shapes
        For each tape, the shape of every measurement's result.
    n_settings
        Executions that one row takes, over all tapes.
    """

    guest: Guest
    tapes: tuple[Any, ...]
    slots: tuple[Slot, ...]
    shapes: tuple[tuple[tuple[int, ...], ...], ...]
    n_settings: int

    @property
    def n_values(self) -> int:
        """Numbers that one row gives, all measurements of all tapes flattened."""
        return sum(math.prod(shape) for shapes in self.shapes for shape in shapes)

    def run(self, rows: np.ndarray, purpose: str) -> np.ndarray:
        """Values `(B, n_values)` at rows `(B, S)`, each all slots flattened one after the other."""
        shots = self._shots(purpose)
        self._charge(len(rows), self.n_settings, shots, purpose)
        tapes = [tape for row in rows for tape in self._fill(row, shots)]
        return self._flatten(self._execute(tapes), len(rows))

    def jacobian(self, rows: np.ndarray, wanted: Sequence[int], purpose: str) -> np.ndarray:
        """Values, then the columns of the wanted slots: `(B, n_values, 1 + their sizes)`.

        By the device itself or by one of PennyLane's gradient transforms; one submission.
        """
        shots = self._shots(purpose)
        filled = [self._fill(row, shots) for row in rows]
        for tapes in filled:
            for t, tape in enumerate(tapes):
                tape.trainable_params = [
                    self.slots[k].parameter for k in wanted if self.slots[k].tape == t
                ]
        flat = [tape for tapes in filled for tape in tapes]
        differentiate = self._by_transform if self.guest.way == TRANSFORM else self._by_device
        results, jacobians = differentiate(flat, purpose, shots)
        values = self._flatten(results, len(rows))
        found = []
        for r, value in enumerate(values):
            of_row = jacobians[len(self.tapes) * r : len(self.tapes) * (r + 1)]
            columns = [self._column(of_row, wanted, k) for k in wanted]
            found.append(np.concatenate([value[:, None], *columns], axis=1))
        return np.stack(found)

    def _by_transform(self, tapes: list, purpose: str, shots: int | None) -> tuple[list, list]:
        config = self.guest.config
        transform, options = config.gradient_method, config.gradient_keyword_arguments
        batches = [transform(tape, **options) for tape in tapes]
        shifted = [tape for batch, _ in batches for tape in batch]
        submission = [*tapes, *shifted]
        n_settings = sum(settings(tape) for tape in submission)
        self._charge(1, n_settings, shots, purpose)
        results = self._execute(submission)
        jacobians, first = [], len(tapes)
        for batch, finish in batches:
            jacobians.append(finish(results[first : first + len(batch)]))
            first += len(batch)
        return results[: len(tapes)], jacobians

    def _by_device(self, tapes: list, purpose: str, shots: int | None) -> tuple[list, list]:
        device, config = self.guest.qnode.device, self.guest.config
        prepared, _ = device.preprocess_transforms(config)(tuple(tapes))
        if len(prepared) != len(tapes):
            raise UserError(
                f"the device splits the circuit, and diff_method={self.guest.method!r} cannot "
                "differentiate the parts: choose 'parameter-shift'"
            )
        self._charge(len(tapes), 1, shots, purpose)
        return device.execute_and_compute_derivatives(tuple(prepared), config)

    def _fill(self, row: np.ndarray, shots: int | None) -> list[Any]:
        ends = np.cumsum([math.prod(slot.shape) for slot in self.slots])
        values = np.split(row.astype(np.float64), ends[:-1])
        filled = []
        for t, tape in enumerate(self.tapes):
            new, places = [], []
            for slot, value in zip(self.slots, values, strict=True):
                if slot.tape == t:
                    new.append(value.reshape(slot.shape))
                    places.append(slot.parameter)
            bound = _bound(tape, new, places)
            filled.append(bound if bound.shots.total_shots == shots else bound.copy(shots=shots))
        return filled

    def _execute(self, tapes: list) -> list:
        qnode = self.guest.qnode
        options = {k: qnode.execute_kwargs[k] for k in ("postselect_mode", "mcm_method")}
        return list(
            self.guest.qml.execute(
                tapes, qnode.device, diff_method=None, interface=None, cache=False, **options
            )
        )

    def _flatten(self, results: Sequence, n_rows: int) -> np.ndarray:
        flat = [
            np.ravel(value)
            for result, shapes in zip(results, self.shapes * n_rows, strict=True)
            for value in (result if len(shapes) > 1 else (result,))
        ]
        return np.concatenate(flat).reshape(n_rows, -1)

    def _column(self, jacobians: Sequence, wanted: Sequence[int], k: int) -> np.ndarray:
        """`(n_values, size)`: d(values) / d(slot k) of one row; zero for other tapes' values."""
        slot = self.slots[k]
        of_tape = [j for j in wanted if self.slots[j].tape == slot.tape]
        parts = []
        for t, shapes in enumerate(self.shapes):
            for number, shape in enumerate(shapes):
                part = np.zeros((math.prod(shape), math.prod(slot.shape)))
                if t == slot.tape:
                    entry = jacobians[t][number] if len(shapes) > 1 else jacobians[t]
                    if isinstance(entry, (tuple, list)):  # bare where there is one parameter only
                        entry = entry[of_tape.index(k)]
                    part = np.asarray(entry).reshape(part.shape)
                parts.append(part)
        return np.concatenate(parts)

    def _shots(self, purpose: str) -> int | None:
        own = self.guest.qnode.shots.total_shots
        return own if purpose == "forward" else self.guest.gradient_shots or own

    def _charge(self, n_rows: int, n_settings: int, shots: int | None, purpose: str) -> None:
        if self.guest.ledger is not None:
            self.guest.ledger.charge(n_rows, n_settings, shots, purpose)


def _bound(tape: Any, new: list[np.ndarray], places: list[int]) -> Any:
    return ask(
        lambda: tape.bind_new_parameters(new, places),
        lambda: "the QNode",
        "has a gate that PennyLane cannot give another number",
        "write sums inside of qml.evolve or qml.exp as gates with angles, or choose 'backprop'",
    )


def make_tapes(guest: Guest, tapes: tuple, is_slot: Callable[[Any], bool]) -> Tapes:
    """Take the parameters that are slots out of some tapes."""
    slots, skeletons = [], []
    for t, tape in enumerate(tapes):
        constant: dict[int, Any] = {}
        for i, parameter in enumerate(tape.get_parameters(trainable_only=False)):
            if is_slot(parameter):
                if np.issubdtype(parameter.dtype, np.complexfloating):
                    raise UserError(
                        f"{tape.par_info[i]['op'].name} takes complex numbers that are computed "
                        f"from the arguments: write it in gates with angles, or choose 'backprop'"
                    )
                slots.append(Slot(t, i, tuple(parameter.shape)))
            elif type(parameter).__module__.startswith("jax"):
                constant[i] = np.asarray(parameter)
        skeletons.append(tape.bind_new_parameters(list(constant.values()), list(constant)))
    shapes = tuple(
        tuple(
            tuple(m.shape(tape.shots.total_shots, len(guest.qnode.device.wires or tape.wires)))
            for m in tape.measurements
        )
        for tape in tapes
    )
    n_settings = sum(settings(tape) for tape in tapes)
    return Tapes(guest, tuple(skeletons), tuple(slots), shapes, n_settings)


def settings(tape: Any) -> int:
    """Executions that a device needs for one tape: groups of measurements that commute."""
    # PennyLane's own count, the one that its Tracker reports.
    from pennylane.devices.qubit.sampling import get_num_shots_and_executions

    return get_num_shots_and_executions(tape)[0]
