"""The gate table against matrix exponentials of Pauli matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import block_diag, expm

from qdeq.circuits import GATES
from qdeq.errors import UserError

# Double precision: a product of a few matrices with entries of order 1 rounds at 1e-15.
TOLERANCE = 1e-13
ANGLES = st.floats(-20, 20)

I2 = np.array([[1, 0], [0, 1]], dtype=complex)
X = np.array([[0, 1], [1, 0]], dtype=complex)
Y = np.array([[0, -1j], [1j, 0]])
Z = np.array([[1, 0], [0, -1]], dtype=complex)

EXPONENTIALS = {
    "RX": lambda t: expm(-0.5j * t * X),
    "RY": lambda t: expm(-0.5j * t * Y),
    "RZ": lambda t: expm(-0.5j * t * Z),
    "PhaseShift": lambda t: expm(0.5j * t * (I2 - Z)),
    "CRX": lambda t: block_diag(I2, expm(-0.5j * t * X)),
    "CRY": lambda t: block_diag(I2, expm(-0.5j * t * Y)),
    "CRZ": lambda t: block_diag(I2, expm(-0.5j * t * Z)),
    "RXX": lambda t: expm(-0.5j * t * np.kron(X, X)),
    "RYY": lambda t: expm(-0.5j * t * np.kron(Y, Y)),
    "RZZ": lambda t: expm(-0.5j * t * np.kron(Z, Z)),
}
CONSTANTS = {
    "I": I2,
    "X": X,
    "Y": Y,
    "Z": Z,
    "H": np.array([[1, 1], [1, -1]]) / np.sqrt(2),
    "S": np.array([[1, 0], [0, 1j]]),
    "T": np.array([[1, 0], [0, (1 + 1j) / np.sqrt(2)]]),
    # The square root of X with eigenvalue 1 on |+> and i on |->.
    "SX": np.exp(0.25j * np.pi) * expm(-0.25j * np.pi * X),
    "CNOT": np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]),
    "CZ": np.diag([1, 1, 1, -1]),
    "SWAP": (np.eye(4) + np.kron(X, X) + np.kron(Y, Y) + np.kron(Z, Z)) / 2,
}


def test_table_is_complete():
    assert set(GATES) == {*EXPONENTIALS, *CONSTANTS, "U3"}


@pytest.mark.parametrize("name", CONSTANTS)
def test_fixed_gate_is_its_closed_form(name):
    np.testing.assert_allclose(GATES[name].matrix(), CONSTANTS[name], atol=TOLERANCE)


@pytest.mark.parametrize("name", EXPONENTIALS)
@given(angle=ANGLES)
def test_rotation_is_the_exponential_of_its_generator(name, angle):
    expected = EXPONENTIALS[name](angle)
    np.testing.assert_allclose(GATES[name].matrix(angle), expected, atol=TOLERANCE)


@given(theta=ANGLES, phi=ANGLES, lam=ANGLES)
def test_u3_is_its_closed_form_and_the_product_of_its_factors(theta, phi, lam):
    cos, sin = np.cos(theta / 2), np.sin(theta / 2)
    expected = [
        [cos, -np.exp(1j * lam) * sin],
        [np.exp(1j * phi) * sin, np.exp(1j * (phi + lam)) * cos],
    ]
    np.testing.assert_allclose(GATES["U3"].matrix(theta, phi, lam), expected, atol=TOLERANCE)
    product = np.eye(2)
    for name, position in GATES["U3"].factors:
        product = EXPONENTIALS[name]((theta, phi, lam)[position]) @ product
    np.testing.assert_allclose(product, expected, atol=TOLERANCE)


@pytest.mark.parametrize("name", GATES)
@given(angles=st.tuples(ANGLES, ANGLES, ANGLES))
def test_every_gate_is_unitary(name, angles):
    gate = GATES[name]
    matrix = gate.matrix(*angles[: gate.n_parameters])
    assert matrix.shape == (2**gate.n_wires, 2**gate.n_wires)
    np.testing.assert_allclose(matrix @ matrix.conj().T, np.eye(len(matrix)), atol=TOLERANCE)


@pytest.mark.parametrize("name", EXPONENTIALS)
def test_the_three_constant_matrices_give_the_gate(name):
    gate, angle = GATES[name], 0.7
    assert gate.cosine is not None and gate.sine is not None
    matrix = (
        gate.constant
        + np.cos(gate.scale * angle) * gate.cosine
        + np.sin(gate.scale * angle) * gate.sine
    )
    np.testing.assert_allclose(matrix, EXPONENTIALS[name](angle), atol=TOLERANCE)


def test_wrong_number_of_angles_is_an_error():
    with pytest.raises(UserError, match="RX was given 0 angles and takes 1"):
        GATES["RX"].matrix()


def test_shared_matrices_cannot_be_overwritten():
    with pytest.raises(ValueError, match="read-only"):
        GATES["X"].constant[0, 0] = 5
    GATES["X"].matrix()[0, 0] = 5  # a caller's own copy
    np.testing.assert_array_equal(GATES["X"].matrix(), X)
