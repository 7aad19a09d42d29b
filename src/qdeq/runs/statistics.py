"""Means, deviations and paired comparisons over seeds; plain NumPy and one quantile."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qdeq.runs.summary import Spread

LEVEL = 0.95


@dataclass(frozen=True)
class Comparison:
    """Mean difference of two rows over the seeds that both have, with its t-interval.

    Attributes
    ----------
    difference
        Mean of (this row - the reference), in the unit of what was compared.
    low, high
        Ends of the 95 % interval; NaN with fewer than two seeds.
    n
        Number of pairs.
    """

    difference: float
    low: float
    high: float
    n: int

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies on one side of 0, else 0: nothing is shown."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    def __str__(self) -> str:
        if math.isnan(self.low):
            return signed(self.difference)
        return f"{signed(self.difference)} [{signed(self.low)}, {signed(self.high)}]"


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1); the deviation of one value is NaN.

    >>> mean_and_deviation([1.0, 3.0])
    (2.0, 1.4142135623730951)
    """
    if not len(values):
        return math.nan, math.nan
    spread = Spread.of(values)
    return spread.mean, spread.std


def compare(values: Sequence[float], reference: Sequence[float]) -> Comparison:
    """Compare paired numbers: entry i of both belongs to seed i.

    Parameters
    ----------
    values, reference
        Equally long, without NaN.

    Returns
    -------
    Comparison
        With Student's 95 % interval of the mean difference. It covers the variation over seeds,
        on one split and one test set; it is not corrected for the number of comparisons.

    Examples
    --------
    >>> found = compare([0.9, 0.8, 0.7], [0.8, 0.7, 0.5])
    >>> f"{found.difference:.3f} from {found.low:.3f} to {found.high:.3f}"
    '0.133 from -0.010 to 0.277'
    """
    from scipy.special import stdtrit  # a quarter of a second that parsing an option can do without

    differences = np.asarray(values, float) - np.asarray(reference, float)
    mean, deviation = mean_and_deviation(differences.tolist())
    n = differences.size
    if n < 2:
        return Comparison(mean, math.nan, math.nan, n)
    half = float(stdtrit(n - 1, 0.5 + LEVEL / 2)) * deviation / math.sqrt(n)
    return Comparison(mean, mean - half, mean + half, n)


def paired(values: Mapping[int, float], reference: Mapping[int, float]) -> Comparison | None:
    """Compare two rows, numbers by seed, over the seeds that both have; None without any."""
    common = [seed for seed in values if seed in reference]
    if not common:
        return None
    return compare([values[s] for s in common], [reference[s] for s in common])


def signed(value: float) -> str:
    """A number with its sign and four decimals, with a true minus.

    >>> signed(-0.01234)
    '−0.0123'
    """
    return f"{value:+.4f}".replace("-", "−")
