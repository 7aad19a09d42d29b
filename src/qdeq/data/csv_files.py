"""Text tables: separator, encoding and rows are checked line by line, pandas reads the numbers.

pandas fills short rows up and shifts long ones; here every row that has more or fewer fields than
the header is a mistake that is named.
"""

import contextlib
import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from qdeq.data.frames import check_names, plain_names
from qdeq.data.inputs import shown
from qdeq.data.tables import first_line, require
from qdeq.errors import UserError

ENDINGS = (".csv", ".tsv", ".tab", ".txt", ".data")
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SAMPLE_BYTES = 1 << 20
_HEADER_LINES = 100
_NO_HEADER = re.compile(r"[\s,;|]*|sep=[,;\t|]\s*", re.IGNORECASE)


@dataclass(frozen=True)
class CsvFile:
    """A text table whose header has been read.

    Parameters
    ----------
    path
        Of the file; `.gz` is unpacked.
    separator
        Between fields: of comma, semicolon, tab and bar the one that the header has most of, or the
        next that divides the first rows as well.
    columns
        Names in the header.
    bytes_per_row
        Mean over the beginning, unpacked; None where no row was found there.
    n_bytes
        Of the file, unpacked as far as can be told.
    """

    path: Path
    separator: str
    columns: tuple[str, ...]
    bytes_per_row: float | None
    n_bytes: float

    @classmethod
    def open(cls, path: Path) -> "CsvFile":
        """Read the header.

        Raises
        ------
        UserError
            If the file cannot be read as text, is empty, has one column or two of one name.
        """
        with _reading(path):
            sample = _sample(path)
        text = _decoded(sample, path)
        if not text.strip():
            raise UserError(f"{path} is empty: give a table whose first line names its columns")
        separator = _separator(text, path)
        with _reading(path):
            header = _header_row(io.StringIO(text, newline=""), separator)
        columns = tuple(plain_names(header))
        if len(columns) == 1 and (other := _other_separator(text)):
            raise UserError(
                f"{path} has {other!r} between its fields: separate them by one of "
                f"{', '.join(_SEPARATORS.values())}"
            )
        check_names(columns, str(path))
        size = path.stat().st_size
        rest = text.rstrip("\0").partition("\n")[2]
        n_rows = rest.count("\n")
        packed = path.suffix == ".gz"
        # How far a gzip file unpacks is known at its end only; text shrinks to a quarter or so.
        n_bytes = size * 4.0 if packed else float(size)
        return cls(path, separator, columns, len(rest) / n_rows if n_rows else None, n_bytes)

    def check_rows(self) -> int:
        """Read every row once and return their number.

        Raises
        ------
        UserError
            Naming the first line with more or fewer fields than the header, or that is not text.
        """
        n_columns, n_rows = len(self.columns), -1  # the header is none
        with _reading(self.path), _text(self.path) as file:
            reader = csv.reader(file, delimiter=self.separator)
            for row in reader:
                if n_rows < 0 and _is_no_header(self.separator.join(row)):
                    continue
                if len(row) == n_columns:
                    n_rows += 1
                elif len(row) > 1 or (row and row[0].strip()):
                    first = shown(self.separator.join(self.columns))
                    more = len(row) > n_columns
                    what = f"; the header is the first line, here {first}" if more else ""
                    raise UserError(
                        f"{self.path}: line {reader.line_num} has {len(row)} fields and the header "
                        f"{n_columns} ({_SEPARATORS[self.separator]} between them): correct the "
                        f"line, or put texts that hold the separator in double quotes{what}"
                    )
        if n_rows < 1:
            raise UserError(f"{self.path} has a header and no rows: give at least one")
        return n_rows

    def frames(
        self,
        chunk: int | None,
        *,
        columns: Sequence[str] | None = None,
        texts: Sequence[str] = (),
    ) -> Iterator[Any]:
        """Pandas frames of at most `chunk` rows (None: one of all).

        Only an empty cell is missing: `NA` and the like stay texts, as in a frame.

        Parameters
        ----------
        chunk
            Rows of a frame.
        columns
            Which to read; None reads all.
        texts
            Columns that are texts even where they look like numbers.
        """
        pandas = require("pandas")
        with _reading(self.path), _text(self.path) as file:
            # Here, as pandas counts records where its rows to skip are meant as lines: a name with
            # a line break would take a row with it.
            _header_row(file, self.separator)
            options: dict[str, Any] = {
                "sep": self.separator,
                "header": None,
                "names": list(self.columns),
                "usecols": None if columns is None else list(columns),
                "index_col": False,
                "dtype": dict.fromkeys(texts, str),
                "keep_default_na": False,
                "na_values": [""],
                "low_memory": False,
            }
            if chunk is None:
                yield pandas.read_csv(file, **options)
                return
            with pandas.read_csv(file, chunksize=chunk, **options) as frames:
                yield from frames


def _header_row(file: IO[str], separator: str) -> list[str]:
    """Read up to the line that names the columns."""
    rows = csv.reader(file, delimiter=separator)
    return next(row for row in rows if not _is_no_header(separator.join(row)))


