"""The folder of a run, of one seed or many: which files it has, how they are written and read.

A run of many seeds has `seeds.json` with its configuration, the checkpoint of all seeds, and a
complete run folder `seed-K` per seed. Every file is replaced atomically except `metrics.jsonl`,
which grows by a line per epoch and is cut back to the checkpoint when a run is resumed. What the
files are for is decided in `run.py`.
"""

import contextlib
import dataclasses
import errno
import hashlib
import itertools
import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from qdeq._arrays import (
    arrays_to_tree,
    read_arrays,
    tree_to_arrays,
    write_arrays,
    write_atomically,
)
from qdeq.data import Dataset, ImageComponents, TablePreparation, Targets
from qdeq.errors import UserError
from qdeq.runs.seeds import check_seeds
from qdeq.runs.summary import Summary, finite_or_none
from qdeq.training.config import TrainConfig

Tree = TypeVar("Tree")
Metrics = dict[str, Any]

_MODEL_FORMAT = "qdeq-model-1"
_CHECKPOINT_FORMAT = "qdeq-checkpoint-1"
_PREDICTIONS_FORMAT = "qdeq-predictions-1"
_COMPONENTS_FORMAT = "qdeq-components-1"


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands after its last finished epoch.

    `arrays` is the training state by name, `epoch` the number of finished epochs and
    `compile_seconds` the time spent on compilation so far, earlier sessions included.
    """

    arrays: dict[str, np.ndarray]
    epoch: int
    compile_seconds: float


@dataclass(frozen=True)
class RunFolder:
    """Paths and files of a run; make one with `create`, `create_in_runs` or `open`."""

    path: Path

    @classmethod
    def create(cls, path: str | Path) -> "RunFolder":
        """Take a folder for a new run: an empty one, or one that does not exist.

        Of several processes that ask for the same folder at once, one gets it.

        Raises
        ------
        UserError
            When the folder exists and holds something, or cannot be made.
        """
        folder = cls(Path(path))
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            occupied = any(folder.path.iterdir())
            if not os.access(folder.path, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            if not occupied:
                # Making a folder fails where somebody else has just made it.
                folder.checkpoint_path.parent.mkdir()
        except FileExistsError:
            occupied = True
        except OSError as error:
            raise UserError(
                f"out={str(path)!r}: the run folder cannot be written ({error.strerror}); choose "
                "another one"
            ) from error
        if occupied:
            if not folder.path.is_dir():
                raise UserError(f"out={str(path)!r} is a file: give a new folder's name")
            # Also where another process has just taken it and has not written its configuration.
            raise UserError(
                f"out={str(path)!r}: the folder exists and is not empty; choose another one, or, "
                "if it is a run's, continue that with `qdeq train --resume "
                f"{shlex.quote(str(path))}`"
            )
        return folder

    @classmethod
    def create_in_runs(cls, config: TrainConfig) -> "RunFolder":
        """Take a new folder such as `runs/digits-4-implicit-20250131-235959`."""
        stem = f"{config.data_name}-{config.mode}-{time.strftime('%Y%m%d-%H%M%S')}"
        for number in itertools.count(1):  # runs within one second
            path = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
            if not path.exists():
                with contextlib.suppress(UserError):
                    return cls.create(path)
                if not path.exists():  # it is not that somebody else was faster
                    return cls.create(path)
        raise AssertionError("numbers end")

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Open the folder of an existing run.

        Raises
        ------
        UserError
            When there is no such folder, or neither `config.json` nor `seeds.json` in it.
        """
        folder = cls(Path(path))
        if not folder.path.is_dir():
            raise UserError(f"run={str(path)!r}: there is no such folder; give a run folder")
        if not folder.config_path.is_file() and not folder.has_many_seeds:
            raise UserError(
                f"run={str(path)!r}: the folder has no config.json, so it is not a run folder; "
                "give the folder that `qdeq train` wrote"
            )
        return folder

    def discard(self) -> None:
        """Remove what `create` made, where nothing was added to it."""
        with contextlib.suppress(OSError):
            self.checkpoint_path.parent.rmdir()
            self.path.rmdir()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from writing to the same run; a process that dies lets go.

        Raises
        ------
        UserError
            When another process trains this run.
        """
        try:
            import fcntl
        except ImportError:  # Windows: only the names of new folders are safe there
            yield
            return
        handle = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"run={str(self.path)!r}: another process is training it; wait for its end, or "
                    "stop it first"
                ) from error
            except OSError:  # some network file systems have no locks
                pass
            yield
        finally:
            os.close(handle)

    @property
    def has_many_seeds(self) -> bool:
        """Whether it is a run of many seeds."""
        return self.seeds_path.is_file()

    @property
    def seeds_path(self) -> Path:
        return self.path / "seeds.json"

    def of_seed(self, seed: int) -> "RunFolder":
        """The folder of one seed of a run of many."""
        return RunFolder(self.path / f"seed-{seed}")

    def seed_folders(self) -> "list[RunFolder]":
        """A folder per seed, in the order of the seeds; itself for a run of one."""
        if not self.has_many_seeds:
            return [self]
        return [self.of_seed(seed) for seed in self.read_seeds()]

    @property
    def config_path(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def model_path(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def checkpoint_path(self) -> Path:
        return self.path / "checkpoint" / "state.safetensors"

    @property
    def summary_path(self) -> Path:
        return self.path / "summary.json"

    @property
    def predictions_path(self) -> Path:
        return self.path / "predictions.safetensors"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def figures_path(self) -> Path:
        return self.path / "figures"

    @property
    def preparation_path(self) -> Path:
        return self.path / "preparation.json"

    @property
    def image_components_path(self) -> Path:
        return self.path / "components.safetensors"

    @property
    def data_path(self) -> Path:
        return self.path / "data.json"

    def write_data(self, dataset: Dataset, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep what predictions need to know of the data set, and which files it was read from."""
        targets = None if dataset.targets is None else dataclasses.asdict(dataset.targets)
        content = None
        if files or targets:  # a named data set has the same test samples in every run
            told = {"files": files, "targets": targets, "test_labels": _hash_of_labels(dataset)}
            content = (json.dumps(told, indent=2) + "\n").encode()
        for folder in {own.path: own for own in (self, *self.seed_folders())}.values():
            if dataset.preparation is not None:
                prepared = dataset.preparation.to_json()
                write_atomically(folder.preparation_path, prepared.encode())
            if dataset.image_components is not None:
                numbers = dataset.image_components.arrays()
                metadata = {"format": _COMPONENTS_FORMAT}
                write_arrays(folder.image_components_path, numbers, metadata=metadata)
            if content is not None:
                write_atomically(folder.data_path, content)

    def read_preparation(self) -> TablePreparation | None:
        """How a table's rows become features; None for a run that was trained on something else.

        Raises
        ------
        UserError
            When the file is damaged, or the run was trained on a table and it is not there.
        """
        if not self.preparation_path.is_file():
            config = self.read_config()
            if config.target is not None:  # columns as they are would be other features
                raise UserError(
                    f"{self.preparation_path} is not there, which makes features of the columns of "
                    f"{config.data}: restore it or train again"
                )
            return None
        source = str(self.preparation_path)
        return TablePreparation.from_json(_read_text(self.preparation_path), source=source)

    def read_image_components(self) -> ImageComponents | None:
        """The principal components that images become; None for a run on other features.

        Raises
        ------
        UserError
            When the file is damaged.
        """
        path = self.image_components_path
        if not path.is_file():
            return None
        arrays, _ = read_arrays(path, kind=_COMPONENTS_FORMAT)
        try:
            return ImageComponents.of_arrays(arrays)
        except KeyError as error:
            raise UserError(f"{path} lacks {error}: restore it or train again") from error

    def read_files(self) -> dict[str, dict[str, Any]]:
        """Path, size and hash of the files that the run was trained on; empty without any.

        Raises
        ------
        UserError
            When the file is damaged.
        """
        return self._read_data("files", dict[str, dict[str, Any]]) or {}

    def read_targets(self) -> Targets | None:
        """What a regression predicts, and the scale it was trained in; None of a classification.

        Raises
        ------
        UserError
            When the file is damaged.
        """
        return self._read_data("targets", Targets)

    def read_test_labels(self) -> str | None:
        """A hash of the labels of the test samples, in their order.

        None of a regression and of a run from before it was kept.

        Raises
        ------
        UserError
            When the file is damaged.
        """
        return self._read_data("test_labels", str, {"test_labels": None})

    def _read_data(self, name: str, kind: Any, younger: Mapping[str, Any] | None = None) -> Any:
        if not self.data_path.is_file():
            return None
        try:
            value = {**(younger or {}), **json.loads(_read_text(self.data_path))}[name]
            return None if value is None else msgspec.convert(value, kind)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.data_path} is damaged ({error}): restore it or train again"
            ) from error

    def write_config(self, config: TrainConfig, seeds: Sequence[int] | None = None) -> None:
        """Say what the run is.

        `seeds.json` is written last: what has it is complete.
        """
        if seeds is None:
            write_atomically(self.config_path, config.to_json().encode())
            return
        for seed in seeds:
            folder = self.of_seed(seed)
            self._make(folder.path)
            folder.write_config(config.replace(seed=seed))
        content = {"seeds": list(seeds), "config": json.loads(config.to_json())}
        write_atomically(self.seeds_path, (json.dumps(content, indent=2) + "\n").encode())

    def read_config(self) -> TrainConfig:
        """The configuration; of a run of many seeds, that which they have in common.

        Raises
        ------
        UserError
            When the file is damaged or of a newer version.
        """
        if self.has_many_seeds:
            config = json.dumps(self._read_seeds_file()["config"])
            return TrainConfig.from_json(config, source=str(self.seeds_path))
        return TrainConfig.from_json(_read_text(self.config_path), source=str(self.config_path))

    def read_seeds(self) -> list[int]:
        """The seeds of the run.

        Raises
        ------
        UserError
            When the file is damaged.
        """
        return (
            self._read_seeds_file()["seeds"] if self.has_many_seeds else [self.read_config().seed]
        )

    def _read_seeds_file(self) -> dict[str, Any]:
        try:
            content = json.loads(_read_text(self.seeds_path))
            return {"config": content["config"], "seeds": check_seeds(content["seeds"])}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.seeds_path} is damaged ({error}): restore it or train again"
            ) from error

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
        lines = _read_text(self.metrics_path).splitlines()[:epochs] if epochs else []
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

    def read_histories(self) -> list[list[Metrics]]:
        """The metrics of a finished run, per seed.

        Raises
        ------
        UserError
            When a summary or a history is missing or damaged.
        """
        return [f.read_metrics(epochs=f.read_summary().epochs) for f in self.seed_folders()]

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
        self._make(self.checkpoint_path.parent)
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

    def write_summary(self, summary: Summary) -> None:
        write_atomically(self.summary_path, (summary.to_json(indent=2) + "\n").encode())

    def read_summary(self) -> Summary:
        """Return the summary of a finished run; of many seeds, made of theirs.

        Raises
        ------
        UserError
            When the run is not finished or the file is damaged.
        """
        if not self.summary_path.exists():
            self.read_config()  # of another program's folder this says that it is none of ours
            raise UserError(
                f"run={str(self.path)!r}: the run is not finished (no summary.json); continue it "
                f"with `qdeq train --resume {shlex.quote(str(self.path))}`"
            )
        if self.has_many_seeds:
            return Summary.over([f.read_summary() for f in self.seed_folders()], run=str(self.path))
        return Summary.from_json(_read_text(self.summary_path), source=str(self.summary_path))

    def write_predictions(self, true: np.ndarray, predicted: np.ndarray) -> None:
        """Write what a regression says of its test samples, `(N, T)` each, for pictures."""
        arrays = {"true": np.asarray(true), "predicted": np.asarray(predicted)}
        write_arrays(self.predictions_path, arrays, metadata={"format": _PREDICTIONS_FORMAT})

    def read_predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """What `write_predictions` wrote, `(N, T)` each; of many seeds the first one's.

        Raises
        ------
        UserError
            When the file is missing or damaged.
        """
        path = self.seed_folders()[0].predictions_path
        arrays, _ = read_arrays(path, kind=_PREDICTIONS_FORMAT)
        return arrays["true"], arrays["predicted"]

    @property
    def report_data_path(self) -> Path:
        return self.path / "report.json"

    def write_report_data(self, data: Any) -> None:
        """Write what a report shows beside the summary, a `ReportData`."""
        content = json.dumps(finite_or_none(dataclasses.asdict(data)), separators=(",", ":"))
        write_atomically(self.report_data_path, (content + "\n").encode())

    def read_report_data(self, kind: type[Tree]) -> Tree:
        """What `write_report_data` wrote, as a `kind`; an empty one where there is no such file.

        Raises
        ------
        UserError
            When the file is damaged.
        """
        if not self.report_data_path.is_file():
            return kind()
        try:
            return msgspec.convert(json.loads(_read_text(self.report_data_path)), kind)
        except ValueError as error:
            raise UserError(
                f"{self.report_data_path} is damaged ({error}): remove it and run `qdeq report "
                f"{shlex.quote(str(self.path))}`"
            ) from error

    def write_report(self, page: str) -> None:
        write_atomically(self.report_path, page.encode())

    def write_figures(self, pictures: Mapping[str, bytes]) -> list[Path]:
        """Write PNG pictures as `figures/NAME.png` and return their paths."""
        self._make(self.figures_path)
        paths = [self.figures_path / f"{name}.png" for name in pictures]
        for path, content in zip(paths, pictures.values(), strict=True):
            write_atomically(path, content)
        return paths

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot make {folder} ({error.strerror}): choose another run folder"
            ) from error


def _hash_of_labels(dataset: Dataset) -> str | None:
    """What tells one test split from another, so that runs on them are not compared."""
    if dataset.targets is not None:
        return None  # numbers are kept in full, and compared up to their rounding
    labels = [dataset.classes[label] for label in np.asarray(dataset.test.y).tolist()]
    return hashlib.sha256(json.dumps(labels, default=str).encode()).hexdigest()


def _metrics_line(metrics: Mapping[str, Any]) -> str:
    return json.dumps(finite_or_none(dict(metrics))) + "\n"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}): restore it or train again"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged (not text): restore it or train again") from error
