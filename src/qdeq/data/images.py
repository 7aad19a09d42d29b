"""From pixels to features: grey, normalise, resize, pool, and refuse images that carry nothing.

Works on arrays in memory; where they come from is `sources`, how they are split is `splits`.
Every resize and every pooling here is linear and separable, so each one is a small matrix
that acts on the rows and on the columns of an image: ``pooled = A image B^T``.
"""

import math
import numbers

import numpy as np

from qdeq.errors import UserError

#: Mean and standard deviation of MNIST's training pixels. The paper uses them for every dataset.
PIXEL_MEAN = 0.1307
PIXEL_DEVIATION = 0.3081

#: ITU-R BT.601 weights of red, green and blue.
LUMA = (0.299, 0.587, 0.114)

#: Side of the images that the paper pools; CIFAR is resized to it.
PAPER_SIDE = 28

# Images per step of `image_features`: float64 copies of 4096 images of 28 x 28 are 26 MB.
_CHUNK = 4096


def grid_side(n_features: int) -> int:
    """Return the side of the square grid with `n_features` cells.

    Parameters
    ----------
    n_features
        Number of pooled pixels, a square.

    Raises
    ------
    UserError
        If `n_features` is not a positive square.

    Examples
    --------
    >>> grid_side(100)
    10
    """
    whole = isinstance(n_features, numbers.Integral) and n_features > 0
    side = math.isqrt(n_features) if whole else 0
    if side == 0 or side * side != n_features:
        raise UserError(
            f"n_features={n_features!r}: images are pooled to a square grid, "
            "so give a square number such as 16, 64 or 100"
        )
    return side


def usual_n_features(n_classes: int) -> int:
    """Pooled pixels of an image unless others are asked for: as many as the paper takes.

    >>> usual_n_features(4), usual_n_features(10)
    (16, 100)
    """
    return 16 if n_classes <= 4 else 100


def are_image_shaped(samples: np.ndarray) -> bool:
    """Whether samples are grey ``(N, H, W)`` or colour ``(N, H, W, 3)``."""
    return samples.ndim == 3 or (samples.ndim == 4 and samples.shape[3] == 3)


def grey(images: np.ndarray) -> np.ndarray:
    """Turn colour into luminance by the ITU-R BT.601 weights, in floating point.

    The published code converts after scaling to floats, so nothing is rounded to whole grey
    levels here either (Pillow's ``convert("L")`` would round; the difference is at most half a
    level of 255).

    Parameters
    ----------
    images
        ``(N, H, W, 3)``, red, green, blue, any real type.

    Returns
    -------
    np.ndarray
        ``(N, H, W)`` float64, in the units of the input.
    """
    return images @ np.asarray(LUMA)


def normalise(images: np.ndarray, *, white: float = 255.0) -> np.ndarray:
    """Scale pixels to [0, 1], subtract 0.1307, divide by 0.3081.

    Parameters
    ----------
    images
        Any shape, any real type.
    white
        The pixel value of full brightness: 255 for bytes, 16 for scikit-learn's digits.

    Returns
    -------
    np.ndarray
        Same shape, float64. Black is -0.4242, white 2.8215.
    """
    return (images / white - PIXEL_MEAN) / PIXEL_DEVIATION


def bilinear_matrix(size: int, side: int) -> np.ndarray:
    """Return the linear interpolation of `size` samples at `side` positions.

    Pixel centres sit at half integers (``align_corners=False``), positions outside the first and
    last centre take the edge value, and shrinking does not smooth first (no antialiasing).

    Parameters
    ----------
    size
        Number of pixels along the axis.
    side
        Number of pixels wanted.

    Returns
    -------
    np.ndarray
        ``(side, size)`` float64, every row sums to 1.
    """
    position = np.clip((np.arange(side) + 0.5) * (size / side) - 0.5, 0, size - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, size - 1)
    weight = position - low
    matrix = np.zeros((side, size))
    np.add.at(matrix, (np.arange(side), low), 1 - weight)
    np.add.at(matrix, (np.arange(side), high), weight)
    return matrix


def _window_matrix(size: int, window: int, stride: int, padding: int) -> np.ndarray:
    # Padding counts: a window that hangs over the edge still divides by its full width.
    side = (size + 2 * padding - window) // stride + 1
    first = np.arange(side)[:, None] * stride - padding
    pixel = np.arange(size)[None, :]
    return ((pixel >= first) & (pixel < first + window)) / window


def _adaptive_matrix(size: int, side: int) -> np.ndarray:
    # Window i covers floor(i size/side) .. ceil((i+1) size/side), the usual adaptive average.
    cell = np.arange(side)[:, None]
    first, last = cell * size // side, -(-(cell + 1) * size // side)
    pixel = np.arange(size)[None, :]
    inside = (pixel >= first) & (pixel < last)
    return inside / (last - first)


