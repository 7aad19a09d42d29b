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


@dataclass(frozen=True)
class PixelRange:
    """The units of the images of a fit, which those to predict have to be in.

    Attributes
    ----------
    low, high
        What pixels run from and to: bytes from 0 to 255, whatever these ones reach.
    whole
        Whether all are whole numbers.
    """

    low: float
    high: float
    whole: bool

    @classmethod
    def of(cls, images: np.ndarray) -> Self:
        """Of the images of a fit."""
        if images.dtype == np.uint8:
            return cls(0.0, 255.0, True)
        return cls(float(images.min()), float(images.max()), _are_whole(images))

    @property
    def white(self) -> float:
        """The brightest pixel, or 1 above it."""
        return max(1.0, self.high)

    def check(self, images: np.ndarray) -> None:
        """Raise `UserError` for images in other units.

        Only for what is sure: a batch may be darker than the images of the fit, or a little
        brighter, and resizing goes beyond a range by a fraction of it.
        """
        if images.dtype == np.uint8 and self.high == 255 and self.whole:
            return
        low, high = float(images.min()), float(images.max())
        known = self.low >= 0 and (self.high <= 1 or (self.high == 255 and self.whole))
        # The brightest of other images says less of what is white.
        beyond = high > self.white * (1.5 if known else 4.0)
        below = self.low >= 0 and low < -self.white / 2
        # Numbers from 0 to 1, or -1 to 1, after 0 to 16 or 0 to 255: with fractions where the
        # others had none, or with a brightest pixel of less than 2 % of theirs. Standardised ones
        # are negative as well, and small.
        largest = max(high, -low)
        fractions = self.whole and not _are_whole(images)
        unit = 0 < largest <= 1 and (fractions or self.high >= 64)
        unit = unit or (fractions and low < 0 and largest <= 0.05 * self.high)
        unit = unit and self.low >= 0 and self.high > 1
        if beyond or below or unit:
            hint = ""
            if self.low >= 0 and self.high <= 1 and low >= 0 and 1 < high <= 255:
                hint = " (divide them by 255)"
            elif unit and self.high == 255 and low >= 0:
                hint = " (multiply them by 255)"
            raise UserError(
                f"{_NAME}: pixels run from {low:g} to {high:g}, and those of the fit from "
                f"{self.low:g} to {self.high:g}: give images in the units of the fit{hint}"
            )


def _are_whole(images: np.ndarray) -> bool:
    return images.dtype.kind != "f" or bool((images == np.rint(images)).all())


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
    pixels
        Units of the images of the fit; None of a fit by qdeq 0.1, which did not keep them.
    """

    n_pixels: int
    white: float
    components: ImageComponents | None = None
    pixels: PixelRange | None = None

    @classmethod
    def fit(
        cls,
        images: np.ndarray,
        n_outputs: int,
        *,
        features: str,
        train: np.ndarray | None = None,
    ) -> Self:
        """For the images of a fit, with components of those that `train`; None: of all.

        255 is white of bytes, else 1 or the brightest pixel above it.
        """
        units = PixelRange.of(images)
        white = units.white
        usual = usual_n_features(n_outputs)
        n_pixels = fine_side(max(images.shape[1:3])) ** 2
        if features == "pool" or n_pixels <= usual:  # as many components would leave nothing out
            return cls(usual, white, pixels=units)
        pixels = image_features(images if train is None else images[train], n_pixels, white=white)
        components = ImageComponents.fit(pixels, usual_number(n_outputs, pixels))
        return cls(n_pixels, white, components, units)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Features `(N, d)` float32.

        Raises
        ------
        UserError
            For images in other units than those of the fit.
        """
        if self.pixels is not None:
            self.pixels.check(images)
        pixels = image_features(images, self.n_pixels, white=self.white)
        return pixels if self.components is None else self.components(pixels)
