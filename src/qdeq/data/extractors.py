"""Features that are learnt from images instead of pooled: principal components, and a small VAE.

Both are fitted to the training split alone and applied to all three; the network itself is in
`vae`. Which images go in, and that the result is cached, is decided in `datasets`.
"""

import dataclasses
from collections.abc import Callable
from typing import get_args

import numpy as np

from qdeq.data.components import ImageComponents, check_number, usual_number
from qdeq.data.dataset import Dataset, Split
from qdeq.errors import check_choice
from qdeq.names import Features

#: What an image can become: pooled pixels, principal components, latent means.
FEATURES = get_args(Features)

#: Raise when an extractor changes meaning, so that cached features of older versions are not used.
EXTRACTOR_VERSION = 2

_SEED = 0

# A latent whose mean hardly varies has collapsed onto the prior: dividing by its deviation would
# turn rounding into a feature as large as any other.
_SMALLEST_DEVIATION = 0.05


def extract(
    images: Dataset,
    kind: str,
    n_features: int | None,
    *,
    components: ImageComponents | None = None,
) -> Dataset:
    """Replace the pixels of a data set by features that are learnt from its training split.

    Parameters
    ----------
    images
        Its `x` are normalised pixels, ``(N, side * side)``.
    kind
        ``"pool"``: the pixels as they are. ``"pca"``: scores of the leading principal components,
        see `ImageComponents`. ``"vae"``: latent means of a variational autoencoder, each centred
        and over its own deviation on the training split.
    n_features
        Number of components or latents; None is the usual one, or as many as there are.
    components
        Those that were fitted to the same images before.

    Returns
    -------
    Dataset
        The same for pixels, else with `image_shape` ``(1, n_features)`` and with its components.

    Raises
    ------
    UserError
        For an unknown kind, or more components than pixels or training samples.
    """
    check_choice("features", kind, FEATURES)
    if kind == "pool":
        return images
    pixels = images.train.x
    if n_features is None:
        n_features = usual_number(len(images.classes), pixels)
    if kind == "vae":
        check_number(n_features, pixels)
        components, transform = None, _fit_vae(pixels, n_features)
    else:
        components = components or ImageComponents.fit(pixels, n_features)
        transform = components

    def apply(split: Split) -> Split:
        x = np.ascontiguousarray(transform(split.x), dtype=np.float32)
        return dataclasses.replace(split, x=x)

    return dataclasses.replace(
        images,
        train=apply(images.train),
        valid=apply(images.valid),
        test=apply(images.test),
        image_shape=(1, n_features),
        image_components=components,
    )


Transform = Callable[[np.ndarray], np.ndarray]


def _fit_vae(x: np.ndarray, n_features: int) -> Transform:
    from qdeq.data.vae import train_vae  # JAX, which no other part of this package needs

    vae = train_vae(x, n_features, seed=_SEED)
    latents = vae.means(x)
    centre = latents.mean(axis=0)
    deviation = np.maximum(latents.std(axis=0), _SMALLEST_DEVIATION)
    return lambda pixels: (vae.means(pixels) - centre) / deviation
