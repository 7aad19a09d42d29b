"""Images in the estimators: what they become, what is trained by default, what is refused."""

import re

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import qdeq
from qdeq.data import from_arrays, image_features
from qdeq.data.splits import train_valid_indices
from qdeq.interop._held_out import held_out_of_classes
from qdeq.interop._images import ImageFeatures


@pytest.fixture(scope="module")
def digits():
    """Two digits of 8 x 8 pixels from 0 to 16."""
    found = load_digits(n_class=2)
    return train_test_split(found.images, found.target, test_size=0.5, random_state=0)


@pytest.fixture(scope="module")
def fitted(digits):
    images, _, y, _ = digits
    return qdeq.QDEQClassifier(epochs=5, learning_rate=0.03, random_state=0).fit(images, y)


def test_images_are_trained_as_the_preset_for_images_does(digits, fitted):
    _, images, _, y = digits
    assert fitted.score(images, y) > 0.95
    assert (fitted.n_features_in_, fitted.n_qubits_, fitted.images_.white) == (16, 4, 16.0)
    assert fitted.config_.observables == "xyz"
    assert (fitted.config_.rotations, fitted.config_.jacobian_weight) == (3, 0.01)


def test_pixels_are_those_of_a_data_set():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 28, 28, 3)).astype(np.uint8)
    labels = np.arange(300) % 5
    dataset = from_arrays(images, labels, name="noise")
    rows = ImageFeatures.fit(images, 5, features="pool")(images)
    known = {row.tobytes() for row in rows}
    assert rows.shape == (300, 100)
    assert {row.tobytes() for row in np.asarray(dataset.train.x)} <= known
    pixels = image_features(images, 784)
    features = ImageFeatures.fit(images, 5, features="pca")
    assert features.components is not None and features.components.n_features == 100
    np.testing.assert_allclose(features.components.mean, pixels.mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(features(images), features.components(pixels))


@pytest.mark.parametrize("kind", [qdeq.QDEQClassifier, qdeq.QDEQRegressor])
def test_features_are_learnt_of_the_images_that_train(digits, monkeypatch, kind):
    class Seen(Exception):
        """Before anything is compiled."""

    def see(_config, dataset, **_):
        raise Seen(dataset)

    def seen(images, y, method="fit", **options):
        with pytest.raises(Seen) as caught:
            getattr(kind(random_state=0), method)(images, y, **options)
        return caught.value.args[0]

    monkeypatch.setattr("qdeq.interop._estimator.Trainer", see)
    images, _, y, _ = digits
    valid = np.flatnonzero(held_out_of_classes(y, 0.2, 0))
    if kind is qdeq.QDEQRegressor:
        _, valid = train_valid_indices(len(y), valid_fraction=0.2, seed=0)
    others = images.copy()
    others[valid] = images[valid][:, ::-1]
    plain, changed = seen(images, y), seen(others, y)
    np.testing.assert_array_equal(changed.train.x, plain.train.x)
    assert (changed.valid.x != plain.valid.x).any()
    # Images that do not count are as if they were not there.
    more, labels = np.concatenate([images[:9] * 50, images]), np.concatenate([y[:9], y])
    for method in ("fit", "partial_fit"):
        known = seen(images, y, method)
        found = seen(more, labels, method, sample_weight=np.arange(len(more)) >= 9)
        np.testing.assert_array_equal(found.train.x, known.train.x)
        np.testing.assert_array_equal(found.valid.x, known.valid.x)


def test_channels_may_come_first_and_one_may_have_an_axis(digits, fitted):
    _, images, _, _ = digits
    scores = fitted.decision_function(images)
    for same in (images[..., None], images[:, None]):
        np.testing.assert_array_equal(fitted.decision_function(same), scores)
    grey = np.repeat(images[..., None], 3, axis=3)
    for same in (grey, np.moveaxis(grey, 3, 1)):
        np.testing.assert_allclose(fitted.decision_function(same), scores, atol=1e-4)


@pytest.mark.slow
def test_what_fits_on_rows_afterwards_takes_rows(digits):
    images, _, y, _ = digits
    classifier = qdeq.QDEQClassifier(epochs=1, random_state=0)
    classifier.partial_fit(images, y)
    assert classifier.n_features_in_ == 16
    classifier.partial_fit(images[:20], y[:20])
    rows = images.reshape(len(images), -1)
    with pytest.raises(qdeq.UserError, match="fitted on images, give"):
        classifier.predict(rows)
    classifier.fit(rows, y)
    assert classifier.images_ is None and classifier.n_features_in_ == 64


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((10, 4, 4, 2)), "shape (10, 4, 4, 2)"),
        (np.zeros((10, 4, 4, 3, 1)), "shape (10, 4, 4, 3, 1)"),
        (np.full((10, 4, 4), np.nan), "NaN"),
        (np.zeros((0, 4, 4)), "shape (0, 4, 4)"),
    ],
)
def test_what_are_no_images_is_one_sentence(images, said):
    with pytest.raises(qdeq.UserError, match=f"images X.*{re.escape(said)}[^\n]*$"):
        qdeq.QDEQClassifier(epochs=1).fit(images, np.arange(len(images)) % 2)


