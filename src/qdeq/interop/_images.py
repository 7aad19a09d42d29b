"""Images in scikit-learn's place of a table: pooled to the few pixels that a circuit takes."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from qdeq.data.arrays import sample_array
from qdeq.data.images import (
    are_image_shaped,
    check_finite,
    grid_side,
    image_features,
    usual_n_features,
)
from qdeq.errors import UserError

_NAME = "images X"


def are_images(x: Any) -> bool:
    """Whether samples have more than one axis: `(N, H, W)`, `(N, H, W, 3)`, `(N, 3, H, W)`."""
    return getattr(x, "ndim", 2) > 2


def image_array(x: Any) -> np.ndarray:
    """Images as `(N, H, W)` or `(N, H, W, 3)`.

    Raises
    ------
    UserError
        For other shapes, what are no numbers, and NaN or infinity.
    """
    pixels = sample_array(x, _NAME)
    if not are_image_shaped(pixels) or pixels.dtype.kind not in "buif" or 0 in pixels.shape:
        raise UserError(
            f"{_NAME} have the shape {pixels.shape} and type {pixels.dtype}: give (N, H, W) or "
            "(N, H, W, 3), as real numbers, or features (N, d)"
        )
    check_finite(pixels, _NAME)
    return pixels


@dataclass(frozen=True)
class ImagePooling:
    """How images become the rows of a table, as `qdeq.data.from_arrays` does it.

    Attributes
    ----------
    n_features
        Pooled pixels.
    white
        The pixel value of full brightness.
    """

    n_features: int
    white: float

    @classmethod
    def of(cls, images: np.ndarray, n_outputs: int) -> Self:
        """For training images: 255 is white of bytes, else 1 or the brightest pixel above it."""
        white = 255.0 if images.dtype == np.uint8 else max(1.0, float(images.max()))
        return cls(usual_n_features(n_outputs), white)

    @property
    def n_qubits(self) -> int:
        """As many as the pooled image has rows."""
        return grid_side(self.n_features)

    def rows(self, images: np.ndarray) -> np.ndarray:
        """Normalised pooled pixels `(N, n_features)`."""
        return image_features(images, self.n_features, white=self.white)
