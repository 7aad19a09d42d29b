"""A grid of configurations, each with many seeds, one task per configuration; the table of results.

The tasks run through Ray on one machine or many, or in this process one by one. Every one of them
is a run of many seeds in a folder of its own, which is what makes a sweep resumable.
"""

import csv
import io
import itertools
import json
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qdeq._arrays import write_atomically
from qdeq._locks import held
from qdeq.errors import UserError, check_choice
from qdeq.names import IN_WORDS, SCORES
from qdeq.runs.tracking import Track
from qdeq.training.checked import hints_of, plain_type
from qdeq.training.config import TrainConfig

_SHOWN = ("residual_max", "converged_fraction")
_WHAT_IS_TESTED = ("data", "target", "task", "test", "group", "weight")
_NO_AXES = ("seed", "data_dir", *_WHAT_IS_TESTED)


@dataclass(frozen=True)
class Task:
    """One configuration of a sweep: what differs from the base, and where its runs go."""

    changes: dict[str, Any]
    base: TrainConfig
    seeds: tuple[int, ...]
    folder: Path
    track: Track = None

    @property
    def summary_path(self) -> Path:
        return self.folder / "summary.json"


@dataclass(frozen=True)
class Result:
    """What became of a task: its `summary.json`, or the reason why its numbers do not count."""

    task: Task
    summary: dict[str, Any] | None = None
    failure: str | None = None

    @classmethod
    def of(cls, task: Task) -> "Result | None":
        """Of a task that is finished; failed where a seed ended without a trained model."""
        summary = _read(task.summary_path)
        if summary is None:
            return None
        untrained = summary["stopped"] and 0 in summary["by_seed"]["best_epoch"]
        return cls(task, summary, summary["stopped"] if untrained else None)

    def mean(self, name: str) -> float:
        """A statistic's mean over seeds; NaN for a failed configuration."""
        return self._statistic(name, "mean")

    def deviation(self, name: str) -> float:
        """A statistic's sample standard deviation over seeds; NaN for one seed."""
        return self._statistic(name, "std")

    def _statistic(self, name: str, part: str) -> float:
        if self.summary is None or self.failure is not None:
            return math.nan
        value = self.summary["statistics"][name][part]
        return math.nan if value is None else value


Runner = Callable[[Sequence[Task]], Iterable[Result]]