def pooling_matrix(size: int, side: int) -> np.ndarray:
    """Return the matrix that pools one axis of `size` pixels to `side`.

    From 28 pixels to 4 and to 10 these are the paper's windows: width 6, stride 6 (the last four
    pixels fall away), and width 5, stride 3 with a zero padding of 2 that is counted in the
    mean. Every other reduction is adaptive average pooling; enlarging is bilinear.

    Parameters
    ----------
    size
        Number of pixels along the axis.
    side
        Number of cells wanted.

    Returns
    -------
    np.ndarray
        ``(side, size)`` float64.

    Examples
    --------
    >>> pooling_matrix(4, 2)
    array([[0.5, 0.5, 0. , 0. ],
           [0. , 0. , 0.5, 0.5]])
    """
    if (size, side) == (PAPER_SIDE, 4):
        return _window_matrix(size, window=6, stride=6, padding=0)
    if (size, side) == (PAPER_SIDE, 10):
        return _window_matrix(size, window=5, stride=3, padding=2)
    if side > size:
        return bilinear_matrix(size, side)
    return _adaptive_matrix(size, side)


def image_features(
    images: np.ndarray, n_features: int, *, white: float = 255.0, resize: int | None = None
) -> np.ndarray:
    """Turn images into the features that the encoders take, as `qdeq.data.load` does.

    Grey, normalise, resize if asked, pool, flatten row by row. The zeros that pad the paper's
    10 x 10 pooling are added after normalising, so they stand for a grey level of 0.1307.

    Parameters
    ----------
    images
        ``(N, H, W)``, or ``(N, H, W, 3)`` in colour.
    n_features
        A square: the number of cells of the pooled grid.
    white
        The pixel value of full brightness.
    resize
        Resize to ``(resize, resize)`` bilinearly before pooling (CIFAR: 28).

    Returns
    -------
    np.ndarray
        ``(N, n_features)`` float32.

    Raises
    ------
    UserError
        If `n_features` is not a square.

    Examples
    --------
    >>> image_features(np.full((1, 8, 8), 255), 4).round(3)
    array([[2.821, 2.821, 2.821, 2.821]], dtype=float32)
    """
    side = grid_side(n_features)
    rows, columns = (_axis_matrix(size, side, resize) for size in images.shape[1:3])
    features = np.empty((len(images), n_features), dtype=np.float32)
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        # float64 throughout, rounded once: the same features on every machine, whatever order
        # its BLAS adds in.
        light = normalise(grey(chunk) if chunk.ndim == 4 else chunk, white=white)
        features[start : start + _CHUNK] = (rows @ light @ columns.T).reshape(-1, n_features)
    return features


def _axis_matrix(size: int, side: int, resize: int | None) -> np.ndarray:
    if resize is None or resize == size:
        return pooling_matrix(size, side)
    return pooling_matrix(resize, side) @ bilinear_matrix(size, resize)


def check_finite(values: np.ndarray, name: str) -> None:
    """Raise `UserError` if a sample holds NaN or infinity.

    Parameters
    ----------
    values
        ``(N, ...)``, one sample per row.
    name
        What the samples are called in the message, such as ``"mnist train images"``.

    Raises
    ------
    UserError
        With the number of bad samples and the index of the first.
    """
    if np.issubdtype(values.dtype, np.integer) or values.dtype == bool:
        return
    bad = np.asarray(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    _refuse(bad, name, "hold NaN or infinity", "remove or repair them")


def check_not_blank(images: np.ndarray, name: str) -> None:
    """Raise `UserError` if an image is one constant colour, which carries no information.

    Checked on the pixels, before pooling: no image of MNIST, FashionMNIST or CIFAR-10 is blank.

    Parameters
    ----------
    images
        ``(N, H, W)`` or ``(N, H, W, 3)``.
    name
        What the images are called in the message.

    Raises
    ------
    UserError
        With the number of blank images and the index of the first.
    """
    _refuse(are_blank(images), name, "are blank (every pixel is the same)", "remove them")


def are_blank(images: np.ndarray) -> np.ndarray:
    """``(N,)``: whether each of ``(N, H, W)`` or ``(N, H, W, 3)`` is one constant colour.

    >>> are_blank(np.array([[[7, 7]], [[7, 8]]]))
    array([ True, False])
    """
    pixels = images.reshape(len(images), images.shape[1] * images.shape[2], -1)
    return np.asarray((pixels == pixels[:, :1]).all(axis=(1, 2)))


def _refuse(bad: np.ndarray, name: str, what: str, remedy: str) -> None:
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise UserError(
            f"{name}: {int(bad.sum())} of {len(bad)} {what}, the first at index {first}: {remedy}"
        )
