"""Many seeds of one configuration trained together: folders, start, resume, and what comes out.

The folder of such a run holds `seeds.json`, the checkpoint of all seeds, a complete run folder
`seed-K` per seed, and `summary.json` and `report.html` with means and deviations over the seeds.
"""

import contextlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qdeq._arrays import arrays_to_tree, write_atomically
from qdeq.errors import UserError
from qdeq.runs.many_summary import ManySummary, write_many_report
from qdeq.runs.run import check_epochs, moved
from qdeq.runs.run_folder import RunFolder, default_path
from qdeq.runs.seeds import check_seeds
from qdeq.runs.session import (
    OnEpoch,
    OnStage,
    Session,
    ignore,
    is_writer,
    make_trainer,
    new_folder,
)
from qdeq.runs.summary import Summary
from qdeq.training.config import TrainConfig


@dataclass(frozen=True)
class ManyFolder:
    """Paths and files of a run of many seeds."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> "ManyFolder":
        """Open the folder of an existing run.

        Raises
        ------
        UserError
            When there is no such folder or it holds no `seeds.json`.
        """
        folder = cls(Path(path))
        if not folder.seeds_path.is_file():
            raise UserError(
                f"run={str(path)!r}: the folder has no seeds.json, so no run of many seeds is in "
                "it; give the folder that `qdeq train --seeds` wrote"
            )
        return folder

    @staticmethod
    def is_at(path: str | Path) -> bool:
        """Whether a folder is one of a run of many seeds."""
        return ManyFolder(Path(path)).seeds_path.is_file()

    @property
    def seeds_path(self) -> Path:
        return self.path / "seeds.json"

    @property
    def together(self) -> RunFolder:
        """The files of all seeds together."""
        return RunFolder(self.path)

    def seed(self, seed: int) -> RunFolder:
        """The run folder of one seed."""
        return RunFolder(self.path / f"seed-{seed}")

    def write(self, config: TrainConfig, seeds: Sequence[int]) -> None:
        """Say what the run is; written last when it starts, so what has it is complete."""
        for seed in seeds:
            folder = self.seed(seed)
            folder.path.mkdir(exist_ok=True)
            folder.write_config(config.replace(seed=seed))
        content = {"seeds": list(seeds), "config": json.loads(config.to_json())}
        write_atomically(self.seeds_path, (json.dumps(content, indent=2) + "\n").encode())

    def read(self) -> tuple[TrainConfig, list[int]]:
        """Return the common configuration and the seeds.

        Raises
        ------
        UserError
            When `seeds.json` is damaged.
        """
        try:
            content = json.loads(self.seeds_path.read_text(encoding="utf-8"))
            config, seeds = json.dumps(content["config"]), check_seeds(content["seeds"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.seeds_path} is damaged ({error}): restore it or train again"
            ) from error
        return TrainConfig.from_json(config, source=str(self.seeds_path)), seeds


def train_many(
    config: TrainConfig,
    seeds: Sequence[int],
    *,
    out: str | Path | None = None,
    devices: int | None = None,
    on_epoch: OnEpoch | None = None,
    on_stage: OnStage | None = None,
) -> list[Summary]:
    """Train one configuration with many seeds at once, in one compiled program.

    Every seed ends with the results of a run of its own (up to the rounding of sums): its angles,
    the order of its batches and its dropout follow from its seed alone.

    Parameters
    ----------
    config
        What to train; `config.seed` has no effect.
    seeds
        Distinct seeds.
    out
        The folder, which must be empty or not exist; one in `runs/` if None.
    devices
        Over how many of JAX's devices the seeds are spread; all of them if None. More devices than
        seeds split the batches as well.
    on_epoch
        Called after every epoch with its metrics averaged over the seeds.
    on_stage
        As in `train`.

    Returns
    -------
    list of Summary
        In the order of the seeds. `train_seconds` and `compile_seconds` are a seed's share.

    Raises
    ------
    UserError
        When the data, the model or the folder cannot be had as configured.
    TrainingInterrupted
        On Ctrl-C or SIGTERM, after a checkpoint was written.
    """
    seeds = check_seeds(seeds)
    configs = [config.replace(seed=seed) for seed in seeds]
    folder = ManyFolder(new_folder(default_path(config) if out is None else out).path)
    try:
        (on_stage or ignore)("loading data")
        trainer = make_trainer(config, n_seeds=len(seeds), devices=devices)
        states = trainer.init_seeds(seeds)
    except BaseException:  # a mistake in the configuration should leave no empty folder behind
        with contextlib.suppress(OSError):
            folder.path.rmdir()
        raise
    if is_writer():
        folder.write(config, seeds)
    session = Session(
        trainer,
        [folder.seed(seed) for seed in seeds],
        configs,
        states=states,
        histories=[[] for _ in seeds],
        together=folder.together,
    )
    return _finish(session, folder, on_epoch, on_stage)


def resume_many(
    run: str | Path,
    *,
    epochs: int | None = None,
    data_dir: str | None = None,
    devices: int | None = None,
    on_epoch: OnEpoch | None = None,
    on_stage: OnStage | None = None,
) -> list[Summary]:
    """Continue a run of many seeds from its last checkpoint; the parameters are those of `resume`.

    The result is the one of an uninterrupted run, bit for bit.

    Raises
    ------
    UserError
        When the folder is damaged or is none of many seeds, fewer epochs are asked for than done,
        or a seed was trained further on its own.
    TrainingInterrupted
        On Ctrl-C or SIGTERM, after a checkpoint was written.
    """
    folder = ManyFolder.open(run)
    config, seeds = folder.read()
    config = moved(config, data_dir)
    if epochs is not None:
        config = config.replace(epochs=epochs)
    folders, together = [folder.seed(seed) for seed in seeds], folder.together
    # A run that was killed before its first checkpoint simply starts again.
    checkpoint = together.read_checkpoint() if together.checkpoint_path.exists() else None
    finished = 0 if checkpoint is None else checkpoint.epoch
    if checkpoint is not None:
        check_epochs(config, checkpoint)
    for own in folders:
        if own.checkpoint_path.exists() and own.read_checkpoint().epoch > finished:
            raise UserError(
                f"run={str(folder.path)!r}: {own.path.name} was trained further on its own; move "
                "it away and restore it, or continue each seed with "
                f"`qdeq train --resume {shlex.quote(str(own.path))}`"
            )
    (on_stage or ignore)("loading data")
    trainer = make_trainer(config, n_seeds=len(seeds), devices=devices)
    states, histories = trainer.init_seeds(seeds), [[] for _ in seeds]
    if checkpoint is not None:
        source = together.checkpoint_path
        states = trainer.put(arrays_to_tree(states, checkpoint.arrays, source=source))
        histories = [own.read_metrics(epochs=finished) for own in folders]
    if is_writer():
        folder.write(config, seeds)
        for own, history in zip(folders, histories, strict=True):
            own.write_metrics(history)
    session = Session(
        trainer,
        folders,
        [config.replace(seed=seed) for seed in seeds],
        states=states,
        histories=histories,
        compile_seconds=0.0 if checkpoint is None else checkpoint.compile_seconds,
        together=together,
    )
    return _finish(session, folder, on_epoch, on_stage)


def _finish(
    session: Session, folder: ManyFolder, on_epoch: OnEpoch | None, on_stage: OnStage | None
) -> list[Summary]:
    summaries = session.finish(on_epoch, on_stage)
    if is_writer():
        many = ManySummary.of(summaries, run=folder.path)
        write_atomically(folder.together.summary_path, (many.to_json(indent=2) + "\n").encode())
        write_many_report(folder.path, session.trainer.config, many, session.progress[2])
    return summaries
