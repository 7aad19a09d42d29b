"""What a machine runs: programs with an angle per rotation, state preparation, shift rules."""

from qdeq.lowering.preparation import preparation as preparation
from qdeq.lowering.preparation import preparation_angles as preparation_angles
from qdeq.lowering.program import Program as Program
from qdeq.lowering.program import lower as lower
from qdeq.lowering.shift import n_shifts as n_shifts
from qdeq.lowering.shift import shift_rule as shift_rule
