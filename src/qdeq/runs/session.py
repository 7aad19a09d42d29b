"""One process's part of a run: epochs, checkpoints, what is written at the end, interrupts.

The same code trains one seed or many: states, histories and run folders are per seed. Where states
come from and what a finished run returns is in `run.py`. Nothing in this module draws random
numbers: each epoch derives its own from the run's key and its number, which is why a resumed run
ends with the bits of an uninterrupted one.
"""

import contextlib
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from qdeq._arrays import tree_to_arrays
from qdeq.data import Dataset
from qdeq.errors import UserError, check_callable
from qdeq.models import ModelFunction
from qdeq.names import OWN_MODEL
from qdeq.runs.dataset import load_dataset
from qdeq.runs.judging import judge
from qdeq.runs.report import write_report
from qdeq.runs.report_data import of_run
from qdeq.runs.run_folder import RunFolder
from qdeq.runs.summary import Summary
from qdeq.runs.tracking import Tracking
from qdeq.runs.training_files import Checkpoint, Metrics
from qdeq.training.config import TrainConfig
from qdeq.training.divergence import divergence
from qdeq.training.loop import Trainer
from qdeq.training.parallel import Layout, seeds_at_once
from qdeq.training.state import ModelMaker, TrainState, n_qubits_of
from qdeq.training.stopping import ended_at, ends

OnEpoch = Callable[[Metrics], None]
OnStage = Callable[[str], None]

