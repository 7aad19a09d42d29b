"""Less wrong numbers from noisy devices, for more executions: wrappers around any `Executor`.

A method of your own is a subclass of `Mitigation` with one method.
"""

from qdeq.devices.mitigation.extrapolation import (
    ZeroNoiseExtrapolation as ZeroNoiseExtrapolation,
)
from qdeq.devices.mitigation.folding import Folded as Folded
from qdeq.devices.mitigation.folding import fold as fold
from qdeq.devices.mitigation.mitigation import Mitigation as Mitigation
from qdeq.devices.mitigation.readout import ReadoutCorrection as ReadoutCorrection
