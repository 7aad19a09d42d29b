"""Files that hold a table: CSV, Parquet and arrays of NumPy, whole or in chunks of bounded memory.

What a path is (a table, arrays, a folder of images) is told by its ending. What the columns mean is
decided in `read`.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from qdeq._memory import available_memory
from qdeq.data import csv_files
from qdeq.data.csv_files import CsvFile
from qdeq.data.frames import as_frame, check_names, plain_names
from qdeq.data.image_folders import files_read
from qdeq.data.tables import first_line, require
from qdeq.errors import UserError

ENDINGS = (*csv_files.ENDINGS, ".parquet", ".pq", ".npz")
# Bytes in memory for a cell: in the frame, as float64 while it is prepared, as a feature in its
# split and in the splits together.
_BYTES_PER_CELL = 40


class TableFile(Protocol):
    """A file whose header has been read."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its columns."""
        ...

    def check_rows(self) -> int:
        """The number of rows, or `UserError` for the first that is not as the others."""
        ...

    def frames(
        self, chunk: int | None, *, columns: Sequence[str] | None = None, texts: Sequence[str] = ()
    ) -> Iterator[Any]:
        """Pandas frames of at most `chunk` rows."""
        ...


def open_table(path: str | Path) -> TableFile:
    """Open a file by its ending.

    Raises
    ------
    UserError
        If there is no such file, it cannot be read, or its ending is not known.
    """
    path = existing(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: give a file ({', '.join(ENDINGS)})")
    ending = ending_of(path)
    if ending in csv_files.ENDINGS:
        return CsvFile.open(path)
    if ending in (".parquet", ".pq"):
        return ParquetFile.open(path)
    if ending == ".npz":
        return ArraysFile.open(path)
    if ending in (".xlsx", ".xls", ".ods"):
        raise UserError(f"{path} is a spreadsheet: save its table as CSV (UTF-8)")
    raise UserError(
        f"{path} ends in {ending or 'nothing'}, which is no known table: known are "
        f"{', '.join(ENDINGS)}, the text ones also with .gz"
    )


def existing(path: str | Path) -> Path:
    """The path, with `~` replaced, of something that is there.

    Raises
    ------
    UserError
        If it is not, with the names beside it that are like it.
    """
    from difflib import get_close_matches

    found = Path(os.path.expanduser(path))
    try:
        if found.exists():
            return found
        beside = [entry.name for entry in found.parent.iterdir()]
    except (OSError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise UserError(f"{path} cannot be read ({error.strerror}): ask for permission") from (
                error
            )
        beside = []
    near = get_close_matches(found.name, beside, n=1, cutoff=0.6)
    guess = f"; did you mean {found.parent / near[0]}?" if near else ""
    raise UserError(f"there is no file or folder {path}{guess or ': check the path'}")


def ending_of(path: Path) -> str:
    """The ending in lower case, that before `.gz` where a text table is packed.

    >>> ending_of(Path("a.CSV.gz"))
    '.csv'
    """
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def stem_of(path: str | Path) -> str:
    """The name of a file or folder without its endings.

    >>> stem_of("data/wine.csv.gz")
    'wine'
    """
    path = Path(path)
    name = path.name
    for ending in (".gz", *ENDINGS):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name or path.resolve().name or "data"


def read_whole(path: str | Path, *, texts: Sequence[str] = ()) -> Any:
    """All of a table as one pandas frame, after an estimate of its memory.

    Raises
    ------
    UserError
        If the file cannot be read, or does not fit in memory.
    """
    file = open_table(path)
    if isinstance(file, CsvFile):
        check_size(file.path, _rows_of(file), len(file.columns), file.n_bytes)
    elif isinstance(file, ParquetFile):
        check_size(file.path, file.n_rows, len(file.columns))
    n_rows = file.check_rows()
    (frame,) = file.frames(None, texts=texts)
    check_all_read(path, len(frame), n_rows)
    return frame


def may_have_decimal_commas(path: str | Path) -> bool:
    """Whether it is a text table whose fields no comma separates."""
    file = open_table(path)
    return isinstance(file, CsvFile) and file.separator != ","


def check_all_read(path: str | Path, n_read: int, n_rows: int) -> None:
    """Raise `UserError` where a reader found other rows than `check_rows` counted.

    Rows that are lost, or split in two, would shift all that follow.
    """
    if n_read != n_rows:
        raise UserError(
            f"{path}: {n_read:,} of {n_rows:,} rows could be read: look for blank or quoted lines "
            "in it, or save the table as Parquet"
        )


def _rows_of(file: CsvFile) -> int | None:
    return None if file.bytes_per_row is None else int(file.n_bytes / file.bytes_per_row)


def check_size(path: Path, n_rows: int | None, n_columns: int, n_bytes: float = 0) -> None:
    """Raise `UserError` if a table of this size would not fit in memory, before it is read."""
    needed = n_bytes * 2 if n_rows is None else n_rows * n_columns * _BYTES_PER_CELL
    limit = 0.7 * available_memory()
    if needed <= limit:
        return
    fits = int(limit / needed * n_rows) if n_rows else None
    rows = f"about {n_rows:,} rows of " if n_rows else ""
    advice = f"about {fits:,} rows fit, so give a sample of them" if fits else "give a part of it"
    raise UserError(
        f"{path} holds {rows}{n_columns} columns, which need about {needed / 1e9:.1f} GB of memory "
        f"where {limit / 1e9:.1f} GB are free for them: {advice}"
    )


def fingerprint(path: str | Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file, or of the images of a folder and their names.

    Of the images that are read: systems write files of their own into a folder that is looked at.
    """
    path = existing(path)
    digest, size = hashlib.sha256(), 0
    try:
        files = [path] if path.is_file() else files_read(path)
        for file in files:
            size += file.stat().st_size
            if file != path:
                digest.update(str(file.relative_to(path)).encode())
            with file.open("rb") as content:
                own = hashlib.file_digest(content, "sha256").digest()
            digest.update(own)
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}): give a file that you may read"
        ) from error
    return {"path": str(path.resolve()), "size": size, "sha256": digest.hexdigest()}


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file whose schema has been read.

    Parameters
    ----------
    path
        Of the file.
    columns
        Plain names.
    n_rows
        Number of rows.
    names
        Of the same columns as the file has them.
    """

    path: Path
    columns: tuple[str, ...]
    n_rows: int
    names: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> "ParquetFile":
        parquet = require("pyarrow.parquet")
        try:
            with parquet.ParquetFile(path) as file:
                names = tuple(file.schema_arrow.names)
                n_rows = file.metadata.num_rows
        except Exception as error:
            raise _no_parquet(path, error) from error
        columns = tuple(plain_names(names))
        check_names(columns, str(path))
        return cls(path, columns, n_rows, names)

    def check_rows(self) -> int:
        if not self.n_rows:
            raise UserError(f"{self.path} has no rows: give at least one")
        return self.n_rows

    def frames(
        self, chunk: int | None, *, columns: Sequence[str] | None = None, texts: Sequence[str] = ()
    ) -> Iterator[Any]:
        parquet = require("pyarrow.parquet")
        if columns is not None:
            of_plain = dict(zip(self.columns, self.names, strict=True))
            columns = [of_plain[column] for column in columns]
        try:
            with parquet.ParquetFile(self.path) as file:
                if chunk is None:
                    yield as_frame(file.read(columns=columns), str(self.path))
                    return
                for batch in file.iter_batches(batch_size=chunk, columns=columns):
                    yield as_frame(batch, str(self.path))
        except UserError:
            raise
        except (OSError, ValueError, require("pyarrow").ArrowException) as error:
            raise _no_parquet(self.path, error) from error


def _no_parquet(path: Path, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.strerror:
        return UserError(f"{path} cannot be read ({error.strerror}): give a file that you may read")
    return UserError(
        f"{path} is no intact Parquet file ({first_line(error)[:120]}): write it again, or name it "
        "by what it is, such as .csv"
    )


@dataclass(frozen=True, eq=False)
class ArraysFile:
    """Features and targets in a `.npz` file as columns `x0, x1, ...` and `y` (or `y0, y1, ...`)."""

    path: Path
    arrays: dict[str, np.ndarray]
    columns: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, part: str = "") -> "ArraysFile":
        """Read ``x`` (and ``y``, where it is there); `part` is `"_test"` for ``x_test``."""
        arrays = read_arrays_file(path)
        x, y = f"x{part}", f"y{part}"
        if x not in arrays:
            raise UserError(f"{path} has no array {x}: it has {', '.join(arrays) or 'none'}")
        if arrays[x].ndim != 2:
            raise UserError(
                f"{path}: the array {x} has the shape {arrays[x].shape}: a table has rows and "
                "columns, (N, d)"
            )
        if arrays[x].dtype.kind not in "biufUc":
            raise UserError(
                f"{path}: the array {x} has the type {arrays[x].dtype}: give numbers, one for each "
                "row and column"
            )
        chosen = {"x": arrays[x]} | ({"y": arrays[y]} if y in arrays else {})
        columns = [f"x{k}" for k in range(arrays[x].shape[1])]
        columns += target_columns(chosen["y"]) if "y" in chosen else []
        return cls(path, chosen, tuple(columns))

    def check_rows(self) -> int:
        lengths = {name: len(array) for name, array in self.arrays.items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"{self.path}: x has {lengths['x']} rows and y {lengths['y']}")
        if not lengths["x"]:
            raise UserError(f"{self.path} has no rows: give at least one")
        return lengths["x"]

    def frames(
        self, chunk: int | None, *, columns: Sequence[str] | None = None, texts: Sequence[str] = ()
    ) -> Iterator[Any]:
        pandas = require("pandas")
        n_rows = self.check_rows()
        y = self.arrays.get("y")
        for start in range(0, n_rows, chunk or n_rows):
            rows = slice(start, start + (chunk or n_rows))
            x = self.arrays["x"][rows]
            frame = pandas.DataFrame(x, columns=[f"x{k}" for k in range(x.shape[1])])
            if y is not None:
                own = y[rows].reshape(len(x), -1)
                for k, name in enumerate(target_columns(y)):
                    frame[name] = own[:, k]
            yield frame if columns is None else frame[list(columns)]


def target_columns(y: np.ndarray) -> list[str]:
    """Names of the columns that an array ``(N,)`` or ``(N, T)`` becomes."""
    return ["y"] if y.ndim == 1 or y.shape[1] == 1 else [f"y{k}" for k in range(y.shape[1])]


def read_arrays_file(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file.

    Raises
    ------
    UserError
        If it is damaged, holds Python objects, does not fit in memory, or targets of another shape
        than ``(N,)`` or ``(N, T)``.
    """
    import zipfile

    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        limit = 0.3 * available_memory()
        if size > limit:
            raise UserError(
                f"{path} holds {size / 1e9:.1f} GB of arrays where {limit / 1e9:.1f} GB fit: give "
                "a part of it"
            )
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: _plain_array(array) for name, array in archive.items()}
    except UserError:
        raise
    # Damage shows wherever the reader stumbles: zlib.error, EOFError, NotImplementedError, ...
    except Exception as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(
            f"{path} cannot be read as a .npz file ({reason[:120]}): write it by "
            "np.savez(FILE, x=..., y=...), numbers and texts only"
        ) from error
    for name in ("y", "y_test"):
        if name in arrays and (arrays[name].ndim not in (1, 2) or arrays[name].shape[1:] == (0,)):
            raise UserError(
                f"{path}: the array {name} has the shape {arrays[name].shape}: give one label or "
                "number for each row, (N,), or several numbers, (N, T)"
            )
    return arrays


def _plain_array(array: np.ndarray) -> np.ndarray:
    """In this machine's byte order, which pandas needs; bytes as texts, which JSON needs."""
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
