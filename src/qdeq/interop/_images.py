"""Images in scikit-learn's place of a table: the few numbers of each that a circuit takes."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from qdeq.data.arrays import sample_array
from qdeq.data.components import ImageComponents, fine_side, usual_number
from qdeq.data.images import (
    are_image_shaped,
    check_finite,
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


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """How images become the rows of a table, as `qdeq.data.from_arrays` does it.

    Attributes
    ----------
    n_pixels
        Of the square grid that images are pooled to.
    white
        The pixel value of full brightness.
    components
        What is made of the pixels; None takes them as they are.
    """

    n_pixels: int
    white: float
    components: ImageComponents | None = None

    @classmethod
    def fit(cls, images: np.ndarray, n_outputs: int, *, features: str) -> Self:
        """For training images: 255 is white of bytes, else 1 or the brightest pixel above it."""
        white = 255.0 if images.dtype == np.uint8 else max(1.0, float(images.max()))
        usual = usual_n_features(n_outputs)
        n_pixels = fine_side(max(images.shape[1:3])) ** 2
        if features == "pool" or n_pixels <= usual:  # as many components would leave nothing out
            return cls(usual, white)
        pixels = image_features(images, n_pixels, white=white)
        components = ImageComponents.fit(pixels, usual_number(n_outputs, pixels))
        return cls(n_pixels, white, components)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Features `(N, d)` float32."""
        pixels = image_features(images, self.n_pixels, white=self.white)
        return pixels if self.components is None else self.components(pixels)
