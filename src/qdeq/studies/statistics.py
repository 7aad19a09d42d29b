"""Paired comparisons over seeds, as runs have them, by the names that studies use."""

from qdeq.runs.statistics import LEVEL as LEVEL
from qdeq.runs.statistics import Comparison as Comparison
from qdeq.runs.statistics import compare as compare
from qdeq.runs.statistics import mean_and_deviation as mean_and_deviation
from qdeq.runs.statistics import paired as paired
from qdeq.runs.statistics import signed as signed
