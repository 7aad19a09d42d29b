"""From a table of embedded image files to arrays, with a check of everything that it claims.

What a collection is, and how a table of one is decoded; where tables are read is `sources`.
"""

import contextlib
import importlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdeq.errors import UserError


@dataclass(frozen=True)
class ImageCollection:
    """A published collection of labelled images.

    Parameters
    ----------
    name
        Name of its folder under ``data_dir``.
    classes
        Class names in the order of the labels.
    side
        Height and width of every image, in pixels.
    white
        The pixel value of full brightness.
    colour
        Whether images have three channels.
    hub
        Name of the dataset on the Hugging Face hub; None for the built-in digits.
    hub_folder
        Folder of the Parquet files inside the hub's repository.
    """

    name: str
    classes: tuple[int | str, ...]
    side: int
    white: float = 255.0
    colour: bool = False
    hub: str | None = None
    hub_folder: str = ""


@dataclass(frozen=True, eq=False)
class RawImages:
    """Images as published: ``images`` (N, H, W) or (N, H, W, 3), ``labels`` (N,) integers."""

    images: np.ndarray
    labels: np.ndarray


def raw_images(table: Any, collection: ImageCollection, where: str) -> RawImages:
    """Check a table of the hub's form and decode its images.

    Parameters
    ----------
    table
        A `pyarrow.Table` with the columns ``image`` or ``img`` (embedded PNG or JPEG files) and
        ``label``.
    collection
        What the table should hold.
    where
        Where it comes from, for messages.

    Returns
    -------
    RawImages

    Raises
    ------
    UserError
        If columns, class names, labels or the size of an image are not those of `collection`,
        or an image cannot be decoded.
    """
    columns = table.column_names
    if len(set(columns)) < len(columns):
        raise UserError(f"{where} has two columns of one name ({', '.join(columns)}): keep one")
    image_column = next((name for name in ("image", "img") if name in columns), None)
    if image_column is None or "label" not in columns:
        raise UserError(
            f"{where} has the columns {', '.join(columns)}: "
            "expected image (or img) and label, as on the Hugging Face hub"
        )
    _check_class_names(table.schema.metadata, collection, where)
    if len(table) == 0:
        raise UserError(f"{where} holds no images: fetch the files again")
    column = table.column("label")
    if column.null_count or not require("pyarrow").types.is_integer(column.type):
        raise UserError(
            f"{where}: the column label has the type {column.type} and {column.null_count} empty "
            "rows: it must hold a whole number in every row"
        )
    labels = column.to_numpy()
    _check_label_range(labels, len(collection.classes), where)
    images = _decode(table.column(image_column), collection, where)
    return RawImages(images, labels)


def _check_class_names(
    metadata: Mapping[bytes, bytes] | None, collection: ImageCollection, where: str
) -> None:
    # Files written by `datasets` carry their class names. They catch the one mistake that nothing
    # else would: FashionMNIST has the size, the columns and the labels of MNIST.
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        found = [*map(str, features["label"]["names"])]
    except (KeyError, TypeError, ValueError):
        return
    if _plain(found) != _plain(collection.classes):
        raise UserError(
            f"{where} has the classes {', '.join(found)}: "
            f"these are not the classes of {collection.name}, so point data_dir elsewhere"
        )


def _plain(names: Sequence[int | str]) -> list[str]:
    return ["".join(filter(str.isalnum, str(name))).lower() for name in names]


def _check_label_range(labels: np.ndarray, n_classes: int, where: str) -> None:
    bad = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(bad):
        raise UserError(
            f"{where}: label {labels[bad[0]]} at index {bad[0]} is out of range "
            f"({len(bad)} such labels): labels run from 0 to {n_classes - 1}"
        )


