"""Less wrong numbers from noisy devices, for more executions: wrappers around any `Executor`."""

from qdeq.execution.mitigation.extrapolation import (
    ZeroNoiseExtrapolation as ZeroNoiseExtrapolation,
)
from qdeq.execution.mitigation.folding import Folded as Folded
from qdeq.execution.mitigation.folding import fold as fold
from qdeq.execution.mitigation.readout import ReadoutCorrection as ReadoutCorrection
