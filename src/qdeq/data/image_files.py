"""Images in files: a folder of them, one alone, or arrays, read in parts of bounded memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qdeq._folders import say_once
from qdeq.data.frames import listing
from qdeq.data.image_folders import IMAGE_ENDINGS, image_paths, is_image
from qdeq.data.images import are_blank, are_image_shaped, check_finite, image_features
from qdeq.data.table_files import ending_of, existing, read_arrays_file
from qdeq.data.tables import image_pixels, require
from qdeq.errors import UserError


@dataclass(frozen=True, eq=False)
class ImageRows:
    """Images to be read.

    Attributes
    ----------
    source
        The folder or file that was named.
    names
        Of the files, relative to the folder; None of arrays, which have none.
    arrays
        The images of a `.npz` file; None of files.
    """

    source: Path
    names: tuple[str, ...] | None
    arrays: np.ndarray | None

    @property
    def n_rows(self) -> int:
        """How many images there are."""
        return len(self.names or ()) if self.arrays is None else len(self.arrays)

    def features(
        self, start: int, stop: int, n_features: int, *, resize: int | None = None
    ) -> np.ndarray:
        """Of the images from `start` to before `stop`, `(n, n_features)`; blank ones are named."""
        where = str(self.source)
        if self.arrays is not None:
            images = list(self.arrays[start:stop])
            white, names = white_of(self.arrays), [f"index {row}" for row in range(start, stop)]
        else:
            folder = self.source if self.source.is_dir() else self.source.parent
            names = (self.names or ())[start:stop]
            images, white = [read_image(folder / name) for name in names], 255.0
        # A blank image has an answer as any other; one of them is no reason to give none at all.
        return pooled(images, n_features, white, where, resize, names=names, on_blank=say_once)


def find_images(path: str | Path) -> ImageRows:
    """The images of a folder and the folders in it, in the order of their names; one file; `.npz`.

    Raises
    ------
    UserError
        If there is none, or the array `x` of a `.npz` file holds no images.
    """
    path = existing(path)
    if path.is_dir():
        files = image_paths(path)
        if not files:
            raise UserError(f"{path} holds no image: give a folder of {', '.join(IMAGE_ENDINGS)}")
        return ImageRows(path, tuple(p.relative_to(path).as_posix() for p in files), None)
    if is_image(path):
        return ImageRows(path, (path.name,), None)
    if ending_of(path) != ".npz":
        raise UserError(
            f"{path}: the run was trained on images: give a folder of them, one file "
            f"({', '.join(IMAGE_ENDINGS)}), or a .npz file with x"
        )
    arrays = read_arrays_file(path)
    if "x" not in arrays:
        raise UserError(f"{path} has the arrays {listing(list(arrays)) or 'none'}: it needs x")
    check_image_array(arrays["x"], f"{path}: x")
    return ImageRows(path, None, arrays["x"])


def check_image_array(x: np.ndarray, where: str) -> None:
    """Raise `UserError` for what are no images, or pixels out of range."""
    if not are_image_shaped(x) or x.dtype.kind not in "fiub" or not len(x):
        raise UserError(
            f"{where} has the shape {x.shape}: give images (N, H, W) or (N, H, W, 3), as numbers"
        )
    white = white_of(x)
    if x.min() < 0 or x.max() > white:
        raise UserError(
            f"{where}: pixels run from {x.min()} to {x.max()}, outside 0 to {white:g}: "
            "give bytes, or numbers from 0 to 1"
        )


def white_of(images: np.ndarray) -> float:
    """Full brightness: 255 of whole numbers, else 1."""
    return 255.0 if images.dtype.kind in "iu" else 1.0


def pooled(
    images: Sequence[np.ndarray],
    n_features: int,
    white: float,
    where: str,
    resize: int | None = None,
    *,
    names: Sequence[str],
    on_blank: Callable[[str], object] | None = None,
) -> np.ndarray:
    """Features ``(N, n_features)``; images of one shape are pooled together.

    Raises
    ------
    UserError
        For NaN and infinity, and, unless `on_blank` takes the line about them, for blank images.
    """
    x = np.empty((len(images), n_features), dtype=np.float32)
    shapes = [image.shape for image in images]
    blank = np.zeros(len(images), dtype=bool)
    for shape in dict.fromkeys(shapes):
        rows = [row for row, other in enumerate(shapes) if other == shape]
        same = np.stack([images[row] for row in rows])
        check_finite(same, where)
        blank[rows] = are_blank(same)
        x[rows] = image_features(same, n_features, white=white, resize=resize)
    if blank.any():
        found = listing([names[row] for row in np.flatnonzero(blank).tolist()], 5)
        what = f"{where}: {blank.sum()} of {len(images)} images are blank (every pixel is the same)"
        if on_blank is None:
            raise UserError(f"{what}: remove {found}")
        on_blank(f"{what} and predicted as any other: {found}")
    return x


def read_image(path: Path) -> np.ndarray:
    """Grey ``(H, W)`` or colour ``(H, W, 3)`` from 0 to 255."""
    pillow = require("PIL.Image")
    try:
        # By its name, Pillow 13 maps an uncompressed TIFF into memory and scrambles one that its
        # camera held upright (the size of the turned image is taken for that of the rows).
        with path.open("rb") as file, pillow.open(file) as image:
            grey = image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")
            return image_pixels(image, colour=not grey)
    except Exception as error:  # Pillow passes on whatever its decoders raise
        raise UserError(f"{path} cannot be read as an image ({error}): mend or remove it") from (
            error
        )
