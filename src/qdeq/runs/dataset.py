"""The data set of a configuration. Imports no JAX, so that classical baselines start fast."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from qdeq.data import Dataset, ImageComponents, TablePreparation, load
from qdeq.data.dataset import check_dataset
from qdeq.data.files import load_file
from qdeq.data.table_files import existing, fingerprint
from qdeq.errors import UserError
from qdeq.names import OWN_DATA
from qdeq.training.config import TrainConfig

if TYPE_CHECKING:
    from qdeq.runs.run_folder import RunFolder

_NOT_AS_TRAINED = "restore it, train again, or give new rows to `qdeq predict`"


def load_dataset(
    config: TrainConfig,
    preparation: TablePreparation | None = None,
    image_components: ImageComponents | None = None,
) -> Dataset:
    """The configured data set, pooled or prepared, and split.

    Parameters
    ----------
    config
        What to load.
    preparation, image_components
        Those that were fitted to the same table or images before.

    Raises
    ------
    UserError
        When it cannot be had as configured: a missing file, too large a grid, a missing class.
    """
    if config.data == OWN_DATA:
        raise UserError(
            "data='own': the data set was given in Python (qdeq.train(config, dataset=...)), and "
            "has to be given again: dataset=..."
        )
    if config.is_file:
        return load_file(
            config.data,
            target=config.target,
            task=config.task,
            test=config.test,
            group=config.group,
            weight=config.weight,
            ignore=config.ignore or (),
            components=config.components,
            n_features=config.n_features,
            features=config.features,
            valid_fraction=config.valid_fraction,
            split_seed=config.split_seed,
            preparation=preparation,
            image_components=image_components,
        )
    return load(
        config.data,
        n_features=config.n_features,
        features=config.features,
        data_dir=config.data_dir,
        valid_fraction=config.valid_fraction,
        split_seed=config.split_seed,
    )


def dataset_of_run(
    config: TrainConfig, folder: "RunFolder", dataset: Dataset | None = None
) -> Dataset:
    """The data set of a run folder again, as it was in training.

    Parameters
    ----------
    config
        Of the run, with its files where they are now (`moved`).
    folder
        The run folder.
    dataset
        One that was given again: it is taken if it is the run's.

    Raises
    ------
    UserError
        As `load_dataset`, or if a file has changed since, or another data set is given.
    """
    if dataset is not None:
        check_dataset(dataset)
        folder.check_same_data(dataset)
        return dataset
    if not config.is_file:
        return load_dataset(config)
    before = folder.read_files()
    for name, path in files_of(config).items():
        if not Path(path).exists():
            raise UserError(
                f"run={str(folder.path)!r}: its data {path} are not there any more: give the "
                "folder that they are in now (--data-dir)"
            )
        now, then = fingerprint(path), before.get(name, {})
        if then and (now["size"], now["sha256"]) != (then["size"], then["sha256"]):
            sizes = f"{then['size']:,} bytes then, {now['size']:,} now"
            raise UserError(f"{path} has changed since the run ({sizes}): {_NOT_AS_TRAINED}")
    return load_dataset(config, folder.read_preparation(), folder.read_image_components())


def files_of(config: TrainConfig) -> dict[str, str]:
    """Paths of the user's own files by what they are for."""
    if not config.is_file:
        return {}
    return {"data": config.data} | ({} if config.test is None else {"test": config.test})


def absolute(config: TrainConfig) -> TrainConfig:
    """The configuration with absolute paths of its data, found from any folder.

    Where it has a `data_dir`, files of the user's own have been moved there.

    Raises
    ------
    UserError
        If one is not there.
    """
    if config.is_file and config.data_dir is not None:
        return moved(config, config.data_dir)
    paths = {name: str(existing(path).resolve()) for name, path in files_of(config).items()}
    folder = os.path.expanduser(config.data_dir or "")
    if os.path.isdir(folder):  # else who reads it names what was given
        paths["data_dir"] = str(Path(folder).resolve())
    return config.replace(**paths) if paths else config


def moved(config: TrainConfig, data_dir: str | None) -> TrainConfig:
    """The configuration with the data set's present folder, if it has moved."""
    if data_dir is None:
        return config
    if not config.is_file:
        return absolute(config.replace(data_dir=data_dir))
    folder = existing(data_dir)
    paths = {name: folder / Path(path).name for name, path in files_of(config).items()}
    found = {name: str(path) for name, path in paths.items()}
    return absolute(config.replace(data_dir=None, **found))