@pytest.mark.slow  # compiles a model of its own
def test_a_number_is_learned_of_images():
    rng = np.random.default_rng(0)
    brightness = rng.uniform(0.2, 1, 200)
    images = brightness[:, None, None] * rng.uniform(0.5, 1, (200, 12, 12))
    regressor = qdeq.QDEQRegressor(epochs=30, learning_rate=0.03, random_state=0)
    assert regressor.fit(images[:150], brightness[:150]).score(images[150:], brightness[150:]) > 0.8


def shaded(low, high, *, seed=0):
    """Images of 8 x 8 pixels, float64 that spread over a range."""
    return np.random.default_rng(seed).uniform(low, high, (40, 8, 8)).clip(low, high)


def as_bytes(images):
    return (images * 255).round().astype(np.uint8)


UNIT, SIGNED = shaded(0, 1), shaded(-1, 1)
STANDARDISED = (UNIT - 0.13) / 0.31
SIXTEENTHS = (UNIT * 16).round()


@pytest.mark.parametrize(
    ("fitted", "other", "said"),
    [
        (as_bytes(UNIT), UNIT, "multiply them by 255"),
        (as_bytes(UNIT), (UNIT > 0.5), "and those of the fit from 0 to 255"),
        (as_bytes(UNIT), (UNIT > 0.5).astype(float), "multiply them by 255"),
        (as_bytes(UNIT), SIGNED, "those of the fit from 0 to 255"),
        (as_bytes(UNIT), STANDARDISED, "those of the fit from 0 to 255"),
        (as_bytes(UNIT), as_bytes(UNIT).astype(np.uint16) * 257, "65535, and those"),
        (as_bytes(UNIT).astype(float), UNIT, "give images in the units of the fit"),
        (UNIT, as_bytes(UNIT), "divide them by 255"),
        (UNIT, as_bytes(UNIT).astype(float), "divide them by 255"),
        (UNIT, SIGNED, "those of the fit from"),
        (UNIT, STANDARDISED, "those of the fit from"),
        (UNIT > 0.5, as_bytes(UNIT), "divide them by 255"),
        (SIXTEENTHS, SIXTEENTHS / 16, "those of the fit from 0 to 16"),
        (SIXTEENTHS, as_bytes(UNIT), "those of the fit from 0 to 16"),
        (SIGNED, as_bytes(UNIT), "give images in the units of the fit"),
        (STANDARDISED, as_bytes(UNIT), "give images in the units of the fit"),
    ],
)
def test_images_in_other_units_than_those_of_the_fit_are_refused(fitted, other, said):
    features = ImageFeatures.fit(fitted, 2, features="pca")
    with pytest.raises(qdeq.UserError, match=f"images X: pixels run from .*{said}") as caught:
        features(other)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fitted", "other"),
    [
        (as_bytes(UNIT), as_bytes(UNIT).astype(np.int64)),
        (as_bytes(UNIT), as_bytes(UNIT).astype(float)),
        (as_bytes(UNIT), as_bytes(UNIT) // 100),  # dark bytes are bytes
        (as_bytes(UNIT), np.zeros((2, 8, 8))),
        (as_bytes(UNIT), UNIT * 275 - 10),  # as resizing goes beyond the range
        (UNIT, UNIT.astype(np.float32)),
        (UNIT, UNIT / 10),
        (UNIT, UNIT * 1.2 - 0.1),
        (UNIT, UNIT > 0.5),
        (UNIT, np.zeros((2, 8, 8), np.uint8)),
        (SIXTEENTHS, SIXTEENTHS.astype(np.uint8)),
        (SIXTEENTHS, UNIT * 14),
        (STANDARDISED, STANDARDISED / 5),
        (STANDARDISED, STANDARDISED * 2),
        (UNIT * 4000, UNIT * 9000),
    ],
)
def test_images_in_the_units_of_the_fit_may_be_darker_and_a_little_brighter(fitted, other):
    rows = ImageFeatures.fit(fitted, 2, features="pool")(other)
    assert rows.shape == (len(other), 16) and np.isfinite(rows).all()


def test_an_estimator_refuses_images_in_other_units(digits, fitted):
    _, images, _, y = digits
    for call in (fitted.predict, lambda x: fitted.score(x, y)):
        with pytest.raises(qdeq.UserError, match="those of the fit from 0 to 16"):
            call(images / 16)
