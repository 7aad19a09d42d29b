"""Learnt features see the training split alone, and are the same every time."""

import numpy as np
import pytest

from qdeq.data import load
from qdeq.data import vae as vae_module
from qdeq.data.dataset import Dataset, Split
from qdeq.data.extractors import extract
from qdeq.errors import UserError


@pytest.fixture(scope="module")
def images():
    return load("digits-4", n_features=64)


def replaced(dataset, **splits):
    parts = {part: getattr(dataset, part) for part in ("train", "valid", "test")}
    values = {"name": "x", "classes": dataset.classes, "image_shape": (8, 8)}
    return Dataset(**{**values, **parts, **splits})


@pytest.fixture
def quick(monkeypatch):
    """One epoch: these tests ask what the network sees, not how good it is."""
    train = vae_module.train_vae
    monkeypatch.setattr(
        vae_module, "train_vae", lambda x, n, *, seed: train(x, n, seed=seed, epochs=1)
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pca", "vae"])
def test_features_are_fitted_to_the_training_split_alone(quick, images, kind):
    found = extract(images, kind, 16)
    assert found.train.x.shape == (461, 16) and found.train.x.dtype == np.float32
    # Other validation images, and each sample's own features do not depend on its company.
    other = replaced(images, valid=Split(100 * images.valid.x[:5], images.valid.y[:5]))
    again = extract(other, kind, 16)
    np.testing.assert_array_equal(again.train.x, found.train.x)
    np.testing.assert_array_equal(again.test.x, found.test.x)
    np.testing.assert_allclose(found.train.x.mean(axis=0), 0, atol=1e-5)  # float32 sums


def test_principal_components_keep_distances_up_to_one_factor(images):
    found = extract(images, "pca", 60)  # the rank of the pooled digits is at most 64
    pixels = np.linalg.norm(images.train.x[:20] - images.train.x[20:40], axis=1)
    scores = np.linalg.norm(found.train.x[:20] - found.train.x[20:40], axis=1)
    # What the last four components hold of a digit is below a per cent.
    np.testing.assert_allclose(pixels / scores, np.full(20, (pixels / scores)[0]), rtol=0.01)


@pytest.mark.slow
def test_vae_features_tell_the_digits_apart(images):
    x = images.train.x
    autoencoder = vae_module.train_vae(x, 4, seed=0, epochs=30)
    latents = autoencoder.means(x)
    centres = np.stack([latents[images.train.y == k].mean(axis=0) for k in range(4)])
    distance = np.linalg.norm(latents[:, None] - centres, axis=2)
    # Nearest centre among four latents that were fitted without labels; chance is 0.25.
    assert np.mean(distance.argmin(axis=1) == images.train.y) > 0.8


def test_more_components_than_pixels_are_a_users_mistake(images):
    with pytest.raises(UserError, match="have at most 64 components"):
        extract(images, "pca", 65)


def test_learnt_features_are_cached_by_split(monkeypatch, tmp_path):
    monkeypatch.setenv("QDEQ_CACHE", str(tmp_path))
    first = load("digits-4", features="pca", n_features=10)
    assert first.image_shape == (1, 10) and first.classes == (0, 3, 6, 9)
    monkeypatch.setattr("qdeq.data.datasets.extract", None)  # must not be needed again
    again = load("digits-4", features="pca", n_features=10)
    np.testing.assert_array_equal(first.valid.x, again.valid.x)
    with pytest.raises(TypeError):
        load("digits-4", features="pca", n_features=10, split_seed=1)


def test_an_unknown_kind_is_a_users_mistake():
    with pytest.raises(UserError, match="choose one of pool, pca, vae"):
        load("digits-4", features="umap")
