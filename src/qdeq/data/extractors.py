"""Features that are learnt from images instead of pooled: principal components, and a small VAE.

Both are fitted to the training split alone and applied to all three; the network itself is in
`vae`. Which images go in, and that the result is cached, is decided in `datasets`.
"""

import numbers
from collections.abc import Callable
from typing import get_args

import numpy as np

from qdeq.data.splits import Dataset, Split
from qdeq.errors import UserError, check_choice
from qdeq.names import Features

#: What an image can become: pooled pixels, principal components, latent means.
FEATURES = get_args(Features)

#: Raise when an extractor changes meaning, so that cached features of older versions are not used.
EXTRACTOR_VERSION = 1

_SEED = 0

# A latent whose mean hardly varies has collapsed onto the prior: dividing by its deviation would
# turn rounding into a feature as large as any other.
_SMALLEST_DEVIATION = 0.05


def extract(images: Dataset, kind: str, n_features: int) -> Dataset:
    """Replace the pixels of a data set by features that are learnt from its training split.

    Parameters
    ----------
    images
        Its `x` are normalised pixels, ``(N, side * side)``.
    kind
        ``"pca"``: scores of the leading principal components, centred, over one common deviation,
        so that the geometry of the images is kept. ``"vae"``: latent means of a variational
        autoencoder, each centred and over its own deviation on the training split.
    n_features
        Number of components or latents.

    Returns
    -------
    Dataset
        With `image_shape` ``(1, n_features)``.

    Raises
    ------
    UserError
        For an unknown kind, or more components than pixels or training samples.
    """
    check_choice("features", kind, FEATURES[1:])
    if not (isinstance(n_features, numbers.Integral) and n_features >= 1):
        raise UserError(f"n_features={n_features!r}: give a whole number of at least 1")
    most = min(images.train.x.shape)
    if n_features > most:
        raise UserError(
            f"n_features={n_features}: {len(images.train)} training images of "
            f"{images.n_features} pixels have at most {most} components, give that many or fewer"
        )
    fit = _fit_pca if kind == "pca" else _fit_vae
    transform = fit(images.train.x, n_features)

    def apply(split: Split) -> Split:
        return Split(np.ascontiguousarray(transform(split.x), dtype=np.float32), split.y)

    return Dataset(
        name=images.name,
        train=apply(images.train),
        valid=apply(images.valid),
        test=apply(images.test),
        classes=images.classes,
        image_shape=(1, n_features),
    )


Transform = Callable[[np.ndarray], np.ndarray]


def _fit_pca(x: np.ndarray, n_features: int) -> Transform:
    from sklearn.decomposition import PCA

    # The covariance is pixels x pixels: exact, and the same on every run.
    pca = PCA(n_features, svd_solver="covariance_eigh").fit(x)
    scale = float(np.sqrt(pca.explained_variance_.mean()))
    return lambda pixels: pca.transform(pixels) / scale


def _fit_vae(x: np.ndarray, n_features: int) -> Transform:
    from qdeq.data.vae import train_vae  # JAX, which no other part of this package needs

    vae = train_vae(x, n_features, seed=_SEED)
    latents = vae.means(x)
    centre = latents.mean(axis=0)
    deviation = np.maximum(latents.std(axis=0), _SMALLEST_DEVIATION)
    return lambda pixels: (vae.means(pixels) - centre) / deviation