def parse_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read the axes of a grid as the command line has them.

    Raises
    ------
    UserError
        For a name that is no option of training, a value of the wrong type, or an axis twice.

    Examples
    --------
    >>> parse_grid(["learning-rate=0.001,0.005", "solver=broyden,newton"])
    {'learning_rate': [0.001, 0.005], 'solver': ['broyden', 'newton']}
    """
    hints = hints_of(TrainConfig)
    axes: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not equals or not values:
            raise UserError(f"grid={text}: give NAME=VALUE,VALUE such as learning-rate=0.001,0.005")
        if name in ("seed", "data_dir"):
            raise UserError(f"grid={text}: {name} cannot be an axis; use --seeds or --data-dir")
        if name in _WHAT_IS_TESTED:
            raise UserError(
                f"grid={text}: with another {name} the scores are of other samples, values or "
                "weights, and cannot be compared; start a sweep for each"
            )
        check_choice("grid", name, [n for n in hints if n not in _NO_AXES])
        if name in axes:
            raise UserError(f"grid={text}: {name} is there twice; give all its values at once")
        axes[name] = [_value(name, value.strip(), hints[name]) for value in values.split(",")]
        if len(set(axes[name])) < len(axes[name]):  # two tasks in one folder
            raise UserError(f"grid={text}: a value is there twice; give each once")
    if not axes:
        raise UserError("grid=(): give at least one axis such as --grid learning-rate=0.001,0.005")
    return axes


def plan(
    base: TrainConfig,
    axes: Mapping[str, Sequence[Any]],
    seeds: Sequence[int],
    out: Path,
    *,
    track: Track = None,
) -> list[Task]:
    """Every combination of the axes' values, each with a folder named after it.

    `track` says where else each of their runs is followed, by names where tasks go through Ray.
    """
    tasks = []
    for values in itertools.product(*axes.values()):
        changes = dict(zip(axes, values, strict=True))
        name = ",".join(f"{key}={value}" for key, value in changes.items())
        folder = out / re.sub(r"[^\w.,=+-]", "_", name)
        tasks.append(Task(changes, base, tuple(seeds), folder, track))
    return tasks


def run_sweep(
    tasks: Sequence[Task],
    out: Path,
    *,
    runner: Runner,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Run what is not finished, and write the table after every result.

    Parameters
    ----------
    tasks
        What `plan` returned.
    out
        Folder of the sweep; continued when it holds one with the same base and seeds, of which
        the tasks have every finished one.
    runner
        How to run tasks: `run_here`, or one made by `ray_runner`.
    on_result
        Called with every result, those of earlier sessions included.

    Returns
    -------
    list of Result
        Best validation score first, failed ones last; also in `results.csv`, `.json`, `.md`.

    Raises
    ------
    UserError
        When the folder cannot be used, or another process uses it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        next(out.iterdir(), None)
    except OSError as error:
        raise UserError(
            f"out={str(out)!r}: the folder cannot be written ({error.strerror}); choose another one"
        ) from error
    refusal = (
        f"out={str(out)!r}: another process runs the sweep in it; wait for its end, or choose "
        "another one"
    )
    with held(out, refusal):
        _claim(out, tasks)
        return _run(tasks, out, runner, on_result or (lambda _: None))


def _run(
    tasks: Sequence[Task], out: Path, runner: Runner, say: Callable[[Result], None]
) -> list[Result]:
    kept = {task.folder: Result.of(task) for task in tasks}
    results = [result for result in kept.values() if result is not None]

    def write_table() -> None:
        results.sort(key=_rank)
        for name, text in (
            ("results.csv", as_csv(results)),
            ("results.json", as_json(results)),
            ("results.md", as_markdown(results) + "\n"),
        ):
            write_atomically(out / name, text.encode())

    if results:  # at once: a table that is there already never has fewer rows meanwhile
        write_table()
    for result in tuple(results):
        say(result)
    for result in runner([task for task in tasks if kept[task.folder] is None]):
        results.append(result)
        write_table()
        say(result)
    return results


def run_task(task: Task) -> Result:
    """Train one configuration, or continue it; whatever goes wrong becomes its result."""
    from qdeq.runs.run import resume, train
    from qdeq.runs.run_folder import RunFolder

    try:
        if RunFolder(task.folder).has_many_seeds:
            resume(task.folder, data_dir=task.base.data_dir, track=task.track)
        else:
            config = task.base.replace(**task.changes)
            train(config, seeds=task.seeds, out=task.folder, track=task.track)
        damaged = f"{task.summary_path} is damaged"
        return Result.of(task) or Result(task, failure=damaged)
    except UserError as error:
        return Result(task, failure=str(error))
    except Exception as error:  # the others should go on, and the table says what happened
        return Result(task, failure=f"{type(error).__name__}: {error}")


def run_here(tasks: Sequence[Task]) -> Iterable[Result]:
    """Run tasks one by one in this process."""
    return map(run_task, tasks)


def ray_runner(
    *, address: str | None = None, cpus_per_task: float = 1, gpus_per_task: float = 0
) -> Runner:
    """Return what runs tasks through Ray.

    Parameters
    ----------
    address
        Of a Ray cluster; one is started on this machine if None.
    cpus_per_task, gpus_per_task
        What Ray reserves for a configuration.

    Raises
    ------
    UserError
        When Ray is not installed.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            'sweeps run through Ray, which is not installed: pip install "qdeq[ray]"'
        ) from error

    def run(tasks: Sequence[Task]) -> Iterable[Result]:
        if not tasks:
            return
        started = not ray.is_initialized()
        if started:
            ray.init(
                address=address,
                log_to_driver=False,
                **({} if address else {"include_dashboard": False}),
            )
        try:
            # One task per process: a process keeps the memory of what it compiled.
            remote = ray.remote(
                num_cpus=cpus_per_task, num_gpus=gpus_per_task, max_calls=1, max_retries=1
            )(run_task)
            waiting = {remote.remote(task): task for task in tasks}
            while waiting:
                (ready,), _ = ray.wait(list(waiting), num_returns=1)
                task = waiting.pop(ready)
                try:
                    yield ray.get(ready)
                except ray.exceptions.RayError as error:  # the process died: memory, a lost machine
                    yield Result(task, failure=f"{type(error).__name__}: {error}")
        finally:
            if started:
                ray.shutdown()

    return run


def best(results: Sequence[Result]) -> Result | None:
    """The configuration with the highest mean validation score, if any finished."""
    return next((result for result in sorted(results, key=_rank) if not result.failure), None)


def as_markdown(results: Sequence[Result]) -> str:
    """The table for people: mean ± deviation, the best one by validation in bold."""
    header, rows = _cells(results)
    winner = best(results)
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    for result, row in zip(results, rows, strict=True):
        cells = [cell.replace("|", "\\|").replace("\n", " ") for cell in row]
        lines.append(" | ".join(f"**{c}**" if result is winner and c else c for c in cells))
    return "\n".join(f"| {line} |" for line in lines)


