"""Trackers that speak to TensorBoard, MLflow and Weights & Biases, each by its own package.

A package is imported when a tracker is made. Every seed is a run of its own; seeds that were
trained together are beside each other in TensorBoard's folders, children of one run in MLflow, and
a group in Weights & Biases.
"""

import importlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qdeq.errors import UserError
from qdeq.runs.tracking import TrackedRun, Tracker

_PROJECT = "qdeq"


class TensorBoardTracker:
    """Event files in the folder `tensorboard` of the run, for `tensorboard --logdir runs`."""

    def __init__(self) -> None:
        self._package = _package("tensorboardX", "tensorboard")
        self._writers: dict[str, Any] = {}

    def start(self, run: TrackedRun) -> None:
        # What an earlier session wrote after its last checkpoint is hidden.
        writer = self._package.SummaryWriter(
            str(run.folder / "tensorboard"),
            purge_step=run.epochs_done + 1,
            # Files are named after the second: a run that goes on within it has one of its own.
            filename_suffix=f".{run.epochs_done}",
        )
        writer.add_text("configuration", _as_code(run.config), run.epochs_done)
        self._writers[run.id] = writer

    def epoch(self, run: TrackedRun, metrics: Mapping[str, Any]) -> None:
        writer = self._writers[run.id]
        for name, value in _numbers(metrics):
            writer.add_scalar(name, value, metrics["epoch"])
        writer.flush()

    def end(
        self, run: TrackedRun, summary: Mapping[str, Any] | None, artefacts: Sequence[Path]
    ) -> None:
        writer = self._writers.pop(run.id)
        if summary is not None:
            for name, value in _numbers(summary):
                writer.add_scalar(f"summary/{name}", value, summary["epochs"])
            writer.add_text("summary", _as_code(summary), summary["epochs"])
        writer.close()


class MLflowTracker:
    """Runs of the experiment `qdeq`, or that of MLFLOW_EXPERIMENT_NAME, with files as artefacts.

    They go where MLFLOW_TRACKING_URI says, without it into the folder `mlruns`.
    """

    def __init__(self) -> None:
        # Without a server MLflow 3.7 and newer ask for a database unless they are told this.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self._package = _package("mlflow", "mlflow")
        at = os.environ.get("MLFLOW_TRACKING_URI") or Path("mlruns").absolute().as_uri()
        self._client = self._package.MlflowClient(tracking_uri=at)
        self._ids: dict[str, str] = {}
        self._groups: dict[str, int] = {}  # how many of a group's runs have not ended

    def start(self, run: TrackedRun) -> None:
        tags = {}
        if run.group is not None:
            parent = self._continued(run.group, run.folder.resolve().parent.name, {})
            self._groups[run.group] = self._groups.get(run.group, 0) + 1
            tags["mlflow.parentRunId"] = parent
        at = self._continued(run.id, run.name, tags)
        if not run.epochs_done:
            for name, value in run.config.items():
                self._client.log_param(at, name, str(value)[:500])

    def epoch(self, run: TrackedRun, metrics: Mapping[str, Any]) -> None:
        for name, value in _numbers(metrics):
            self._client.log_metric(self._ids[run.id], name, value, step=metrics["epoch"])

    def end(
        self, run: TrackedRun, summary: Mapping[str, Any] | None, artefacts: Sequence[Path]
    ) -> None:
        at = self._ids[run.id]
        for name, value in _numbers(summary or {}):
            self._client.log_metric(at, f"summary_{name}", value)
        for path in artefacts:
            self._client.log_artifact(at, str(path), path.parent.relative_to(run.folder).name)
        status = "KILLED" if summary is None else "FINISHED"
        self._client.set_terminated(at, status)
        if run.group is not None:
            self._groups[run.group] -= 1
            if not self._groups[run.group]:
                self._client.set_terminated(self._ids[run.group], status)

    def _continued(self, key: str, name: str, tags: Mapping[str, str]) -> str:
        """MLflow's id of the run that was begun under a key, or of a new one."""
        if key in self._ids:
            return self._ids[key]
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _PROJECT
        known = self._client.get_experiment_by_name(experiment)
        number = known.experiment_id if known else self._client.create_experiment(experiment)
        found = self._client.search_runs([number], f"tags.qdeq_id = '{key}'")
        if found:
            self._client.update_run(found[0].info.run_id, status="RUNNING")
        else:
            tags = {"qdeq_id": key, **tags}
            found = [self._client.create_run(number, run_name=name, tags=tags)]
        self._ids[key] = found[0].info.run_id
        return self._ids[key]


class WandbTracker:
    """Runs of the project `qdeq`, or that of WANDB_PROJECT; WANDB_MODE=offline needs no account.

    Without a network they go into `wandb` in the run folder, for `wandb sync`.
    """

    def __init__(self) -> None:
        self._package = _package("wandb", "wandb")
        self._runs: dict[str, Any] = {}

    def start(self, run: TrackedRun) -> None:
        offline = os.environ.get("WANDB_MODE") in ("offline", "dryrun")
        self._runs[run.id] = self._package.init(
            project=os.environ.get("WANDB_PROJECT") or _PROJECT,
            id=run.id,
            name=run.name,
            group=run.group,
            config=dict(run.config),
            dir=str(run.folder),
            # Offline it has no effect but a warning: the id joins the parts when they are synced.
            resume=None if offline else "allow",
            reinit="create_new",  # seeds that train together are open at once
            settings=self._package.Settings(silent=True, console="off"),
        )

    def epoch(self, run: TrackedRun, metrics: Mapping[str, Any]) -> None:
        self._runs[run.id].log(dict(_numbers(metrics)), step=metrics["epoch"])

    def end(
        self, run: TrackedRun, summary: Mapping[str, Any] | None, artefacts: Sequence[Path]
    ) -> None:
        open_run = self._runs.pop(run.id)
        if summary is not None:
            open_run.summary.update({f"summary/{k}": v for k, v in _numbers(summary)})
        for path in artefacts:
            open_run.save(str(path), base_path=str(run.folder), policy="now")
        open_run.finish(exit_code=int(summary is None))


NAMED: Mapping[str, Callable[[], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MLflowTracker,
    "wandb": WandbTracker,
}


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f'track={extra}: {name} is not installed: run pip install "qdeq[{extra}]"'
        ) from error


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """What can be drawn; the number of the epoch is the axis."""
    for name, value in values.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and math.isfinite(value) and name != "epoch":
            yield name, float(value)


def _as_code(values: Mapping[str, Any]) -> str:
    return "\n".join(f"    {line}" for line in json.dumps(dict(values), indent=2).splitlines())