def _is_no_header(line: str) -> bool:
    """Whether a line is empty, or `sep=;`, which is advice for spreadsheets."""
    return _NO_HEADER.fullmatch(line) is not None


def _separator(text: str, path: Path) -> str:
    # Inside quotes a separator separates nothing.
    header = "".join(part for index, part in enumerate(_header(text).split('"')) if not index % 2)
    counts = {separator: header.count(separator) for separator in _SEPARATORS}
    found = sorted(filter(counts.get, counts), key=lambda separator: -counts[separator])
    # A header may hold more commas than separators: "length, mm;weight, g".
    best = next((s for s in found if _is_in_every_row(s, text)), [*found, ","][0])
    if not counts[best] and path.name.lower().removesuffix(".gz").endswith((".tsv", ".tab")):
        return "\t"
    return best


def _is_in_every_row(separator: str, text: str) -> bool:
    """Whether the first rows have all as many fields as the header."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    widths = (len(row) for row in rows if not _is_no_header(separator.join(row)))
    try:
        return len(set(itertools.islice(widths, _HEADER_LINES))) == 1
    except csv.Error:  # is named where rows are checked
        return False


def _other_separator(text: str) -> str:
    """A sign that every line has as many of as the first, and that separates nothing here."""
    lines = [line.strip() for line in text.splitlines() if line.strip()][:20]
    for sign in (":", "/", "^", "~", "#", "!", " "):
        if {line.count(sign) for line in lines} == {lines[0].count(sign)} and sign in lines[0]:
            return sign
    return ""


def _header(text: str) -> str:
    """The first line that is not blank, with those on which a quoted name in it goes on."""
    lines = itertools.islice(
        itertools.dropwhile(_is_no_header, io.StringIO(text, newline="")), _HEADER_LINES
    )
    first = header = next(lines)
    while header.count('"') % 2:
        line = next(lines, None)
        if line is None:  # a lone quotation mark
            return first
        header += line
    return header


def _encoding(first: bytes) -> str:
    """UTF-16 says so in its first bytes, as spreadsheets write it."""
    return "utf-16" if first[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _sample(path: Path) -> bytes:
    with _opened(path) as file:
        return file.read(_SAMPLE_BYTES)


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


@contextlib.contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    with _opened(path) as file:
        encoding = _encoding(file.read(2))
        file.seek(0)
        with io.TextIOWrapper(file, encoding=encoding, newline="") as text:
            yield text


def _decoded(sample: bytes, path: Path) -> str:
    for magic, kind, ending in (
        (b"PAR1", "a Parquet file", ".parquet"),
        (b"\x1f\x8b", "packed by gzip", ".csv.gz"),
        (b"PK\x03\x04", "a spreadsheet or zip archive", ""),
    ):
        if sample.startswith(magic):
            advice = f"name it {ending}" if ending else "save its table as CSV (UTF-8)"
            raise UserError(f"{path} is {kind} and no text table: {advice}")
    encoding = _encoding(sample)
    try:
        text = sample.decode(encoding)
    except UnicodeDecodeError as error:
        # The sample may end within a character.
        if error.start < len(sample) - 4 or len(sample) < _SAMPLE_BYTES:
            raise _not_utf8(path, sample, error) from error
        text = sample[: error.start].decode(encoding)
    if "\0" in text.partition("\n")[0]:
        raise UserError(f"{path} is no text table (it holds zero bytes): save the table as CSV")
    return text


def _not_utf8(path: Path, sample: bytes, error: UnicodeDecodeError) -> UserError:
    line = error.object[: error.start].count(b"\n") + 1
    place = f" in line {line}" if error.object == sample else ""
    return UserError(
        f"{path} is not UTF-8 text (byte 0x{error.object[error.start]:02x}{place}): save it as "
        f"UTF-8, or convert it (iconv -f latin1 -t utf-8 {path.name} > utf8-{path.name})"
    )


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors of reading as one line."""
    try:
        yield
    except UserError:
        raise
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} is damaged ({first_line(error)}): fetch the file again, or name it without "
            ".gz if it is not packed"
        ) from error
    except UnicodeDecodeError as error:
        raise _not_utf8(path, b"", error) from error
    except UnicodeError as error:
        raise UserError(f"{path} is no text ({first_line(error)}): save it as UTF-8") from error
    except csv.Error as error:
        raise UserError(
            f"{path} cannot be read as a table ({first_line(error)}): a quotation mark may be "
            "open, or the file is no text"
        ) from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or first_line(error)}): give a file that is "
            "there and that you may read"
        ) from error
    except ValueError as error:  # pandas' ParserError
        if place := re.search(r"EOF inside string starting at row (\d+)", str(error)):
            raise UserError(
                f"{path}: the quotation mark in row {int(place[1]) + 1} is never closed: close "
                "it, or double it where it is meant as a sign"
            ) from error
        raise UserError(
            f"{path} cannot be read as a table ({first_line(error)}): correct the file"
        ) from error
