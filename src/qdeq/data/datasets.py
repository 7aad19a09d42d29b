"""The named datasets, and `load`, which turns a name into features, labels and splits."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qdeq.data.cache import cached_arrays
from qdeq.data.components import ImageComponents
from qdeq.data.dataset import Dataset, Split
from qdeq.data.extractors import EXTRACTOR_VERSION, FEATURES, extract
from qdeq.data.images import PAPER_SIDE, grid_side, image_features
from qdeq.data.sources import Source, check_images, open_source
from qdeq.data.splits import assemble, check_fraction, stratified_indices
from qdeq.data.tables import ImageCollection
from qdeq.errors import check_choice

_DIGITS = ImageCollection(name="digits", classes=tuple(range(10)), side=8, white=16.0)
_MNIST = ImageCollection(
    name="mnist", classes=tuple(range(10)), side=28, hub="ylecun/mnist", hub_folder="mnist"
)
_FASHION = ImageCollection(
    name="fashion_mnist",
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    side=28,
    hub="zalando-datasets/fashion_mnist",
    hub_folder="fashion_mnist",
)
_CIFAR = ImageCollection(
    name="cifar10",
    classes=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    side=32,
    colour=True,
    hub="uoft-cs/cifar10",
    hub_folder="plain_text",
)

# The test samples of the digits, which have no official test set, are the same for every
# `split_seed`: results of different seeds are then comparable.
_DIGITS_TEST_FRACTION = 0.2
_DIGITS_TEST_SEED = 0


@dataclass(frozen=True)
class DatasetSpec:
    """A classification task on a published collection of images.

    Parameters
    ----------
    collection
        Where the images come from.
    labels
        The published labels that take part, in the order in which ``y`` counts them.
    n_features
        Default size of the pooled image.
    resize
        Side to resize to before pooling; None leaves the images as they are.
    """

    collection: ImageCollection
    labels: tuple[int, ...]
    n_features: int
    resize: int | None = None


#: The paper's tasks, and two on digits that need no download.
DATASETS: Mapping[str, DatasetSpec] = {
    "digits-4": DatasetSpec(_DIGITS, (0, 3, 6, 9), 16),
    "digits-10": DatasetSpec(_DIGITS, tuple(range(10)), 64),
    "mnist-4": DatasetSpec(_MNIST, (0, 3, 6, 9), 16),
    "mnist-10": DatasetSpec(_MNIST, tuple(range(10)), 100),
    "fashion-10": DatasetSpec(_FASHION, tuple(range(10)), 100),
    "cifar-10": DatasetSpec(_CIFAR, tuple(range(10)), 100, resize=PAPER_SIDE),
}


def load(
    name: str,
    *,
    n_features: int | None = None,
    features: str = "pool",
    data_dir: str | Path | None = None,
    valid_fraction: float = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """Load a named dataset as pooled, normalised features in three splits.

    The features follow Schleich et al. (2024) and their published code: pixels scaled to [0, 1],
    minus 0.1307, over 0.3081, average-pooled; CIFAR-10 is turned to grey (ITU-R BT.601) and
    resized to 28 x 28 bilinearly first. The official test set stays as it is and the official
    training set is split by `split_seed`; the digits, which have no official test set, hold out
    20 % of every class, the same for every seed.

    The pooled features of a collection are kept in the user's cache folder, see
    `qdeq.data.cache`.

    Parameters
    ----------
    name
        One of ``digits-4``, ``digits-10`` (built in), ``mnist-4``, ``mnist-10``, ``fashion-10``,
        ``cifar-10`` (need ``pip install "qdeq[data]"``). ``-4`` means the digits 0, 3, 6, 9.
    n_features
        A square, the number of cells of the pooled image: 16 and 100 on 28 x 28 images are the
        paper's windows, every other number is adaptive average pooling. None is 16 for the
        tasks with four classes, 64 for ``digits-10``, 100 for the other tasks with ten.
    features
        ``pool`` as above; ``pca`` or ``vae`` for `n_features` principal components, or latent
        means of a small variational autoencoder, of the images that are not pooled. Both are
        fitted to the training split alone, and `n_features` need not be a square. The result
        keeps the components, as `image_components`.
    data_dir
        A folder that holds ``mnist/``, ``fashion_mnist/`` or ``cifar10/`` with the Parquet files
        of the Hugging Face hub, or one of these folders itself. None downloads from the hub. The
        digits are built in and read no folder.
    valid_fraction
        Part of the training set that validates, between 0 and 1.
    split_seed
        Seed of the split into train and valid.

    Returns
    -------
    Dataset

    Raises
    ------
    UserError
        If the name, the number of features or the fraction is not valid, a file or the extra
        ``data`` is missing, the hub cannot be reached, or the data are damaged.

    Examples
    --------
    >>> digits = load("digits-4")
    >>> digits.train.x.shape, digits.valid.x.shape, digits.test.x.shape
    ((461, 16), (116, 16), (145, 16))
    >>> digits.classes
    (0, 3, 6, 9)
    """
    check_choice("data", name, DATASETS)
    check_choice("features", features, FEATURES)
    check_fraction("valid_fraction", valid_fraction)
    spec = DATASETS[name]
    n_features = spec.n_features if n_features is None else n_features
    source = open_source(spec.collection, data_dir)
    if features != "pool":
        return _load_extracted(name, source, features, n_features, valid_fraction, split_seed)
    side = grid_side(n_features)
    key = {"source": source.fingerprint(), "n_features": n_features, "resize": spec.resize}
    arrays = cached_arrays(
        f"{spec.collection.name}-{n_features}", key, lambda: _compute(spec, source, n_features)
    )
    return _assemble(name, arrays, side, valid_fraction, split_seed)


def _assemble(
    name: str,
    arrays: Mapping[str, np.ndarray],
    side: int,
    valid_fraction: float,
    split_seed: int,
) -> Dataset:
    spec = DATASETS[name]
    parts = {
        part: _choose(Split(arrays[f"{part}_x"], arrays[f"{part}_y"]), spec.labels)
        for part in ("train", "test")
    }
    return assemble(
        name,
        parts["train"],
        parts["test"],
        classes=[spec.collection.classes[label] for label in spec.labels],
        image_shape=(side, side),
        valid_fraction=valid_fraction,
        split_seed=split_seed,
    )


def _load_extracted(
    name: str,
    source: Source,
    features: str,
    n_features: int,
    valid_fraction: float,
    split_seed: int,
) -> Dataset:
    spec = DATASETS[name]
    key = {
        "source": source.fingerprint(),
        "labels": spec.labels,
        "features": features,
        "version": EXTRACTOR_VERSION,
        "n_features": n_features,
        "resize": spec.resize,
        "valid_fraction": valid_fraction,
        "split_seed": split_seed,
    }

    def compute() -> dict[str, np.ndarray]:
        # Every pixel is a feature: the grid is as fine as the image, and 200 MB are not cached.
        side = spec.resize or spec.collection.side
        arrays = _compute(spec, source, side * side)
        images = _assemble(name, arrays, side, valid_fraction, split_seed)
        learnt = extract(images, features, n_features)
        parts = {"train": learnt.train, "valid": learnt.valid, "test": learnt.test}
        found = {f"{part}_{a}": getattr(split, a) for part, split in parts.items() for a in "xy"}
        return found | (learnt.image_components.arrays() if learnt.image_components else {})

    arrays = cached_arrays(f"{name}-{features}-{n_features}", key, compute)
    classes = tuple(spec.collection.classes[label] for label in spec.labels)

    def split(part: str) -> Split:
        return Split(arrays[f"{part}_x"], arrays[f"{part}_y"])

    parts = split("train"), split("valid"), split("test")
    components = ImageComponents.of_arrays(arrays) if features == "pca" else None
    shape = (1, n_features)
    return Dataset(name, *parts, classes, image_shape=shape, image_components=components)


def _compute(spec: DatasetSpec, source: Source, n_features: int) -> dict[str, np.ndarray]:
    # All classes: tasks on the same collection share one file of features.
    collection = spec.collection
    arrays = {}
    for split, raw in source.read().items():
        check_images(raw, f"{collection.name} {split} images")
        x = image_features(raw.images, n_features, white=collection.white, resize=spec.resize)
        y = raw.labels.astype(np.int32)
        if split == "all":
            kept, held_out = stratified_indices(
                y, fraction=_DIGITS_TEST_FRACTION, seed=_DIGITS_TEST_SEED
            )
            arrays |= {"train_x": x[kept], "train_y": y[kept]}
            arrays |= {"test_x": x[held_out], "test_y": y[held_out]}
        else:
            arrays |= {f"{split}_x": x, f"{split}_y": y}
    return arrays


def _choose(split: Split, labels: tuple[int, ...]) -> Split:
    wanted = np.isin(split.y, labels)
    position = np.full(max(labels) + 1, -1, dtype=np.int32)
    position[list(labels)] = np.arange(len(labels))
    return Split(split.x[wanted], position[split.y[wanted]])
