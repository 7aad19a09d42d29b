"""What the workloads are fed with: pooled images, real ones where a data folder is given.

Without a folder, scikit-learn's digits are drawn as MNIST draws its own: scaled into a box of 20
pixels, shifted inside a frame of 28 x 28, then normalised and pooled like every other image.
"""

from dataclasses import dataclass

import numpy as np

from qdeq.data import Dataset, Split, load
from qdeq.data.images import bilinear_matrix, image_features

_BOX, _FRAME = 20, 28
_DIGITS_4 = (0, 3, 6, 9)


@dataclass(frozen=True)
class Inputs:
    """Features and labels of a workload.

    Attributes
    ----------
    x, y
        `(N, d)` float32 and `(N,)` int32.
    n_classes
        C.
    source
        Where the images come from, for the result file.
    """

    x: np.ndarray
    y: np.ndarray
    n_classes: int
    source: str

    def dataset(self) -> Dataset:
        """The same samples as train, valid and test split of a data set."""
        split = Split(self.x, self.y)
        side = int(np.sqrt(self.x.shape[1]))
        classes = tuple(range(self.n_classes))
        return Dataset(
            name="benchmark",
            train=split,
            valid=split,
            test=split,
            classes=classes,
            image_shape=(side, side),
        )


def make_inputs(n_samples: int, n_qubits: int, *, data_dir: str | None = None) -> Inputs:
    """Samples with n_qubits**2 features: 4 classes for 4 qubits and fewer, otherwise 10.

    Parameters
    ----------
    n_samples
        N; samples repeat where the source has fewer.
    n_qubits
        Decides the pooling, as in the paper.
    data_dir
        Folder with MNIST's files; None draws scikit-learn's digits.
    """
    n_features, few = n_qubits**2, n_qubits <= 4
    if data_dir is not None:
        name = "mnist-4" if few else "mnist-10"
        dataset = load(name, data_dir=data_dir, n_features=n_features)
        chosen = np.arange(n_samples) % len(dataset.train.y)
        return Inputs(dataset.train.x[chosen], dataset.train.y[chosen], dataset.n_classes, name)
    images, labels = _drawn_digits(n_samples, _DIGITS_4 if few else tuple(range(10)))
    x = image_features(images, n_features, white=16.0)
    source = "digits drawn as MNIST (built in)"
    return Inputs(x, labels, 4 if few else 10, source)


def _drawn_digits(n_samples: int, classes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    pixels, target = load_digits(return_X_y=True)
    images = np.asarray(pixels).reshape(-1, 8, 8)
    target = np.asarray(target)
    generator = np.random.default_rng(0)
    chosen = generator.choice(np.flatnonzero(np.isin(target, classes)), n_samples)
    enlarge = bilinear_matrix(images.shape[1], _BOX)
    large = enlarge @ images[chosen] @ enlarge.T
    frames = np.zeros((n_samples, _FRAME, _FRAME))
    corners = generator.integers(2, 7, size=(n_samples, 2))  # MNIST centres by mass: 4 +- 2 pixels
    for frame, image, (row, column) in zip(frames, large, corners, strict=True):
        frame[row : row + _BOX, column : column + _BOX] = image
    labels = np.searchsorted(np.array(classes), target[chosen]).astype(np.int32)
    return frames, labels
