"""A run of one seed or many in its folder: start it, resume it.

The epochs are in `qdeq.training`, what surrounds them in `session.py`; what a finished run is good
for is in `trained.py` and `evaluation.py`.
"""

import contextlib
import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path

from qdeq._arrays import arrays_to_tree
from qdeq.data import Dataset
from qdeq.data.dataset import check_dataset
from qdeq.data.table_files import fingerprint
from qdeq.errors import UserError, check_path
from qdeq.models import ModelFunction
from qdeq.names import OWN_DATA, OWN_MODEL
from qdeq.runs.dataset import absolute, dataset_of_run, files_of
from qdeq.runs.dataset import moved as moved
from qdeq.runs.run_folder import RunFolder
from qdeq.runs.seeds import check_seeds
from qdeq.runs.session import (
    OnEpoch,
    OnStage,
    Session,
    check_listeners,
    ignore,
    is_writer,
    make_trainer,
)
from qdeq.runs.session import TrainingInterrupted as TrainingInterrupted
from qdeq.runs.tracking import Track, Tracking, trackers_of
from qdeq.runs.trained import Run
from qdeq.runs.training_files import Checkpoint
from qdeq.training.config import TrainConfig, check_config
from qdeq.training.loop import Trainer
from qdeq.training.recommended import recommended
from qdeq.training.state import ModelMaker, TrainState


def train(
    config: TrainConfig | None = None,
    *,
    seeds: Sequence[int] | None = None,
    dataset: Dataset | None = None,
    model: ModelFunction | ModelMaker | None = None,
    out: str | Path | None = None,
    devices: int | None = None,
    on_epoch: OnEpoch | None = None,
    on_stage: OnStage | None = None,
    track: Track = None,
) -> Run:
    """Train from the start and write a run folder.

    Parameters
    ----------
    config
        What to train. None: for a table or a regression what `qdeq.training.recommended` says, else
        the paper's recipe.
    seeds
        Distinct seeds, trained together in one compiled program; `config.seed` then has no effect.
        Every seed ends with the results of a run of its own (up to the rounding of sums): its
        angles, the order of its batches and its dropout follow from its seed alone.
    dataset
        Your own data (`qdeq.data.from_arrays`); otherwise that which the configuration names.
    model
        Your own model function instead of the circuit that the configuration names: one whose
        present values are where every seed starts, or what makes one from a JAX key.
    out
        The run folder, which must be empty or not exist; `runs/<data>-<mode>-<time>` if None.
    devices
        Over how many of JAX's devices seeds, and then batches, are spread; all of them if None.
    on_epoch
        Called after every epoch with its line of `metrics.jsonl`, averaged over the seeds.
    on_stage
        Called when a stage begins: "loading data", "compiling", "training", "evaluating",
        "drawing".
    track
        Where else the run is followed: tensorboard, mlflow or wandb, several with commas, or an
        object with the methods of `Tracker`, or a list of such. Every seed is a run there.

    Returns
    -------
    Run
        The trained model; `run.summary` is what `summary.json` holds. The test split is used once,
        for the best model.

    Raises
    ------
    UserError
        When the data, the model or the folder cannot be had as configured.
    TrainingInterrupted
        On Ctrl-C or SIGTERM, after a checkpoint was written.

    Examples
    --------
    >>> run = train(TrainConfig(epochs=20), seeds=range(3), out="runs/three")  # doctest: +SKIP
    >>> f"{run.summary.spread('test_accuracy'):.3f}"  # doctest: +SKIP
    '0.931 ± 0.012'
    """
    check_config(config)
    check_listeners(on_epoch, on_stage)
    if dataset is not None:
        check_dataset(dataset)
    if config is None:
        is_table = dataset is not None and (dataset.preparation or dataset.targets)
        config = TrainConfig(**(recommended(dataset) if dataset and is_table else {}))
    trackers_of(track)  # a package that is missing, before anything is made
    config = absolute(config)
    if dataset is not None and not (config.is_file and dataset.source == config.data):
        own = dict.fromkeys(("target", "task", "test", "group", "weight", "ignore", "components"))
        config = config.replace(data=OWN_DATA, **own)
    if model is not None:
        config = config.replace(ansatz=OWN_MODEL)
    seeds = None if seeds is None else check_seeds(seeds)
    folder = _new_folder(config, out)
    with folder.held() if is_writer() else contextlib.nullcontext():
        try:
            (on_stage or ignore)("loading data")
            n_seeds = 1 if seeds is None else len(seeds)
            trainer = make_trainer(
                config, n_seeds=n_seeds, devices=devices, dataset=dataset, model=model
            )
            states = trainer.init_seeds(seeds or [config.seed])
            if is_writer():
                folder.write_config(config, seeds)
                files = {name: fingerprint(path) for name, path in files_of(config).items()}
                folder.write_data(trainer.dataset, files)
        except BaseException:  # a mistake in the configuration should leave no empty folder behind
            folder.discard()
            raise
        own_folders = [folder] if seeds is None else [folder.of_seed(seed) for seed in seeds]
        configs = [config] if seeds is None else [config.replace(seed=seed) for seed in seeds]
        session = Session(
            trainer,
            folder,
            own_folders,
            configs,
            states=states,
            histories=[[] for _ in range(n_seeds)],
            tracking=Tracking.of(folder, own_folders, configs, track) if is_writer() else None,
        )
        session.finish(on_epoch, on_stage)
    return Run(folder, model, config)