_SECONDS_BETWEEN_CHECKPOINTS = 1.0


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during training; the checkpoint of the last finished epoch is on disk.

    Attributes
    ----------
    run
        The run folder, to be given to `resume`.
    epoch
        Number of finished epochs.
    """

    def __init__(self, run: Path, epoch: int):
        command = f"qdeq train --resume {shlex.quote(str(run))}"
        super().__init__(f"stopped after epoch {epoch}; `{command}` continues")
        self.run = run
        self.epoch = epoch


def make_trainer(
    config: TrainConfig,
    *,
    n_seeds: int = 1,
    devices: int | None = None,
    dataset: Dataset | None = None,
    model: ModelFunction | ModelMaker | None = None,
) -> Trainer:
    """Load the data of a configuration and return what trains on them.

    Parameters
    ----------
    config
        What to train.
    n_seeds, devices
        How many seeds, over how many of JAX's devices (None: all of them).
    dataset, model
        Take these instead of what the configuration names.

    Raises
    ------
    UserError
        When the data or the model cannot be had as configured, or there are fewer devices.
    """
    check_model_given(config, model)
    dataset = load_dataset(config) if dataset is None else dataset
    at_once = seeds_at_once(config, n_qubits_of(config, dataset))
    layout = Layout.of(n_seeds, n_devices=devices, seeds_at_once=at_once)
    return Trainer(config, dataset, layout=layout, **({} if model is None else {"model": model}))


def check_listeners(on_epoch: Any, on_stage: Any) -> None:
    """Raise `UserError` for what cannot be called while a run trains."""
    for name, listener in (("on_epoch", on_epoch), ("on_stage", on_stage)):
        if listener is not None:
            check_callable(name, listener, "a function of one argument, or None")


def check_model_given(config: TrainConfig, model: Any) -> None:
    """Raise `UserError` when a run was given a model in Python and now has none."""
    if config.ansatz == OWN_MODEL and model is None:
        raise UserError(
            "ansatz='own': the model function was given in Python (qdeq.train(config, model=...)), "
            "and has to be given again: model=..."
        )


def is_writer() -> bool:
    """Whether this process writes: of several, which all have the same whole results, the first."""
    return jax.process_index() == 0


@dataclass(frozen=True)
class Progress:
    """Where a session stands.

    States and histories change together, in one assignment, so that an interrupt between two lines
    cannot leave a checkpoint whose metrics miss an epoch.

    Attributes
    ----------
    states
        With a leading seed axis.
    arrays
        Host copies of the states' arrays: an epoch that is interrupted may have consumed the
        device's.
    histories
        The metrics of the finished epochs, per seed.
    """

    states: TrainState
    arrays: dict[str, np.ndarray]
    histories: Sequence[list[Metrics]]

    @classmethod
    def of(cls, states: TrainState, histories: Sequence[list[Metrics]]) -> "Progress":
        """With host copies of the states."""
        return cls(states, tree_to_arrays(states), histories)


class Session:
    """From states to the summaries.

    Parameters
    ----------
    trainer
        For the configuration of all seeds.
    folder
        Of the run.
    seed_folders, configs
        A run folder and its configuration per seed; with one seed it may be `folder`.
    states
        With a leading seed axis.
    histories
        The metrics of the finished epochs, per seed.
    compile_seconds
        Spent so far, by earlier sessions.
    tracking
        Who follows the run.
    """

    def __init__(
        self,
        trainer: Trainer,
        folder: RunFolder,
        seed_folders: Sequence[RunFolder],
        configs: Sequence[TrainConfig],
        *,
        states: TrainState,
        histories: Sequence[list[Metrics]],
        compile_seconds: float = 0.0,
        tracking: Tracking | None = None,
    ):
        self.trainer, self.folder = trainer, folder
        self.seed_folders, self.configs = seed_folders, configs
        self.compile_seconds = compile_seconds
        self.writes = is_writer()
        self.tracking = tracking or Tracking()
        self.progress = Progress.of(states, histories)
        self._checkpoint_time = -np.inf
        # Per seed the epoch that ended its training, if one did.
        self.ended = [ended_at(h, c) for h, c in zip(histories, configs, strict=True)]

    @property
    def n_epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.progress.histories[0])

    @property
    def stopped(self) -> list[str]:
        """Per seed in which numbers that are not finite its training ended; empty otherwise."""
        return [
            "" if end is None else divergence(history[end - 1], config)
            for end, history, config in zip(
                self.ended, self.progress.histories, self.configs, strict=True
            )
        ]

    @property
    def _has_many_seeds(self) -> bool:
        return self.seed_folders[0] != self.folder

    def finish(self, on_epoch: OnEpoch | None, on_stage: OnStage | None) -> list[Summary]:
        """Run the remaining epochs, judge the best models, write summaries, pictures and a report.

        Of many seeds the run's folder and the first seed's get pictures and a report, which take
        longer to draw than a short run takes to train; `write_report` adds them to any other.
        """
        on_stage = on_stage or ignore
        with _sigterm_as_interrupt():
            try:
                self._checkpoint(every_seed=True)
                self.tracking.start()
                self._train(on_epoch or ignore, on_stage)
                on_stage("evaluating")
                summaries, predictions = judge(
                    self.trainer,
                    self.progress.states.best_classifier,
                    self.seed_folders,
                    self.configs,
                    histories=self.progress.histories,
                    stopped=self.stopped,
                    compile_seconds=self.compile_seconds,
                )
                if self.writes:
                    self._write_results(summaries, predictions)
                    on_stage("drawing")
                    for folder in {self.folder.path, self.seed_folders[0].path}:
                        write_report(folder, config=self.trainer.config)
                self.tracking.end(summaries)
                return summaries
            except KeyboardInterrupt:
                self._stop()
            finally:
                self.tracking.stop()

    def _train(self, on_epoch: OnEpoch, on_stage: OnStage) -> None:
        config, first = self.trainer.config, self.n_epochs
        for epoch in range(first, config.epochs):
            # A seed that has ended is still computed with the others, since all are one program;
            # what comes after its end is not used.
            ended = [end is not None for end in self.ended]
            if all(ended):
                self._checkpoint(every_seed=True)
                break
            if epoch in (first, config.warmup_epochs):  # a phase begins: its epoch is compiled
                on_stage("compiling")
            self.compile_seconds += self.trainer.compile(self.progress.states)
            if epoch in (first, config.warmup_epochs):
                on_stage("training")
            previous = np.asarray(self.progress.states.best_valid_loss)
            states, metrics = self.trainer.run_epoch_seeds(
                self.progress.states, **({"ended": ended} if any(ended) else {})
            )
            best = _differ(np.asarray(states.best_valid_loss), previous)
            metrics = [{**m, "best": bool(b)} for m, b in zip(metrics, best, strict=True)]
            histories = [[*h, m] for h, m in zip(self.progress.histories, metrics, strict=True)]
            self.progress = Progress.of(states, histories)
            if self.writes:
                for folder, line in zip(self.seed_folders, metrics, strict=True):
                    folder.append_metrics(line)
                self.tracking.epoch(metrics)
            self.ended = [
                epoch + 1 if end is None and ends(history, own) else end
                for end, history, own in zip(self.ended, histories, self.configs, strict=True)
            ]
            last = epoch + 1 == config.epochs or all(self.stopped)
            if last or time.monotonic() - self._checkpoint_time >= _SECONDS_BETWEEN_CHECKPOINTS:
                self._checkpoint(every_seed=last)
            over = [a or b for a, b in zip(ended, self.stopped, strict=True)]
            going = [m for m, is_over in zip(metrics, over, strict=True) if not is_over]
            on_epoch(mean_metrics(going or metrics))

    def _write_results(
        self, summaries: Sequence[Summary], predictions: Sequence[np.ndarray]
    ) -> None:
        config, data = self.trainer.config, self.trainer.dataset
        for folder, summary, predicted in zip(
            self.seed_folders, summaries, predictions, strict=True
        ):
            folder.write_summary(summary)
            if data.targets is not None:
                folder.write_predictions(data.targets.restored(data.test.y), predicted)
            folder.write_report_data(of_run(config, data, predicted))
        if self._has_many_seeds:
            self.folder.write_summary(Summary.over(summaries, run=str(self.folder.path)))

    def _checkpoint(self, *, every_seed: bool) -> None:
        """Write where the run stands: one file for all seeds, and one per seed when asked for."""
        if not self.writes:
            return
        arrays, histories = self.progress.arrays, self.progress.histories
        if self._has_many_seeds:
            checkpoint = Checkpoint(arrays, self.n_epochs, self.compile_seconds)
            self.folder.write_checkpoint(checkpoint)
        if every_seed or not self._has_many_seeds:
            share = self.compile_seconds / len(self.seed_folders)
            prefix = "best_classifier."
            for seed, folder in enumerate(self.seed_folders):
                own = {name: np.array(array[seed]) for name, array in arrays.items()}
                folder.write_checkpoint(Checkpoint(own, len(histories[seed]), share))
                folder.write_model(
                    {k.removeprefix(prefix): v for k, v in own.items() if k.startswith(prefix)}
                )
        self._checkpoint_time = time.monotonic()

    def _stop(self) -> NoReturn:
        if self.writes:
            for folder, history in zip(self.seed_folders, self.progress.histories, strict=True):
                folder.write_metrics(history)
        self._checkpoint(every_seed=True)
        raise TrainingInterrupted(self.folder.path, self.n_epochs) from None


def mean_metrics(metrics: Sequence[Metrics]) -> Metrics:
    """An epoch's metrics averaged over seeds; those of one seed are returned as they are.

    `residual_max` is the largest of any seed, `circuit_executions` and `seconds` are sums, and
    `best` says whether any seed's model was the best one yet.

    >>> mean_metrics([{"epoch": 1, "valid_loss": 0.5}, {"epoch": 1, "valid_loss": 0.25}])
    {'epoch': 1, 'valid_loss': 0.375}
    """
    if len(metrics) == 1:
        return metrics[0]
    combine: dict[str, Callable[[list[Any]], Any]] = {
        "epoch": max,
        "phase": max,
        "best": any,
        "residual_max": lambda values: float(np.max(values)),  # keeps NaN, whichever seed's
        "circuit_executions": sum,
        "seconds": sum,
    }
    return {
        name: combine.get(name, lambda values: float(np.mean(values)))([m[name] for m in metrics])
        for name in metrics[0]
    }


def _differ(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first != second) & ~(np.isnan(first) & np.isnan(second))


def ignore(_: Any) -> None:
    """The callback of somebody who does not listen."""


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, with which schedulers end jobs, raise KeyboardInterrupt like Ctrl-C."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # Python allows no handler there
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
