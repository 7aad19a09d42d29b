"""Where images come from: scikit-learn's digits, a folder of Parquet files, the Hugging Face hub.

Each source gives images and labels as they were published, and a fingerprint that changes when
they do. How a file is decoded is `tables`, what is made of the images is `images`. The libraries
that read files are imported inside the functions: they belong to the extra ``data``.
"""

import importlib.metadata
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from qdeq.data.images import check_finite, check_not_blank
from qdeq.data.tables import ImageCollection, RawImages, first_line, raw_images, require
from qdeq.errors import UserError


class Source(Protocol):
    """Somewhere to read a collection from."""

    def fingerprint(self) -> dict[str, object]:
        """Return what identifies the bytes, as JSON can write it, without reading them."""
        ...

    def check(self) -> None:
        """Raise `UserError` if files that are there cannot be opened, without reading images."""
        ...

    def read(self) -> Mapping[str, RawImages]:
        """Return the official splits: ``train`` and ``test``, or ``all`` if there are none."""
        ...


def open_source(collection: ImageCollection, data_dir: str | Path | None) -> Source:
    """Choose where to read `collection` from, and check that it is there.

    Parameters
    ----------
    collection
        What to read.
    data_dir
        Folder that holds the collection's folder, or that folder itself; None for the hub. The
        built-in digits need neither.

    Returns
    -------
    Source

    Raises
    ------
    UserError
        If the folder, its Parquet files or one of the splits is missing.
    """
    if collection.hub is None:
        return Digits(collection)
    if data_dir is None:
        return Hub(collection)
    try:
        # `Path.expanduser` raises where there is no such home folder, this leaves the text.
        folder = Path(os.path.expanduser(data_dir))
        return Folder(collection, _parquet_files(collection, folder))
    except (OSError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"data_dir={str(data_dir)!r} cannot be read ({first_line(error)}): give a folder"
        ) from error


@dataclass(frozen=True)
class Digits:
    """The 1797 digits of 8 x 8 pixels (0 to 16) that come with scikit-learn."""

    collection: ImageCollection

    def fingerprint(self) -> dict[str, object]:
        return {"scikit-learn": importlib.metadata.version("scikit-learn")}

    def check(self) -> None:
        return None

    def read(self) -> Mapping[str, RawImages]:
        # Imported here: scikit-learn takes about a second, and cached features need none of it.
        from sklearn.datasets import load_digits

        digits: Any = load_digits()
        return {"all": RawImages(digits.images, digits.target)}


@dataclass(frozen=True)
class Folder:
    """Parquet files on disk, laid out as on the hub; ``files`` lists the shards of each split."""

    collection: ImageCollection
    files: dict[str, list[Path]]

    def fingerprint(self) -> dict[str, object]:
        try:
            shards = [(path.resolve(), path.stat()) for p in self.files.values() for path in p]
        except (OSError, RuntimeError) as error:  # a link to nothing, or in a circle
            raise UserError(
                f"{error.filename if isinstance(error, OSError) else first_line(error)} cannot be "
                "read: fetch the file again"
            ) from error
        return {"files": [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in shards]}

    def check(self) -> None:
        parquet = require("pyarrow.parquet")
        for path in (path for part in self.files.values() for path in part):
            _opened(parquet.read_schema, path)

    def read(self) -> Mapping[str, RawImages]:
        return {split: self._read_split(split) for split in self.files}

    def _read_split(self, split: str) -> RawImages:
        arrow = require("pyarrow")
        parquet = require("pyarrow.parquet")
        where = str(self.files[split][0].parent)
        tables = [_opened(parquet.read_table, path) for path in self.files[split]]
        try:
            table = arrow.concat_tables(tables)
        except arrow.ArrowException as error:
            raise UserError(
                f"{where}: the {split} files do not have the same columns: fetch them again"
            ) from error
        return raw_images(table, self.collection, f"{where} ({split})")


@dataclass(frozen=True)
class Hub:
    """The Hugging Face hub, through the library ``datasets`` and its own cache of downloads."""

    collection: ImageCollection

    def fingerprint(self) -> dict[str, object]:
        # By name alone: these collections have not changed since they were published, and asking
        # the hub for a revision would need the network on every start.
        return {"hub": self.collection.hub}

    def check(self) -> None:
        return None

    def read(self) -> Mapping[str, RawImages]:
        return {split: self._read_split(split) for split in ("train", "test")}

    def _read_split(self, split: str) -> RawImages:
        datasets = require("datasets")
        name = self.collection.hub
        try:
            data = datasets.load_dataset(name, split=split)
        # The library passes on whatever its HTTP, file and Parquet layers raise.
        except Exception as error:
            raise UserError(
                f"{name} could not be fetched from the Hugging Face hub "
                f"({type(error).__name__}: {first_line(error)}): check the network, or give "
                f"data_dir, a folder that holds {self.collection.name}/train-*.parquet and "
                f"{self.collection.name}/test-*.parquet"
            ) from error
        table = data.with_format("arrow")[:]
        return raw_images(table, self.collection, f"{name} ({split})")


def _opened(read: Callable[[Path], Any], path: Path) -> Any:
    try:
        return read(path)
    # A damaged file raises what its damage leads to: a missing codec, invalid text.
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as Parquet ({first_line(error)}): fetch the file again"
        ) from error


def _parquet_files(collection: ImageCollection, data_dir: Path) -> dict[str, list[Path]]:
    expected = (
        f"{collection.name}/train-*.parquet and {collection.name}/test-*.parquet, "
        "laid out as on the Hugging Face hub"
    )
    if not data_dir.is_dir():
        problem = "is not a folder" if data_dir.exists() else "does not exist"
        raise UserError(
            f"data_dir={str(data_dir)!r} {problem}: give a folder that holds {expected}"
        )
    own = data_dir / collection.name
    # data_dir itself comes last: a folder that holds many collections is searched by name only.
    for folder in (
        own,
        own / collection.hub_folder,
        own / "data",
        data_dir / collection.hub_folder,
        data_dir / "data",
        data_dir,
    ):
        if any(folder.glob("*.parquet")):
            break
    else:
        raise UserError(
            f"data_dir={str(data_dir)!r} holds no Parquet files of {collection.name}: "
            f"expected {expected}"
        )
    files = {}
    for split in ("train", "test"):
        files[split] = sorted(
            [*folder.glob(f"{split}-*.parquet"), *folder.glob(f"{split}.parquet")]
        )
        if not files[split]:
            raise UserError(
                f"{folder} has no {split} split: expected {split}-*.parquet beside the "
                f"Parquet files that are there"
            )
    return files


def check_images(raw: RawImages, name: str) -> None:
    """Raise `UserError` if an image is not finite or blank.

    Parameters
    ----------
    raw
        The images.
    name
        What they are called in the message.

    Raises
    ------
    UserError
        With the number of such images and the index of the first.
    """
    check_finite(raw.images, name)
    check_not_blank(raw.images, name)