def resume(
    run: str | Path,
    *,
    epochs: int | None = None,
    data_dir: str | None = None,
    dataset: Dataset | None = None,
    model: ModelFunction | ModelMaker | None = None,
    config: TrainConfig | None = None,
    devices: int | None = None,
    on_epoch: OnEpoch | None = None,
    on_stage: OnStage | None = None,
    track: Track = None,
) -> Run:
    """Continue a run from its last checkpoint with its own configuration and seeds.

    The result is the one of an uninterrupted run, bit for bit on as many devices. A finished run
    is judged again.

    Parameters
    ----------
    run
        A run folder.
    epochs
        A new total number of epochs, to extend the run. Where the step size is constant the result
        is that of a run which had this number from the start; otherwise a warning says that it is
        not.
    data_dir
        Where the data set is now, if it has moved.
    dataset, model
        The data set and the model function again, of a run that was given them.
    config
        A configuration with the same objects (`TrainConfig(solver=...)`), of a run whose
        configuration held any.
    devices, on_epoch, on_stage
        As in `train`; `on_epoch` is called for new epochs only.
    track
        As in `train`; None goes on with those by name that the run had, in the same tracked run.

    Raises
    ------
    UserError
        When the folder is damaged or is no run folder, another process trains it, or fewer epochs
        are asked for than done.
    TrainingInterrupted
        On Ctrl-C or SIGTERM, after a checkpoint was written.
    """
    check_listeners(on_epoch, on_stage)
    folder = RunFolder.open(run)
    with folder.held() if is_writer() else contextlib.nullcontext():
        kept, seeds = moved(folder.read_config(), data_dir), folder.read_seeds()
        config = kept.given_again(config)
        if epochs is not None:
            config = config.replace(epochs=epochs)
        configs = [config.replace(seed=seed) for seed in seeds]
        seed_folders = folder.seed_folders()
        # A run that was killed before its first checkpoint simply starts again.
        started = folder.checkpoint_path.exists()
        started |= not folder.has_many_seeds and folder.metrics_path.exists()
        checkpoint = folder.read_checkpoint() if started else None
        finished = 0 if checkpoint is None else checkpoint.epoch
        if config.epochs < finished:
            raise UserError(
                f"epochs={config.epochs}: the run has finished {finished} epochs already; give at "
                "least that many"
            )
        if finished and kept.schedule != "constant" and config.epochs != kept.epochs:
            warnings.warn(
                f"epochs={config.epochs}: with schedule={kept.schedule!r} the step size fell along "
                f"{kept.epochs} epochs, so this run does not end with the model of a new run of "
                f"{config.epochs}, whose steps differ from the first epoch on",
                stacklevel=2,
            )
        if folder.has_many_seeds:
            _check_that_no_seed_went_ahead(folder, seed_folders, finished)
        (on_stage or ignore)("loading data")
        dataset = dataset_of_run(config, folder, dataset)
        trainer = make_trainer(
            config, n_seeds=len(seeds), devices=devices, dataset=dataset, model=model
        )
        tracking = None
        if is_writer():
            tracking = Tracking.of(folder, seed_folders, configs, track, epochs_done=finished)
        states, histories = trainer.init_seeds(seeds), [[] for _ in seeds]
        if checkpoint is not None:
            states = _restored(trainer, states, checkpoint, folder)
            histories = [own.read_metrics(epochs=finished) for own in seed_folders]
        if is_writer():
            folder.write_config(config, seeds if folder.has_many_seeds else None)
            if finished < config.epochs:
                folder.remove_summaries()
            for own, history in zip(seed_folders, histories, strict=True):
                own.write_metrics(history)
        session = Session(
            trainer,
            folder,
            seed_folders,
            configs,
            states=states,
            histories=histories,
            compile_seconds=0.0 if checkpoint is None else checkpoint.compile_seconds,
            tracking=tracking,
        )
        session.finish(on_epoch, on_stage)
    return Run(folder, model, config)


def _new_folder(config: TrainConfig, out: str | Path | None) -> RunFolder:
    """Take a run folder, or only name it in a process that does not write."""
    if not is_writer():
        return RunFolder(Path("runs" if out is None else out))
    if out is None:
        return RunFolder.create_in_runs(config)
    check_path("out", out)
    RunFolder(Path(out)).clear()
    return RunFolder.create(out)


def _restored(
    trainer: Trainer, states: TrainState, checkpoint: Checkpoint, folder: RunFolder
) -> TrainState:
    """The states of a checkpoint; one seed's has no seed axis."""
    source = folder.checkpoint_path
    if folder.has_many_seeds:
        return trainer.put(arrays_to_tree(states, checkpoint.arrays, source=source))
    return trainer.stack([arrays_to_tree(trainer.init(), checkpoint.arrays, source=source)])


def _check_that_no_seed_went_ahead(
    folder: RunFolder, seed_folders: Sequence[RunFolder], finished: int
) -> None:
    for own in seed_folders:
        if own.checkpoint_path.exists() and own.read_checkpoint().epoch > finished:
            raise UserError(
                f"run={str(folder.path)!r}: {own.path.name} was trained further on its own; move "
                "it away and restore it, or continue each seed with "
                f"`qdeq train --resume {shlex.quote(str(own.path))}`"
            )
