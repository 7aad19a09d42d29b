"""Principal components of images: fitted to those that train, kept as plain numbers.

scikit-learn fits them; images become features from the numbers alone, so that predicting needs no
scikit-learn and gives what training saw.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from qdeq.data.images import PAPER_SIDE, grid_side, usual_n_features
from qdeq.errors import UserError


@dataclass(frozen=True, eq=False, repr=False)
class ImageComponents:
    """Scores of the leading principal components, over one common deviation.

    Distances between images are kept, up to that one factor and what the other components hold.

    Parameters
    ----------
    mean
        `(P,)` pixels of the mean image, a square grid row by row.
    axes
        `(K, P)`: the components, each of length 1.
    scale
        Root of the components' mean variance, by which all scores are divided.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> pixels = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 16))
    >>> components = ImageComponents.fit(pixels, 2)
    >>> components
    ImageComponents(2 of 4 x 4 pixels)
    >>> components(pixels).shape
    (50, 2)
    >>> bool(np.allclose(components.images(components(pixels)), pixels, atol=1e-5))
    True
    """

    mean: np.ndarray
    axes: np.ndarray
    scale: float

    def __repr__(self) -> str:
        return f"ImageComponents({self.n_features} of {self.side} x {self.side} pixels)"

    @classmethod
    def fit(cls, pixels: np.ndarray, n_components: int) -> Self:
        """Learn from the images that train.

        Parameters
        ----------
        pixels
            `(N, P)` normalised pixels, a square grid row by row.
        n_components
            K, at most N and P.

        Raises
        ------
        UserError
            For more components than images or pixels.
        """
        from sklearn.decomposition import PCA

        check_number(n_components, pixels)
        # The covariance is pixels x pixels: exact, and the same on every run.
        pca = PCA(n_components, svd_solver="covariance_eigh").fit(pixels)
        scale = float(np.sqrt(pca.explained_variance_.mean()))
        mean, axes = np.asarray(pca.mean_, float), np.asarray(pca.components_, float)
        return cls(mean, axes, scale or 1.0)  # of images that are all the same every score is 0

    @property
    def side(self) -> int:
        """Of the grid of pixels."""
        return grid_side(len(self.mean))

    @property
    def n_features(self) -> int:
        """K."""
        return len(self.axes)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Normalised pixels `(N, P)` -> features `(N, K)` float32."""
        scores = (np.asarray(pixels, float) - self.mean) @ self.axes.T
        return (scores / self.scale).astype(np.float32)

    def images(self, features: np.ndarray) -> np.ndarray:
        """Features `(N, K)` -> `(N, P)` pixels: all that the features say of the images."""
        return self.mean + self.scale * (np.asarray(features, float) @ self.axes)

    def arrays(self) -> dict[str, np.ndarray]:
        """Its numbers by name."""
        return {"mean": self.mean, "axes": self.axes, "scale": np.array(self.scale)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """From what `arrays` returned."""
        return cls(arrays["mean"], arrays["axes"], float(arrays["scale"]))


def check_number(n_components: int, pixels: np.ndarray) -> None:
    """Raise `UserError` for what is no number of components that images `(N, P)` have."""
    if not isinstance(n_components, int | np.integer) or n_components < 1:
        raise UserError(f"n_features={n_components!r}: give a whole number of at least 1")
    most = min(pixels.shape)
    if n_components > most:
        raise UserError(
            f"n_features={n_components}: {len(pixels)} training images of {pixels.shape[1]} "
            f"pixels have at most {most} components, give that many or fewer"
        )


def usual_number(n_classes: int, pixels: np.ndarray) -> int:
    """As many components as the paper takes pooled pixels, where images `(N, P)` have them."""
    return min(usual_n_features(n_classes), *pixels.shape)


def fine_side(longest: int) -> int:
    """Side of the grid of which components are taken, for images of at most `longest` pixels.

    As fine as the images, and not finer than the paper's 28 x 28: a covariance is P x P.
    """
    return min(longest, PAPER_SIDE)
