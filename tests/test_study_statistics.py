"""Means, deviations and paired intervals over seeds, against SciPy and closed forms."""

import math

import numpy as np
import pytest
import scipy.stats

from qdeq.runs.statistics import compare, mean_and_deviation
from qdeq.studies.claims import verdict
from qdeq.studies.overlap import (
    ENCODINGS,
    bound,
    critical_distance,
    sample_overlaps,
    statement,
)


def test_the_interval_is_scipys_paired_t_interval():
    generator = np.random.default_rng(0)
    first, second = generator.normal(0.9, 0.01, 10), generator.normal(0.91, 0.01, 10)
    found = compare(first.tolist(), second.tolist())
    expected = scipy.stats.ttest_rel(first, second).confidence_interval(0.95)
    # Both are the same formula: only rounding differs.
    assert found.difference == pytest.approx(np.mean(first - second), abs=1e-14)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.n == 10


def test_two_pairs_give_the_closed_form():
    # With one degree of freedom Student's t is Cauchy: its quantile is tan(pi (p - 1/2)).
    found = compare([0.3, 0.5], [0.0, 0.0])
    half = math.tan(math.pi * 0.475) * 0.1
    assert (found.low, found.high) == pytest.approx((0.4 - half, 0.4 + half), abs=1e-12)


def test_one_pair_has_no_interval():
    found = compare([0.5], [0.4])
    assert found.difference == pytest.approx(0.1)
    assert math.isnan(found.low) and math.isnan(found.high) and found.sign == 0


def test_one_value_has_no_deviation_and_equal_ones_have_zero():
    assert mean_and_deviation([0.1, 0.1, 0.1])[1] == 0  # whose mean is 0.10000000000000002
    mean, deviation = mean_and_deviation([0.5])
    assert mean == 0.5 and math.isnan(deviation)
    assert all(math.isnan(number) for number in mean_and_deviation([]))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.2, 0.21, 0.22], "IMPLICIT beats DIRECT 1: +0.2100"),
        ([-0.2, -0.21, -0.22], "does not beat DIRECT 1, it is worse: −0.2100"),
        ([-0.2, 0.2, 0.1], "is not shown to beat DIRECT 1, nor to be worse: +0.0333"),
        ([0.2], "cannot be said from 1 seed"),
    ],
)
def test_a_verdict_says_no_more_than_its_interval(values, words):
    found = compare(values, [0.0] * len(values))
    assert words in verdict("IMPLICIT", "DIRECT 1", found)


def test_overlaps_of_one_rotation_are_the_cosine_of_half_the_distance():
    for name in ("RX", "RY"):
        found = sample_overlaps(name, n_pairs=200)
        expected = np.abs(np.cos(found.distance / 2))
        np.testing.assert_allclose(found.overlap, expected, atol=1e-12)
    np.testing.assert_allclose(sample_overlaps("RZ", n_pairs=50).overlap, 1, atol=1e-12)


def test_the_bound_fails_exactly_beyond_the_critical_distance():
    critical = critical_distance()
    assert math.cos(critical / 2) == pytest.approx(1 - math.sin(critical), abs=1e-12)
    found = sample_overlaps("RY", n_pairs=500)
    np.testing.assert_array_equal(found.violations, found.distance > critical)
    assert bound(np.array([critical]))[0] == pytest.approx(math.cos(critical / 2))


def test_the_statement_counts_the_pairs_that_violate_the_bound():
    found = [sample_overlaps(name, n_pairs=300) for name in ENCODINGS]
    sentences = statement(found)
    count = int(found[1].violations.sum())
    assert count > 0 and f"RY: {count} of 300 pairs violate it" in sentences[2]
    assert sentences[3] == "RZ: all 300 pairs satisfy it."
