"""Where a training on a device stands: model, optimiser, history, and what is measured so far.

How a step is made is `train.py`'s business.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
import optax
from jaxtyping import PyTree

from qdeq._arrays import arrays_to_tree, read_arrays, tree_to_arrays, write_arrays
from qdeq.devices.ledger import Ledger
from qdeq.devices.solve_state import DeviceSolution, SolveState
from qdeq.errors import UserError
from qdeq.models import Classifier

_FORMAT = "qdeq-device-training-1"


@dataclass(frozen=True)
class StepRecord:
    """What one training step was like.

    Attributes
    ----------
    step
        Counted from 1.
    loss, accuracy
        Of its batch before the step: mean cross-entropy, fraction classified correctly.
    gradient_norm
        Two-norm over angles and head.
    solver_steps, residual, converged
        Means over the batch: evaluations, relative residual, fraction converged.
    executions, shots
        The ledger's totals after the step.
    """

    step: int
    loss: float
    accuracy: float
    gradient_norm: float
    solver_steps: float
    residual: float
    converged: float
    executions: int
    shots: int


@dataclass(frozen=True, eq=False)
class Unfinished:
    """What is already measured of a step that was interrupted; None where it is not yet.

    `batch` are the features and classes that it was measured of.
    """

    batch: tuple[np.ndarray, np.ndarray] | None = None
    solve: SolveState | None = None
    solution: DeviceSolution | None = None
    input_jacobian: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class DeviceTraining:
    """A training on a device, to go on from.

    Attributes
    ----------
    classifier
        As trained so far.
    optimiser_state
        Optax'.
    step
        Finished steps.
    history
        A `StepRecord` for each.
    ledger
        The executor's, as it was last seen.
    unfinished
        What is measured of the next step. In memory only: a saved state starts that step anew.
    stopped
        Why the last call ended: `"steps"` or `"budget"`; None while it runs and after a failure.
    """

    classifier: Classifier
    optimiser_state: PyTree
    step: int = 0
    history: tuple[StepRecord, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)
    unfinished: Unfinished = Unfinished()
    stopped: str | None = None

    @classmethod
    def start(cls, classifier: Classifier) -> DeviceTraining:
        """Return the state before the first step."""
        parameters = eqx.filter(classifier, eqx.is_inexact_array)
        return cls(classifier, optax.scale_by_adam().init(parameters))

    def is_within_a_step(self) -> bool:
        """Whether something of the next step is measured."""
        return self.unfinished.solve is not None or self.unfinished.solution is not None

    def keep(self, **measured: Any) -> DeviceTraining:
        """Return this state with more of the next step measured."""
        return replace(self, unfinished=replace(self.unfinished, **measured))

    def save(self, path: str | Path) -> None:
        """Write one safetensors file: arrays, and the rest as JSON in its metadata.

        Raises
        ------
        UserError
            When the file cannot be written.
        """
        rest = {
            "step": self.step,
            "history": [asdict(record) for record in self.history],
            "ledger": self.ledger.to_dict(),
        }
        metadata = {"format": _FORMAT, "state": json.dumps(rest)}
        write_arrays(
            Path(path), tree_to_arrays((self.classifier, self.optimiser_state)), metadata=metadata
        )

    @classmethod
    def load(cls, path: str | Path, classifier: Classifier) -> DeviceTraining:
        """Read what `save` wrote.

        Parameters
        ----------
        path
            The file.
        classifier
            One of the same structure: same circuit, same head; its numbers are replaced.

        Returns
        -------
        DeviceTraining
            Give its `ledger` to the executor, so that the count goes on.

        Raises
        ------
        UserError
            When the file is missing, damaged, or of another classifier.
        """
        path = Path(path)
        arrays, metadata = read_arrays(path, kind=_FORMAT)
        template = cls.start(classifier)
        trees = (template.classifier, template.optimiser_state)
        classifier, optimiser_state = arrays_to_tree(trees, arrays, source=path)
        try:
            rest = json.loads(metadata["state"])
            history = tuple(StepRecord(**record) for record in rest["history"])
            step, ledger = int(rest["step"]), Ledger.from_dict(rest["ledger"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is damaged ({error}): restore it or train again") from error
        return cls(classifier, optimiser_state, step, history, ledger)