def as_csv(results: Sequence[Result]) -> str:
    """The table for spreadsheets, with a column for every mean and every deviation."""
    names = list(results[0].task.changes) if results else []
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    shown = _shown(results)
    columns = [f"{name}_{part}" for name in shown for part in ("mean", "std")]
    writer.writerow([*names, "status", "seeds", *columns, "failure", "folder"])
    for result in results:
        numbers = [f(name) for name in shown for f in (result.mean, result.deviation)]
        writer.writerow(
            [
                *(result.task.changes[name] for name in names),
                "failed" if result.failure else "finished",
                len(result.task.seeds),
                *("" if math.isnan(number) else number for number in numbers),
                result.failure or "",
                result.task.folder.name,
            ]
        )
    return file.getvalue()


def as_json(results: Sequence[Result]) -> str:
    """Everything, with the summaries whole, as indented JSON."""
    winner = best(results)
    content = {
        "best": None if winner is None else winner.task.folder.name,
        "chosen_by": f"mean validation {IN_WORDS[_score(results)]} over seeds",
        "results": [
            {
                "changes": result.task.changes,
                "status": "failed" if result.failure else "finished",
                "failure": result.failure,
                "folder": result.task.folder.name,
                "summary": result.summary,
            }
            for result in results
        ],
    }
    return json.dumps(content, indent=2) + "\n"


def score_of(result: Result) -> str:
    """What a configuration's predictions are judged by; accuracy where none finished."""
    return SCORES[(result.summary or {}).get("task", "classification")]


def _score(results: Sequence[Result]) -> str:
    return next((score_of(result) for result in results if result.summary), "accuracy")


def _shown(results: Sequence[Result]) -> tuple[str, ...]:
    score = _score(results)
    return (f"valid_{score}", f"test_{score}", *_SHOWN)


def _cells(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    names = list(results[0].task.changes) if results else []
    shown = _shown(results)
    header = [*names, *(name.replace("_", " ") for name in shown), "status"]
    rows = []
    for result in results:
        cells = [str(result.task.changes[name]) for name in names]
        for name in shown:
            mean, deviation = result.mean(name), result.deviation(name)
            spread = "" if math.isnan(deviation) else f" ± {deviation:.2g}"
            cells.append("" if math.isnan(mean) else f"{mean:.4g}{spread}")
        ended = (result.summary or {}).get("stopped")  # later, with a trained model
        finished = f"finished; {ended}" if ended else "finished"
        cells.append(f"failed: {result.failure}" if result.failure else finished)
        rows.append(cells)
    return header, rows


def _rank(result: Result) -> tuple[bool, float, str]:
    score = result.mean(f"valid_{score_of(result)}")
    lost = math.isnan(score)
    return lost, 0.0 if lost else -score, result.task.folder.name


def _claim(out: Path, tasks: Sequence[Task]) -> None:
    """Say which sweep the folder is of, or check that the one that is there can be continued."""
    base, seeds = tasks[0].base.replace(data_dir=None), list(tasks[0].seeds)
    content = {"config": base.identity(), "seeds": seeds}
    path = out / "sweep.json"
    if path.is_file():
        found = _read(path)
        if found is None:
            raise UserError(f"{path} is damaged: restore it, or choose another folder for --out")
        if found != content:
            raise UserError(
                f"out={str(out)!r}: the folder holds a sweep with other options or seeds; choose "
                "another one, or repeat the command that made it"
            )
        _check_that_no_row_is_lost(out, tasks)
        return
    if any(out.iterdir()):
        raise UserError(f"out={str(out)!r}: the folder is not empty and no sweep; choose another")
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def _check_that_no_row_is_lost(out: Path, tasks: Sequence[Task]) -> None:
    """Raise `UserError` where the table has finished rows that the grid does not have."""
    table = _read(out / "results.json") or {"results": []}
    finished = {row["folder"] for row in table["results"] if row["status"] == "finished"}
    lost = sorted(finished - {task.folder.name for task in tasks})
    if lost:
        raise UserError(
            f"out={str(out)!r}: its table has {lost[0]}, which is not in this grid: give a grid "
            "that has it as well, or another folder"
        )


def _read(path: Path) -> dict[str, Any] | None:
    """What a file of a sweep or of one of its runs holds; None where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _value(name: str, text: str, hint: Any) -> Any:
    """A value of a configuration's field from its text."""
    if text == "none" and types.NoneType in typing.get_args(hint):
        return None
    hint = plain_type(hint)
    if typing.get_origin(hint) is Literal:
        check_choice(name, text, typing.get_args(hint))
        return text
    try:
        return hint(text)
    except ValueError as error:
        kind = "a whole number" if hint is int else "a number"
        raise UserError(f"grid={name}={text}: give {kind}") from error
