"""The files in which a run stands while it trains: history, checkpoint and best model.

Each is replaced atomically except `metrics.jsonl`, which grows by a line per epoch and is cut back
to the checkpoint when a run is resumed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from qdeq._arrays import (
    arrays_to_tree,
    read_arrays,
    tree_to_arrays,
    write_arrays,
    write_atomically,
)
from qdeq.errors import UserError
from qdeq.runs.run_files import RunFiles, make_folder, text_in
from qdeq.runs.summary import finite_or_none

Tree = TypeVar("Tree")
Metrics = dict[str, Any]

_MODEL_FORMAT = "qdeq-model-1"
_CHECKPOINT_FORMAT = "qdeq-checkpoint-1"


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands after its last finished epoch.

    `arrays` is the training state by name, `epoch` the number of finished epochs and
    `compile_seconds` the time spent on compilation so far, earlier sessions included.
    """

    arrays: dict[str, np.ndarray]
    epoch: int
    compile_seconds: float


class TrainingFiles(RunFiles):
    """`metrics.jsonl`, `checkpoint/state.safetensors` and `model.safetensors`."""

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoint_path(self) -> Path:
        return self.path / "checkpoint" / "state.safetensors"

    @property
    def model_path(self) -> Path:
        return self.path / "model.safetensors"

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Add one epoch's line; it is on disk when this returns."""
        try:
            with self.metrics_path.open("a", encoding="utf-8") as file:
                file.write(_metrics_line(metrics))
        except OSError as error:
            raise UserError(
                f"cannot write {self.metrics_path} ({error.strerror}): free some space and resume"
            ) from error

    def write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Replace the whole history, one line per epoch."""
        write_atomically(self.metrics_path, "".join(map(_metrics_line, history)).encode())

    def read_metrics(self, *, epochs: int) -> list[Metrics]:
        """Return the metrics of the first `epochs` epochs, in order.

        Later lines, and a last line that a crash cut short, are ignored: they were written after
        the checkpoint and will be written again.

        Raises
        ------
        UserError
            When the file lacks one of these epochs or a line is damaged.
        """
        lines = text_in(self.metrics_path).splitlines()[:epochs] if epochs else []
        advice = "restore the file or train again"
        if len(lines) < epochs:
            raise UserError(
                f"{self.metrics_path} has {len(lines)} epochs where the checkpoint has {epochs}: "
                f"{advice}"
            )
        history = []
        for number, line in enumerate(lines, start=1):
            try:
                metrics = json.loads(line)
                intact = metrics["epoch"] == number
            except (json.JSONDecodeError, TypeError, KeyError):
                intact = False
            if not intact:
                raise UserError(f"{self.metrics_path} is damaged in line {number}: {advice}")
            history.append(metrics)
        return history

    def write_model(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the arrays of the best classifier (see `tree_to_arrays`)."""
        write_arrays(self.model_path, arrays, metadata={"format": _MODEL_FORMAT})

    def save_model(self, classifier: Any) -> None:
        """Write a classifier's arrays, named by their paths such as `model.theta`."""
        self.write_model(tree_to_arrays(classifier))

    def load_model(self, template: Tree) -> Tree:
        """Return `template`, a classifier of the same configuration, with the saved arrays.

        Raises
        ------
        UserError
            When the file is missing, damaged, or does not fit the template.
        """
        arrays, _ = read_arrays(self.model_path, kind=_MODEL_FORMAT)
        return arrays_to_tree(template, arrays, source=self.model_path)

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint; one file, so a crash leaves the old one or the new one."""
        make_folder(self.checkpoint_path.parent)
        progress = {"epoch": checkpoint.epoch, "compile_seconds": checkpoint.compile_seconds}
        metadata = {"format": _CHECKPOINT_FORMAT, "progress": json.dumps(progress)}
        write_arrays(self.checkpoint_path, checkpoint.arrays, metadata=metadata)

    def read_checkpoint(self) -> Checkpoint:
        """Return the last checkpoint.

        Raises
        ------
        UserError
            When it is missing or damaged.
        """
        arrays, metadata = read_arrays(self.checkpoint_path, kind=_CHECKPOINT_FORMAT)
        try:
            progress = json.loads(metadata["progress"])
            return Checkpoint(arrays, int(progress["epoch"]), float(progress["compile_seconds"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.checkpoint_path} is damaged ({error!r}): restore it or train again"
            ) from error


def _metrics_line(metrics: Mapping[str, Any]) -> str:
    return json.dumps(finite_or_none(dict(metrics))) + "\n"
