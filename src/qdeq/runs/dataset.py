"""The data set of a configuration. Imports no JAX, so that classical baselines start fast."""

from qdeq.data import Dataset, load
from qdeq.errors import UserError
from qdeq.names import OWN_DATA
from qdeq.training.config import TrainConfig


def load_dataset(config: TrainConfig) -> Dataset:
    """The configured data set, pooled and split.

    Raises
    ------
    UserError
        When it cannot be had as configured: a missing folder, too large a grid, a missing class.
    """
    if config.data == OWN_DATA:
        raise UserError(
            "data='own': the data set was given in Python (qdeq.train(config, dataset=...)), and "
            "has to be given again: dataset=..."
        )
    return load(
        config.data,
        n_features=config.n_features,
        features=config.features,
        data_dir=config.data_dir,
        valid_fraction=config.valid_fraction,
        split_seed=config.split_seed,
    )
