"""What somebody is told who follows a run: its configuration, every epoch, its end.

The interface is three methods that any object may have; `trackers.py` has those that speak to
TensorBoard, MLflow and Weights & Biases. Who tracks a run is kept in its folder, so that a run that
is resumed goes on where it was tracked before.
"""

import json
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, get_args, runtime_checkable

from qdeq.errors import UserError, check_choice
from qdeq.names import TrackerName

if TYPE_CHECKING:
    from qdeq.runs.run_folder import RunFolder
    from qdeq.runs.summary import Summary
    from qdeq.training.config import TrainConfig

_FILE = "tracking.json"


@dataclass(frozen=True)
class TrackedRun:
    """One seed's run, as trackers know it.

    Attributes
    ----------
    id
        The same when the run is resumed, and no other run's.
    name
        For people: the folder's name, with the seed's of a run of many.
    group
        What the seeds of one run have in common, an id; None for a run of one seed.
    config
        Every option as a number or a text.
    folder
        Where its model, metrics and pictures are.
    epochs_done
        More than 0 when it goes on.
    """

    id: str
    name: str
    group: str | None
    config: Mapping[str, Any]
    folder: Path
    epochs_done: int


@runtime_checkable
class Tracker(Protocol):
    """Any object with these methods. Of several seeds, each is a run of its own."""

    def start(self, run: TrackedRun) -> None:
        """A run begins, or goes on; an error here ends it before anything is trained."""
        ...

    def epoch(self, run: TrackedRun, metrics: Mapping[str, Any]) -> None:
        """An epoch is over: its line of `metrics.jsonl`, with `epoch` counted from 1."""
        ...

    def end(
        self, run: TrackedRun, summary: Mapping[str, Any] | None, artefacts: Sequence[Path]
    ) -> None:
        """The run is over: its `summary.json` and files. None and no files if it was stopped."""
        ...


Track: TypeAlias = "str | Tracker | Sequence[str | Tracker] | None"


def trackers_of(track: Track) -> list[tuple[str, Tracker]]:
    """What `track` names, each with its name; that of an object is the one of its class.

    Parameters
    ----------
    track
        A name or several with commas, an object with `Tracker`'s methods, or a list of both.

    Raises
    ------
    UserError
        For another name, an object that lacks a method, or a package that is not installed.
    """
    given = [track] if isinstance(track, str) or not isinstance(track, Sequence) else track
    found: dict[str, Tracker] = {}
    names = [_names(one) if isinstance(one, str) else [] for one in given]
    for one, named in zip(given, names, strict=True):
        if isinstance(one, str):
            from qdeq.runs.trackers import NAMED

            found |= {name: NAMED[name]() for name in named if name not in found}
        elif isinstance(one, Tracker):
            found[f"{type(one).__name__}-{len(found)}"] = one
        elif one is not None:
            raise UserError(
                f"track={one!r}: give {', '.join(get_args(TrackerName))}, or an object with the "
                "methods start, epoch and end of qdeq.runs.Tracker"
            )
    return list(found.items())


class Tracking:
    """All trackers of a session.

    Parameters
    ----------
    trackers
        With their names.
    runs
        One per seed.
    note
        File that keeps the id, and who tracks the run by name.
    """

    def __init__(
        self,
        trackers: Sequence[tuple[str, Tracker]] = (),
        runs: Sequence[TrackedRun] = (),
        note: Path | None = None,
    ):
        self._trackers, self._runs, self._note = dict(trackers), runs, note
        self._started: dict[str, list[TrackedRun]] = {name: [] for name in self._trackers}

    @classmethod
    def of(
        cls,
        folder: "RunFolder",
        seed_folders: "Sequence[RunFolder]",
        configs: "Sequence[TrainConfig]",
        track: Track,
        *,
        epochs_done: int = 0,
    ) -> "Tracking":
        """Those that are given, or else those by name that tracked the run before.

        Raises
        ------
        UserError
            As `trackers_of`.
        """
        path = folder.path / _FILE
        kept = _read(path)
        trackers = trackers_of(kept.get("trackers", []) if track is None else track)
        if not trackers:
            return cls()
        many, stem = seed_folders[0] != folder, folder.path.resolve().name
        key = kept.get("id") or uuid.uuid4().hex[:12]
        runs = [
            TrackedRun(
                id=f"{key}-{config.seed}" if many else key,
                name=f"{stem}-seed-{config.seed}" if many else stem,
                group=key if many else None,
                config=config.plain(),
                folder=own.path,
                epochs_done=epochs_done,
            )
            for own, config in zip(seed_folders, configs, strict=True)
        ]
        return cls(trackers, runs, path)

    def start(self) -> None:
        """Tell that the runs begin.

        Raises
        ------
        UserError
            If a tracker cannot: nobody would see what was asked for.
        """
        for name, tracker in self._trackers.items():
            for run in self._runs:
                try:
                    tracker.start(run)
                except UserError:
                    raise
                except Exception as error:
                    raise UserError(
                        f"track={name}: it cannot begin ({_line(error)}); repair that, or leave "
                        "track out"
                    ) from error
                self._started[name].append(run)
        if self._note is not None:
            from qdeq._arrays import write_atomically  # JAX: the command line asks for names first

            names = [name for name in self._trackers if name in get_args(TrackerName)]
            run = self._runs[0]
            kept = {"id": run.group or run.id, "trackers": names}
            write_atomically(self._note, (json.dumps(kept, indent=2) + "\n").encode())

    def epoch(self, metrics: Sequence[Mapping[str, Any]]) -> None:
        """Tell every seed's epoch."""
        lines = {run.id: line for run, line in zip(self._runs, metrics, strict=False)}
        self._tell(lambda tracker, run: tracker.epoch(run, lines[run.id]))

    def end(self, summaries: "Sequence[Summary]") -> None:
        """Tell that the runs are over."""
        told = {run.id: s for run, s in zip(self._runs, summaries, strict=False)}
        self._tell(
            lambda tracker, run: tracker.end(
                run, json.loads(told[run.id].to_json()), _artefacts(run.folder)
            ),
            last=True,
        )

    def stop(self) -> None:
        """Tell trackers that have not been told of an end that the run was stopped; once only."""
        self._tell(lambda tracker, run: tracker.end(run, None, []), last=True)

    def _tell(self, what: Callable[[Tracker, TrackedRun], None], *, last: bool = False) -> None:
        """A tracker that fails is not asked again; the training of hours goes on without it."""
        for name, runs in list(self._started.items()):
            if last:
                self._started[name] = []
            for run in runs:
                try:
                    what(self._trackers[name], run)
                except Exception as error:
                    self._started[name] = []
                    warnings.warn(
                        f"track={name}: {_line(error)}; the run goes on without it", stacklevel=2
                    )
                    break


def _names(words: str) -> list[str]:
    names = [name for name in map(str.strip, words.split(",")) if name]
    for name in names:
        check_choice("track", name, get_args(TrackerName))
    return names


def _artefacts(folder: Path) -> list[Path]:
    files = ["config.json", "summary.json", "metrics.jsonl", "model.safetensors", "report.html"]
    found = [folder / name for name in files]
    return [path for path in (*found, *sorted(folder.glob("figures/*.png"))) if path.is_file()]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        names = [n for n in kept["trackers"] if n in get_args(TrackerName)]
        return {"id": str(kept["id"]), "trackers": names}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is damaged ({_line(error)}): remove it to track the run as a new one"
        ) from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
