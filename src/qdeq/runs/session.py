"""One process's part of a run: epochs, checkpoints, the judging of the best models, interrupts.

The same code trains one seed or many: states, histories and run folders are per seed. Where states
come from and what a finished run returns is in `run.py` (one seed) and `many.py` (many). Nothing
in this module draws random numbers: each epoch derives its own from the run's key and its number,
which is why a resumed run ends with the bits of an uninterrupted one.
"""

import contextlib
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import equinox as eqx
import jax
import numpy as np

from qdeq._arrays import tree_to_arrays
from qdeq.runs.dataset import load_dataset
from qdeq.runs.report import write_report
from qdeq.runs.run_folder import Checkpoint, Metrics, RunFolder
from qdeq.runs.summary import Summary, finite_or_none, peak_memory_mb, versions
from qdeq.training.config import TrainConfig
from qdeq.training.divergence import divergence, first_divergence
from qdeq.training.loop import Trainer, TrainState, n_qubits_of
from qdeq.training.parallel import Layout, seeds_at_once

OnEpoch = Callable[[Metrics], None]
OnStage = Callable[[str], None]

_SECONDS_BETWEEN_CHECKPOINTS = 1.0


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during training; the checkpoint of the last finished epoch is on disk.

    Attributes
    ----------
    run
        The run folder, to be given to `resume` (`resume_many` for many seeds).
    epoch
        Number of finished epochs.
    """

    def __init__(self, run: Path, epoch: int):
        command = f"qdeq train --resume {shlex.quote(str(run))}"
        super().__init__(f"stopped after epoch {epoch}; `{command}` continues")
        self.run = run
        self.epoch = epoch


def make_trainer(config: TrainConfig, *, n_seeds: int = 1, devices: int | None = None) -> Trainer:
    """Load the data of a configuration and return what trains on them.

    Raises
    ------
    UserError
        When the data cannot be had as configured, or there are fewer devices.
    """
    dataset = load_dataset(config)
    at_once = seeds_at_once(config, n_qubits_of(config, dataset))
    layout = Layout.of(n_seeds, n_devices=devices, seeds_at_once=at_once)
    return Trainer(config, dataset, layout=layout)


def is_writer() -> bool:
    """Whether this process writes: of several, which all have the same whole results, the first."""
    return jax.process_index() == 0


def new_folder(path: str | Path) -> RunFolder:
    """Make an empty run folder, or only name it in a process that does not write."""
    return RunFolder.create(path) if is_writer() else RunFolder(Path(path))


class Session:
    """From states to the summaries.

    Parameters
    ----------
    trainer
        For the configuration of all seeds.
    folders, configs
        A run folder and its configuration per seed.
    states
        With a leading seed axis.
    histories
        The metrics of the finished epochs, per seed.
    compile_seconds
        Spent so far, by earlier sessions.
    together
        Folder that holds the checkpoint of all seeds; None for one seed, whose own folder does.
    """

    def __init__(
        self,
        trainer: Trainer,
        folders: Sequence[RunFolder],
        configs: Sequence[TrainConfig],
        *,
        states: TrainState,
        histories: Sequence[list[Metrics]],
        compile_seconds: float = 0.0,
        together: RunFolder | None = None,
    ):
        self.trainer, self.folders, self.configs = trainer, folders, configs
        self.compile_seconds = compile_seconds
        self.together = together
        self.writes = is_writer()
        # States and histories change together, in one assignment, so that an interrupt between two
        # lines cannot leave a checkpoint whose metrics miss an epoch. The arrays are host copies:
        # an epoch that is interrupted may have consumed the device's.
        self.progress: tuple[TrainState, dict[str, np.ndarray], Sequence[list[Metrics]]]
        self.progress = (states, tree_to_arrays(states), histories)
        self._checkpoint_time = -np.inf
        # Per seed why its training ended early, or nothing. A seed that has diverged stays in the
        # program of the others, for nothing.
        self.stopped = [first_divergence(h, c) for h, c in zip(histories, configs, strict=True)]

    @property
    def n_epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.progress[2][0])

    def finish(self, on_epoch: OnEpoch | None, on_stage: OnStage | None) -> list[Summary]:
        """Run the remaining epochs, judge the best models, write summaries, pictures and a report.

        Only the first seed's folder gets pictures and a report, which take longer to draw than a
        short run takes to train; `write_report` adds them to any other.
        """
        on_stage = on_stage or ignore
        with _sigterm_as_interrupt():
            try:
                self._checkpoint(every_seed=True)
                self._train(on_epoch or ignore, on_stage)
                on_stage("evaluating")
                summaries = self._summaries()
                if self.writes:
                    for folder, summary in zip(self.folders, summaries, strict=True):
                        folder.write_summary(summary)
                    on_stage("drawing")
                    write_report(self.folders[0].path)
                return summaries
            except KeyboardInterrupt:
                self._stop()

    def _train(self, on_epoch: OnEpoch, on_stage: OnStage) -> None:
        config, first = self.trainer.config, self.n_epochs
        for epoch in range(first, config.epochs):
            if all(self.stopped):
                break
            if epoch in (first, config.warmup_epochs):  # a phase begins: its epoch is compiled
                on_stage("compiling")
            self.compile_seconds += self.trainer.compile(self.progress[0])
            if epoch in (first, config.warmup_epochs):
                on_stage("training")
            previous = np.asarray(self.progress[0].best_valid_loss)
            states, metrics = self.trainer.run_epoch_seeds(self.progress[0])
            best = _differ(np.asarray(states.best_valid_loss), previous)
            metrics = [{**m, "best": bool(b)} for m, b in zip(metrics, best, strict=True)]
            histories = [[*h, m] for h, m in zip(self.progress[2], metrics, strict=True)]
            self.progress = (states, tree_to_arrays(states), histories)
            if self.writes:
                for folder, line in zip(self.folders, metrics, strict=True):
                    folder.append_metrics(line)
            self.stopped = [
                before or divergence(line, own)
                for before, line, own in zip(self.stopped, metrics, self.configs, strict=True)
            ]
            last = epoch + 1 == config.epochs or all(self.stopped)
            if last or time.monotonic() - self._checkpoint_time >= _SECONDS_BETWEEN_CHECKPOINTS:
                self._checkpoint(every_seed=last)
            going = [m for m, why in zip(metrics, self.stopped, strict=True) if not why]
            on_epoch(mean_metrics(going or metrics))

    def _checkpoint(self, *, every_seed: bool) -> None:
        """Write where the run stands: one file for all seeds, and one per seed when asked for."""
        if not self.writes:
            return
        _, arrays, histories = self.progress
        if self.together is not None:
            checkpoint = Checkpoint(arrays, self.n_epochs, self.compile_seconds)
            self.together.write_checkpoint(checkpoint)
        if self.together is None or every_seed:
            share = self.compile_seconds / len(self.folders)
            prefix = "best_classifier."
            for seed, folder in enumerate(self.folders):
                own = {name: np.array(array[seed]) for name, array in arrays.items()}
                folder.write_checkpoint(Checkpoint(own, len(histories[seed]), share))
                folder.write_model(
                    {k.removeprefix(prefix): v for k, v in own.items() if k.startswith(prefix)}
                )
        self._checkpoint_time = time.monotonic()

    def _stop(self) -> NoReturn:
        if self.writes:
            for folder, history in zip(self.folders, self.progress[2], strict=True):
                folder.write_metrics(history)
        self._checkpoint(every_seed=True)
        raise TrainingInterrupted((self.together or self.folders[0]).path, self.n_epochs) from None

    def _summaries(self) -> list[Summary]:
        states, _, histories = self.progress
        data, classifiers = self.trainer.dataset, states.best_classifier
        train = self.trainer.evaluate_seeds(classifiers, data.train)
        valid = self.trainer.evaluate_seeds(classifiers, data.valid)
        test = self.trainer.evaluate_seeds(classifiers, data.test)
        n_seeds = len(self.folders)
        head = jax.tree.leaves(eqx.filter(classifiers.head, eqx.is_inexact_array))
        memory, packages = peak_memory_mb(), versions()
        arrays, rest = eqx.partition(classifiers.model, eqx.is_array)
        one_seed = eqx.combine(jax.tree.map(lambda leaf: leaf[0], arrays), rest)
        return [
            Summary(
                run=str(self.folders[seed].path),
                dataset=config.data,
                n_features=data.n_features,
                n_qubits=self.trainer.n_qubits,
                encoding=config.encoding,
                mode=config.mode,
                solver=config.solver,
                adjoint=config.adjoint,
                seed=config.seed,
                n_parameters=one_seed.n_parameters,
                n_head_parameters=sum(int(leaf.size) // n_seeds for leaf in head),
                epochs=len(histories[seed]),
                stopped=self.stopped[seed],
                best_epoch=max((m["epoch"] for m in histories[seed] if m["best"]), default=0),
                train_accuracy=float(train[seed]["accuracy"]),
                valid_accuracy=float(valid[seed]["accuracy"]),
                test_accuracy=float(test[seed]["accuracy"]),
                test_loss=float(test[seed]["loss"]),
                residual_mean=float(test[seed]["residual_mean"]),
                residual_max=float(test[seed]["residual_max"]),
                converged_fraction=float(test[seed]["converged_fraction"]),
                solver_steps_mean=float(test[seed]["solver_steps_mean"]),
                undefined_inputs=int(test[seed]["undefined_inputs"]),
                circuit_executions=int(sum(m["circuit_executions"] for m in histories[seed])),
                train_seconds=sum(m["seconds"] for m in histories[seed]),
                compile_seconds=self.compile_seconds / n_seeds,
                peak_memory_mb=memory,
                device=str(jax.devices()[0].device_kind),
                versions=packages,
                classes=list(data.classes),
                confusion_matrix=confusion_matrix(
                    data.test.y, test[seed]["predictions"], data.n_classes
                ),
                residual_trace=finite_or_none(np.asarray(test[seed]["residual_trace"]).tolist()),
            )
            for seed, config in enumerate(self.configs)
        ]


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
        "residual_max": max,
        "circuit_executions": sum,
        "seconds": sum,
    }
    return {
        name: combine.get(name, lambda values: float(np.mean(values)))([m[name] for m in metrics])
        for name in metrics[0]
    }


def confusion_matrix(
    labels: np.ndarray, predictions: np.ndarray, n_classes: int
) -> list[list[int]]:
    """Count samples by true class (row) and predicted class (column).

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    [[1, 1], [0, 1]]
    """
    counts = np.zeros((n_classes, n_classes), dtype=int)
    np.add.at(counts, (np.asarray(labels), np.asarray(predictions)), 1)
    return counts.tolist()


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
