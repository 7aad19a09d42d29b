"""Angles that are a factor times a parameter or feature plus an offset: as data, drawn, lowered."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeq.circuits import AngleEncoding, Circuit, Operation, without_entanglers, z_of_every_wire
from qdeq.circuits.angle_labels import MATHTEXT, TEXT, angle_labels
from qdeq.circuits.noise_text import parse_noise
from qdeq.errors import UserError
from qdeq.models import QuantumModel, evaluation_path

reals = st.floats(-10, 10)


@given(factor=reals, offset=reals, entry=reals)
def test_an_angle_is_factor_times_entry_plus_offset(factor, offset, entry):
    turn = Operation("RX", (0,), parameter=0, factor=factor, offset=offset)
    assert turn.angle_values([entry], []) == [factor * entry + offset]
    twin = pickle.loads(pickle.dumps(turn))
    assert twin == turn and hash(twin) == hash(turn)


def test_equal_factors_of_a_u3_are_stored_as_one():
    plain = Operation("U3", (0,), parameter=(0, 1, 2))
    assert plain == Operation("U3", (0,), parameter=(0, 1, 2), factor=(1, 1, 1), offset=[0, 0, 0])
    assert hash(plain) == hash(Operation("U3", (0,), (0, 1, 2), factor=np.ones(3)))
    scaled = Operation("U3", (0,), parameter=(0, 1, 0), factor=(1, 2, -1), offset=0.5)
    assert scaled.angle_values([1.0, 3.0], []) == [1.5, 6.5, -0.5]


def test_an_angle_as_it_is_is_not_computed_with():
    entry = object()  # can be neither multiplied nor added
    assert Operation("RX", (0,), feature=1).angle_values([], [None, entry]) == [entry]


def test_joined_and_thinned_circuits_keep_factors_and_offsets():
    scaled = Operation("RX", (0,), parameter=0, factor=-0.5, offset=1)
    product = Operation("CRX", (0, 1), parameter=(0, 1), factor=2)
    circuit = Circuit(2, (product, scaled))
    assert (circuit + circuit).operations[2:] == (
        Operation("CRX", (0, 1), parameter=(2, 3), factor=2),
        Operation("RX", (0,), parameter=2, factor=-0.5, offset=1),
    )
    assert without_entanglers(circuit).operations == (scaled,)


def test_text_that_is_no_number_is_refused():
    with pytest.raises(UserError, match="angle, factor and offset as numbers"):
        Operation("RX", (0,), parameter=0, factor="half")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("scale", "label"),
    [
        ({}, "θ0"),
        ({"factor": -1}, "-θ0"),
        ({"factor": -0.5, "offset": np.pi}, "-θ0/2+π"),
        ({"factor": 2, "offset": -np.pi / 2}, "2θ0-π/2"),
        ({"factor": 1 / 3, "offset": 0.75 * np.pi}, "θ0/3+3π/4"),
        ({"factor": 1.5, "offset": 0.25}, "1.5θ0+0.25"),
        ({"factor": -np.pi}, "-πθ0"),
        ({"factor": np.pi / 2}, "πθ0/2"),
        ({"factor": np.sqrt(2), "offset": -1e-3}, "1.41θ0-0.001"),
        ({"factor": 0, "offset": 1}, "0θ0+1"),
    ],
)
def test_drawings_write_angles_as_people_do(scale, label):
    turn = Operation("RY", (0,), parameter=0, **scale)
    assert angle_labels(turn, TEXT) == [label]
    assert f"RY({label})" in Circuit(1, (turn,)).draw()


def test_drawings_write_products_and_every_angle_of_a_u3():
    assert angle_labels(Operation("RZZ", (0, 1), feature=(0, 2), factor=2), TEXT) == ["2x0·x2"]
    u3 = Operation("U3", (0,), parameter=(0, 1, 2), factor=(1, -1, 0.5))
    assert Circuit(1, (u3,)).draw() == "0: ──U3(θ0,-θ1,θ2/2)─┤"
    product = Operation("RX", (0,), feature=(0, 1), factor=-0.5, offset=np.pi)
    assert angle_labels(product, MATHTEXT) == [r"$-x_{0} \cdot x_{1}/2+\pi$"]
    Circuit(1, (product, u3)).draw_mpl().canvas.draw()  # Matplotlib can read the formulas


def scaled_model(encoding, method):
    """One parameter with three factors, an offset in a controlled gate, a product."""
    circuit = Circuit(
        2,
        (
            Operation("RY", (0,), parameter=0, factor=-0.5),
            Operation("CRX", (0, 1), parameter=0, factor=1.5, offset=np.pi / 3),
            Operation("U3", (1,), parameter=(1, 0, 2), factor=(1, -2, 1), offset=(0, 0, 0.3)),
            Operation("RXX", (0, 1), parameter=(1, 2), factor=0.7, offset=-0.2),
        ),
    )
    return QuantumModel(
        np.array([0.4, -1.1, 0.8]),
        circuit,
        encoding=encoding,
        observables=z_of_every_wire(2),
        method=method,
    )


PRODUCT_OF_WIRES = AngleEncoding(
    2,
    (
        Operation("RX", (0,), feature=0, factor=-0.5, offset=np.pi),
        Operation("RX", (0,), feature=1),
        Operation("RY", (1,), feature=1, factor=np.sqrt(2)),
    ),
)
PRODUCT_OF_FEATURES = AngleEncoding(
    2, (*PRODUCT_OF_WIRES.operations, Operation("RZ", (1,), feature=(0, 1), factor=2, offset=1))
)


@pytest.mark.parametrize(
    ("encoding", "path"),
    [(PRODUCT_OF_WIRES, "lightcone"), (PRODUCT_OF_FEATURES, "statevector")],
)
def test_values_and_derivatives_are_those_of_dense_matrices(x64, encoding, path):
    model = scaled_model(encoding, "auto")
    assert evaluation_path(model) == path
    whole = Circuit(2, encoding.operations) + model.circuit

    def expected(theta, v):
        state = oracle.circuit_unitary(whole, theta, v)[:, 0]
        return oracle.expectation_values(("ZI", "IZ"), state)

    theta, v, m = np.asarray(model.theta), np.array([0.3, -0.9]), jnp.zeros(2)

    def value(model, v):
        return model(m, v)

    found = value(model, jnp.asarray(v))
    np.testing.assert_allclose(found, expected(theta, v), atol=1e-12)
    by_model, by_features = jax.jit(jax.jacfwd(value, argnums=(0, 1)))(model, jnp.asarray(v))
    # Central differences: the error is of the order of step**2 and of rounding / step.
    step = 1e-5

    def differences(f, at):
        moves = step * np.eye(len(at))
        return np.stack([(f(at + d) - f(at - d)) / (2 * step) for d in moves], axis=1)

    np.testing.assert_allclose(
        by_model.theta, differences(lambda t: expected(t, v), theta), atol=1e-8
    )
    np.testing.assert_allclose(by_features, differences(lambda v: expected(theta, v), v), atol=1e-8)


@pytest.mark.parametrize("noise", [None, parse_noise("depolarising=0.01")], ids=["exact", "noisy"])
def test_wires_that_no_gate_couples_are_evaluated_one_by_one(noise):
    # A circuit without gates is not simulated for nothing: its state is prepared all the same.
    n = 8
    encoding = AngleEncoding.from_rotations(n, [("RY", wire, wire) for wire in range(n)])
    model = QuantumModel(
        [], Circuit(n, ()), encoding=encoding, observables=z_of_every_wire(n), noise=noise
    )
    assert evaluation_path(model) == "lightcone"
