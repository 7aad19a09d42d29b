"""Measurement ensembles: signs, settings, and the ready-made families."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeq.circuits import MeasurementEnsemble, xyz_of_every_wire, z_of_every_wire, z_strings
from qdeq.errors import UserError

LETTERS = st.text("IXYZ", min_size=3, max_size=3)
ENSEMBLES = st.lists(LETTERS, min_size=1, max_size=8).map(
    lambda strings: MeasurementEnsemble(3, tuple(strings))
)


def test_z_of_every_wire_reads_the_bits_most_significant_first():
    signs = z_of_every_wire(3).signs()
    assert signs.dtype == np.float64
    for basis_state in range(8):
        bits = [int(bit) for bit in f"{basis_state:03b}"]
        np.testing.assert_array_equal(signs[:, basis_state], 1 - 2 * np.array(bits))


@given(strings=st.lists(st.text("IZ", min_size=3, max_size=3), min_size=1))
def test_signs_are_the_diagonal_of_the_matrix(strings):
    ensemble = MeasurementEnsemble(3, tuple(strings))
    assert ensemble.is_diagonal
    for k, signs in enumerate(ensemble.signs()):
        np.testing.assert_array_equal(np.diag(signs), ensemble.matrix(k))


def test_matrix_puts_wire_0_first():
    x, z = np.array([[0, 1], [1, 0]]), np.diag([1, -1])
    np.testing.assert_array_equal(MeasurementEnsemble(2, ("XZ",)).matrix(0), np.kron(x, z))


@given(ensemble=ENSEMBLES)
def test_settings_cover_every_observable_once_and_commute_wire_by_wire(ensemble):
    settings = ensemble.settings()
    assert sorted(k for group in settings for k in group) == list(range(ensemble.n_observables))
    for group in settings:
        basis = ensemble.basis(group)
        for k in group:
            pairs = zip(ensemble.strings[k], basis, strict=True)
            assert all(letter in ("I", measured) for letter, measured in pairs)


def test_diagonal_ensembles_need_one_setting_and_xyz_three():
    assert len(z_strings(4, 4).settings()) == 1
    assert len(xyz_of_every_wire(4).settings()) == 3
    groups = xyz_of_every_wire(2).settings()
    assert [xyz_of_every_wire(2).basis(group) for group in groups] == ["XX", "YY", "ZZ"]


@pytest.mark.parametrize("max_weight", [1, 2, 4])
def test_z_strings_are_ordered_by_weight_then_wires(max_weight):
    strings = z_strings(4, max_weight).strings
    assert len(strings) == sum(comb(4, weight) for weight in range(1, max_weight + 1))
    supports = [tuple(i for i, letter in enumerate(s) if letter == "Z") for s in strings]
    assert supports == sorted(supports, key=lambda wires: (len(wires), wires))


def test_mistakes_are_named():
    with pytest.raises(UserError, match="'ZI' is not a Pauli string on 3 qubits"):
        MeasurementEnsemble(3, ("ZII", "ZI"))
    with pytest.raises(UserError, match="'QII' is not a Pauli string"):
        MeasurementEnsemble(3, ("QII",))
    with pytest.raises(UserError, match="is one string"):
        MeasurementEnsemble(1, "Z")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="at least 1 observable"):
        MeasurementEnsemble(3, ())
    with pytest.raises(UserError, match="'XI' is not diagonal"):
        MeasurementEnsemble(2, ("ZI", "XI")).signs()
    with pytest.raises(UserError, match=r"max_weight=1\.5: give an integer"):
        z_strings(2, 1.5)
    with pytest.raises(UserError, match="max_weight=3: with n_qubits=2 give 1 to 2"):
        z_strings(2, 3)
    with pytest.raises(UserError, match="'ZI' does not commute qubit-wise with 'XI'"):
        MeasurementEnsemble(2, ("XI", "ZI")).basis((0, 1))
    with pytest.raises(UserError, match="n_qubits=0"):
        xyz_of_every_wire(0)
