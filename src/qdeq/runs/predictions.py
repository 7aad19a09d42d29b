"""Predictions for the rows of a file or the images of a folder, in parts of bounded memory."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from qdeq.data import TablePreparation
from qdeq.data.frames import check_columns, listing, names_given, text_of, uniques_of
from qdeq.data.image_files import find_images
from qdeq.data.table_files import ENDINGS, check_all_read, ending_of, open_table
from qdeq.data.tables import require
from qdeq.errors import UserError, check_path
from qdeq.models import Prediction
from qdeq.runs.scored import Scored
from qdeq.runs.trained import Run
from qdeq.runs.unseen import UnseenValues
from qdeq.training.predict import probabilities

# Rows at once: a few MB, and whole programs of `qdeq.training.predict`.
_ROWS = 16_384
_OUT = (".csv", ".tsv", ".parquet", ".pq")


@dataclass(frozen=True)
class FilePredictions:
    """What `predict_file` has done.

    Attributes
    ----------
    path
        Of the predictions.
    n_rows
        Their number.
    converged_fraction
        Part of the rows whose solve met the tolerance.
    notes
        What was ignored, which texts training did not have, and the score, a line each.
    score
        Accuracy, or R² of a regression, over the rows of a table that hold what is predicted; None
        where there are none.
    """

    path: Path
    n_rows: int
    converged_fraction: float
    notes: tuple[str, ...] = ()
    score: float | None = None


def predict_file(
    run: Run,
    file: str | Path,
    out: str | Path,
    *,
    keep: str | Sequence[str] = (),
    on_rows: Callable[[int, int], Any] | None = None,
) -> FilePredictions:
    """Predict every row of a table, or every image, and write a row for each, in the same order.

    Columns of a classification: ``label``, ``probability_CLASS`` for every class; of a regression
    ``predicted_TARGET`` in the target's own units. Then ``converged``, ``residual`` and ``steps``
    of the solve. Before them ``file``, the names of images in files, and the columns to keep.

    Parameters
    ----------
    run
        Trained on a table, or on images.
    file
        A table with the columns that the model reads; others are ignored. Of images a folder, one
        file, or a ``.npz`` with ``x``.
    out
        ``.csv``, ``.tsv`` (also ``.gz``) or ``.parquet``; a file that exists is replaced, in one
        step at the end.
    keep
        Columns of the table that are written too, as texts: those that name its rows. One name, or
        several with commas or as a list.
    on_rows
        Called with the number of rows done and the number of all.

    Raises
    ------
    UserError
        If a file cannot be read or written, a column is missing, or a number is none.
    """
    out = _writable(Path(out), Path(file))
    source = _rows_of(run, file, keep)
    done, converged = 0, 0
    with _writer(out) as write:
        for part in source.parts:
            predictions = run.predictions(part.x, prepared=True)
            answers = run.answers(predictions)
            found = _columns(run, predictions, answers)
            both = sorted(part.names.keys() & found.keys())
            if both:
                raise UserError(
                    f"keep={both[0]!r}: the predictions have a column of this name, so rename that "
                    "of the table"
                )
            if source.scored is not None:
                source.scored.add(part.frame, answers, str(file))
            write({**part.names, **found})
            done += len(part.x)
            converged += int(found["converged"].sum())
            if on_rows is not None:
                on_rows(done, source.n_rows)
        check_all_read(file, done, source.n_rows)  # before the predictions get their name
    notes = source.notes if source.unseen is None else (*source.notes, *source.unseen.notes())
    score = None
    if source.scored is not None:
        notes, score = (*notes, *source.scored.notes()), source.scored.score
    return FilePredictions(out, done, converged / done, notes, score)


@dataclass(frozen=True)
class _Part:
    """Some rows: their features, columns that name them, and what the table says of them."""

    x: np.ndarray
    names: dict[str, np.ndarray]
    frame: Any = None


@dataclass(frozen=True)
class _Rows:
    """What is predicted, part by part."""

    n_rows: int
    parts: Iterator[_Part]
    notes: tuple[str, ...] = ()
    unseen: UnseenValues | None = None
    scored: Scored | None = None


def _rows_of(run: Run, file: str | Path, keep: str | Sequence[str]) -> _Rows:
    """The rows of a file as the features that the run was trained on."""
    if run.preparation is not None:
        return _rows_of_table(run, run.preparation, file, keep)
    if keep:
        raise UserError(f"keep={keep!r}: the run was not trained on a table, so leave it out")
    if run.takes_images:
        return _rows_of_images(run, file)
    if run.config.features == "pca":
        raise UserError(
            f"{run.folder.image_components_path} is not there, which makes components of images "
            "(qdeq 0.1 did not write it before November 2026): restore it or train again"
        )
    raise UserError(
        f"run={str(run.path)!r} was trained on features, which no file has columns for: "
        "in Python, qdeq.load(RUN).predict takes features"
    )


def _rows_of_table(
    run: Run, preparation: TablePreparation, file: str | Path, wanted: str | Sequence[str]
) -> _Rows:
    table = open_table(file)
    read = preparation.column_names
    check_columns(read, table.columns, str(file), "which the model reads")
    keep = names_given(wanted, table.columns)
    check_columns(keep, table.columns, str(file), "to keep")
    n_rows = table.check_rows()
    targets = preparation.targets if set(preparation.targets) <= set(table.columns) else ()
    known = {*read, *preparation.targets, *keep}
    ignored = [column for column in table.columns if column not in known]
    notes = (f"ignored: {listing(ignored)}, which the model does not read",) if ignored else ()
    columns = list(dict.fromkeys([*read, *targets, *keep]))
    texts = [*preparation.text_columns, *keep]  # a kept code such as 007 stays as it stands
    frames = table.frames(_ROWS, columns=columns, texts=texts)
    unseen = UnseenValues(preparation)

    def parts() -> Iterator[_Part]:
        done = 0
        for frame in frames:
            x = preparation.transform(frame, name=str(file), first_row=done + 1)
            unseen.add(preparation.unseen(frame))
            done += len(x)
            yield _Part(x, {name: _as_written(frame[name], name) for name in keep}, frame)

    return _Rows(n_rows, parts(), notes, unseen, Scored(run, targets) if targets else None)


def _as_written(series: Any, name: str) -> np.ndarray:
    """The cells of a column as texts, empty where one is missing; texts stay as they stand."""
    codes, values = uniques_of(series, f"column {name!r}")
    texts = [value if isinstance(value, str) else text_of(value) for value in values]
    return np.array([*texts, ""], dtype=str)[codes]


def _rows_of_images(run: Run, file: str | Path) -> _Rows:
    images = find_images(file)

    def parts() -> Iterator[_Part]:
        for rows, x in run.parts_of_images(images):
            yield _Part(x, {} if images.names is None else {"file": np.array(images.names[rows])})

    return _Rows(images.n_rows, parts())


def _columns(run: Run, predictions: Prediction, answers: np.ndarray) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    if run.targets is None:
        found["label"] = answers
        # As exact as the scores that they come from, and as short to write.
        chances = probabilities(predictions.outputs).astype(np.float32)
        for label, column in zip(run.summary.classes, chances.T, strict=True):
            found[f"probability_{label}"] = column
    else:
        columns = answers.reshape(len(answers), -1).T
        for name, column in zip(run.targets.names, columns, strict=True):
            found[f"predicted_{name}"] = column
    stats = predictions.solution.stats
    found["converged"] = np.asarray(stats.converged)
    found["residual"] = np.asarray(stats.residual)
    found["steps"] = np.asarray(stats.steps)
    return found


def _writable(out: Path, file: Path) -> Path:
    check_path("out", out)
    ending = ending_of(out)
    if ending not in _OUT or (out.suffix == ".gz" and ending not in ENDINGS[:2]):
        raise UserError(f"out={str(out)!r}: name a file that ends in {', '.join(_OUT)} or .csv.gz")
    if out.exists() and file.exists() and out.samefile(file):
        raise UserError(f"out={str(out)!r} is the file that is read: choose another name")
    if out.is_dir() or not out.parent.is_dir():
        what = "is a folder" if out.is_dir() else f"lies in no folder ({out.parent} is none)"
        raise UserError(f"out={str(out)!r} {what}: name a file in a folder that exists")
    return out


@contextlib.contextmanager
def _writer(out: Path) -> Iterator[Callable[[dict[str, np.ndarray]], None]]:
    """What adds rows to a file, which is there when everything has gone well."""
    try:
        with tempfile.TemporaryDirectory(
            dir=out.parent, prefix=".qdeq-", ignore_cleanup_errors=True
        ) as scratch:
            fresh = Path(scratch) / out.name
            kind = _parquet if ending_of(out) in (".parquet", ".pq") else _text
            with kind(fresh) as write:
                yield write
            fresh.replace(out)
    except OSError as error:
        raise UserError(
            f"out={str(out)!r} cannot be written ({error.strerror}): free some space, or choose "
            "another folder"
        ) from error


@contextlib.contextmanager
def _text(path: Path) -> Iterator[Callable[[dict[str, np.ndarray]], None]]:
    import gzip

    pandas = require("pandas")
    separator = "\t" if ending_of(path) == ".tsv" else ","

    def rows(file: IO[str], columns: dict[str, np.ndarray], header: bool) -> None:
        frame = pandas.DataFrame(columns)
        frame.to_csv(file, index=False, header=header, sep=separator, lineterminator="\n")

    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        written = 0

        def write(columns: dict[str, np.ndarray]) -> None:
            nonlocal written
            rows(file, columns, header=not written)
            written += 1

        yield write


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[Callable[[dict[str, np.ndarray]], None]]:
    arrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    with contextlib.ExitStack() as stack:
        writer: Any = None

        def write(columns: dict[str, np.ndarray]) -> None:
            nonlocal writer
            table = arrow.table({name: arrow.array(column) for name, column in columns.items()})
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(path, table.schema))
            writer.write_table(table)

        yield write