def _decode(column: Any, collection: ImageCollection, where: str) -> np.ndarray:
    pillow = require("PIL.Image")
    side = collection.side
    shape = (len(column), side, side, 3) if collection.colour else (len(column), side, side)
    images = np.empty(shape, dtype=np.uint8)
    index = 0
    for chunk in column.chunks:
        for row in chunk:
            cell = row.as_py()
            data = cell.get("bytes") if isinstance(cell, dict) else None
            if data is None:
                raise UserError(
                    f"{where}: row {index} holds no image bytes: "
                    "the image column must embed the files, as on the Hugging Face hub"
                )
            try:
                image = pillow.open(io.BytesIO(data))
                # Before anything is unpacked: a small file may claim to be a large image.
                width, height = image.size
                fits = (height, width) == (side, side)
                pixels = image_pixels(image, colour=collection.colour) if fits else None
            # Pillow passes on whatever its decoders raise.
            except Exception as error:
                raise UserError(
                    f"{where}: the image at index {index} cannot be decoded "
                    f"({first_line(error)}): fetch the file again"
                ) from error
            if pixels is None:
                raise UserError(
                    f"{where}: the image at index {index} has {height} x {width} pixels: "
                    f"{collection.name} has {side} x {side}"
                )
            images[index] = pixels
            index += 1
    return images


def image_pixels(image: Any, *, colour: bool) -> np.ndarray:
    """Grey ``(H, W)`` or colour ``(H, W, 3)`` from 0 to 255 of a Pillow image of any mode.

    Turned as its camera says (EXIF), and on white where it is transparent.

    Raises
    ------
    ValueError
        For pixels whose range is not known: floating point, whole numbers beyond 16 bits.
    """
    white = _white_of_integers(image)
    _turn_upright(image)
    if image.mode.startswith("I"):
        grey = _bytes_of_integers(image, white)
        return np.repeat(grey[:, :, None], 3, axis=2) if colour else grey
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers without a known range")
    if image.mode == "La":  # Pillow converts it to nothing else
        image = image.convert("LA")
    if image.has_transparency_data:
        image = _on_white(image)
    mode = "RGB" if colour else "L"
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    return np.asarray(image if image.mode == mode else image.convert(mode))


def _turn_upright(image: Any) -> None:
    image.load()
    # A file whose notes are damaged still has its pixels, and every viewer shows them as they lie.
    with contextlib.suppress(Exception):
        require("PIL.ImageOps").exif_transpose(image, in_place=True)


def _white_of_integers(image: Any) -> int | None:
    """Full brightness of a file of more than 8 bits, None where its format does not say it."""
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(258, (16,))[0]  # BitsPerSample of TIFF, 12 or 16
        return 2**bits - 1
    # Pillow scales PGM of more than 8 bits to 65535; PNG has no wider pixels.
    return 65535 if image.mode == "I" and image.format in ("PNG", "PPM") else None


def _bytes_of_integers(image: Any, white: int | None) -> np.ndarray:
    # Pillow's own conversion clips at 255. 65535 is 255 times 257: every 8-bit image that was
    # stored in 16 bits comes back as it was.
    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ValueError(f"its pixels run from {low} to {high}, not from 0 to 65535")
    if white is None:
        white = 255 if high <= 255 else 65535
    transparent = image.info.get("transparency")  # of PNG, the one value that is
    if isinstance(transparent, int):
        values[values == transparent] = white
    return np.rint(values * (255 / white)).astype(np.uint8)


def _on_white(image: Any) -> Any:
    """Without transparency: the pixels under it may hold anything, mostly black."""
    mode = "LA" if image.mode in ("1", "L", "LA") else "RGBA"
    if image.mode in ("1", "L", "P"):
        image = image.convert("RGBA")
    pixels = np.asarray(image.convert(mode)).astype(np.float64)
    light, alpha = pixels[..., :-1], pixels[..., -1:] / 255
    shown = np.rint(light * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return require("PIL.Image").fromarray(shown[..., 0] if mode == "LA" else shown)


def require(module: str) -> Any:
    """Import a module of the extra ``data``, or raise `UserError` that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(
            f"this kind of data needs the package {package}, which is not installed: "
            'run pip install "qdeq[data]"'
        ) from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's message: a `UserError` is one sentence."""
    return (str(error).strip() or "no message").splitlines()[0]
