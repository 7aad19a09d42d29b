"""What a run keeps of the data set that it was trained on, so that new rows are treated alike.

How a table's columns or images became features, which files it was read from, and what a regression
predicts. How the data set itself is found again is in `dataset.py`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from qdeq._arrays import read_arrays, write_arrays, write_atomically
from qdeq.data import Dataset, ImageComponents, TablePreparation, Targets
from qdeq.data.frames import listing
from qdeq.errors import UserError
from qdeq.names import OWN_DATA
from qdeq.runs.run_files import RunFiles, text_in

_COMPONENTS_FORMAT = "qdeq-components-1"


class DataFiles(RunFiles):
    """`data.json`, `preparation.json` and `components.safetensors`."""

    @property
    def data_path(self) -> Path:
        return self.path / "data.json"

    @property
    def preparation_path(self) -> Path:
        return self.path / "preparation.json"

    @property
    def image_components_path(self) -> Path:
        return self.path / "components.safetensors"

    def write_data(self, dataset: Dataset, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep what predictions need to know of the data set, and which files it was read from."""
        targets = None if dataset.targets is None else dataclasses.asdict(dataset.targets)
        content = None
        if files or targets or self.read_config().data == OWN_DATA:
            # A named data set has the same samples in every run.
            told = {"files": files, "targets": targets}
            told |= {f"{part}_labels": _hash_of_labels(dataset, part) for part in ("train", "test")}
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

    def check_same_data(self, dataset: Dataset) -> None:
        """Raise `UserError` where a data set is surely not the one that the run was trained on."""
        kept, given = self.read_targets(), dataset.targets
        if kept is not None and (given is None or not _is_same_scale(kept, given)):
            raise UserError(
                f"dataset={dataset.name!r}: it has {_scale_of(given)}, and the run was trained on "
                f"{_scale_of(kept)}: give the same data set"
            )
        for part in ("train", "test"):
            labels = self._read_labels(part)
            if labels is not None and labels != _hash_of_labels(dataset, part):
                raise UserError(
                    f"dataset={dataset.name!r}: the labels of its {part} samples are not those of "
                    "the run: give the data set that it was trained on"
                )

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
        return TablePreparation.from_json(text_in(self.preparation_path), source=source)

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
        return self._read_labels("test")

    def _read_labels(self, part: str) -> str | None:
        return self._read_data(f"{part}_labels", str, {f"{part}_labels": None})

    def _read_data(self, name: str, kind: Any, younger: Mapping[str, Any] | None = None) -> Any:
        if not self.data_path.is_file():
            return None
        try:
            value = {**(younger or {}), **json.loads(text_in(self.data_path))}[name]
            return None if value is None else msgspec.convert(value, kind)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.data_path} is damaged ({error}): restore it or train again"
            ) from error


def _hash_of_labels(dataset: Dataset, part: str) -> str | None:
    """What tells one split from another: runs on other samples are not compared or continued."""
    if dataset.targets is not None:
        return None  # numbers are kept in full, and compared up to their rounding
    positions = np.asarray(getattr(dataset, part).y)
    labels = np.array(dataset.classes, dtype=object)[positions].tolist()
    return hashlib.sha256(json.dumps(labels, default=str).encode()).hexdigest()


def _scale_of(targets: Targets | None) -> str:
    if targets is None:
        return "classes"
    scales = zip(targets.mean, targets.scale, strict=True)
    return f"targets of {listing([f'{mean:.6g} ± {scale:.6g}' for mean, scale in scales], 3)}"


def _is_same_scale(one: Targets, two: Targets) -> bool:
    """Whether two scales are equal up to float32."""
    if len(one.mean) != len(two.mean):
        return False
    scale = np.array(one.scale)
    apart = np.abs(np.subtract(one.mean, two.mean)) + np.abs(scale - two.scale)
    return bool((apart <= 1e-5 * scale).all())
