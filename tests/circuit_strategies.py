"""Circuits that Hypothesis draws."""

import numpy as np
from hypothesis import strategies as st

from qdeq.circuits import GATES, Circuit, Operation

TURNING = [name for name, gate in GATES.items() if gate.n_parameters]
NUMBERS = st.one_of(
    st.sampled_from([-1.0, 0.5, -0.5, 1.5, 2.0, 1 / 3, np.pi, -np.pi / 4, np.sqrt(2)]),
    st.floats(-9, 9).filter(lambda value: abs(value) > 1e-3),
)


@st.composite
def turned_circuits(draw) -> Circuit:
    """Two wires, one to four gates, each with angles factor theta[i] + offset."""
    names = draw(st.lists(st.sampled_from(TURNING), min_size=1, max_size=4))
    operations = []
    for i, name in enumerate(names):
        gate = GATES[name]
        size = st.lists(NUMBERS, min_size=gate.n_parameters, max_size=gate.n_parameters)
        parameter = tuple((i + k) % len(names) for k in range(gate.n_parameters))
        operations.append(
            Operation(
                name,
                tuple(range(gate.n_wires)),
                parameter=parameter if len(parameter) > 1 else parameter[0],
                factor=draw(size),
                offset=draw(size),
            )
        )
    return Circuit(2, tuple(operations))
