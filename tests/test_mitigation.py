"""`qdeq.devices.mitigation`: folding, zero-noise extrapolation, readout correction."""

import functools
import pickle
from dataclasses import replace

import numpy as np
import oracle
import pytest

import qdeq
from qdeq.circuits import GATES, Circuit, MeasurementEnsemble, Operation
from qdeq.circuits.noise import ReadoutError
from qdeq.devices import Executor, Ledger, PackedExecutor, SimulatorExecutor
from qdeq.errors import UserError

qml = pytest.importorskip("pennylane")

from qdeq.devices.mitigation import (  # noqa: E402
    Mitigation,
    ReadoutCorrection,
    ZeroNoiseExtrapolation,
    fold,
)
from qdeq.interop.pennylane import PennyLaneExecutor  # noqa: E402

CIRCUIT = qdeq.hardware_efficient(3, 2, rotations=("RY", "RX"))
ENSEMBLE = qdeq.z_of_every_wire(3)
PAIRS = MeasurementEnsemble(3, ("ZII", "ZZI"))
ROWS = np.random.default_rng(4).normal(size=(4, CIRCUIT.n_parameters))


def _exact(observables, circuit=CIRCUIT, rows=ROWS):
    states = [oracle.circuit_unitary(circuit, row)[:, 0] for row in rows]
    return np.array([oracle.expectation_values(observables.strings, state) for state in states])


def _noisy_device(probability):
    noise = {
        qml.noise.op_in(["RX", "RY", "CNOT"]): qml.noise.partial_wires(
            qml.DepolarizingChannel, probability
        )
    }
    return qml.noise.add_noise(qml.device("default.mixed", wires=3), qml.NoiseModel(noise))


def _maker(device, **options):
    ledger = Ledger()
    return ledger, lambda circuit, observables: PennyLaneExecutor(
        circuit, observables, device=device, ledger=ledger, **options
    )


class Misreading(Executor):
    """Exact probabilities by dense matrices, bits misread with given errors, sampled."""

    def __init__(self, circuit, observables, errors, *, shots, ledger, seed):
        super().__init__(circuit, observables, shots=shots, ledger=ledger)
        self.errors, self.generator = errors, np.random.default_rng(seed)

    def run(self, angles, shots):
        n = self.circuit.n_qubits
        confusion = np.eye(1)
        for error in self.errors:
            misread = [[1 - error.p01, error.p10], [error.p01, 1 - error.p10]]
            confusion = np.kron(confusion, misread)
        values = np.zeros((len(angles), self.observables.n_observables))
        for r, row in enumerate(angles):
            state = oracle.circuit_unitary(self.circuit, row)[:, 0]
            for group in self.observables.settings():
                turned = state
                for wire, letter in enumerate(self.observables.basis(group)):
                    into_z = {
                        "X": oracle.gate_matrix("H"),
                        "Y": oracle.rotation(oracle.X, np.pi / 2),
                    }
                    if letter in into_z:
                        turned = oracle.on_wires(into_z[letter], (wire,), n) @ turned
                read = confusion @ np.abs(turned) ** 2
                if shots is not None:
                    read = self.generator.multinomial(shots, read / read.sum()) / shots
                for k in group:
                    letters = self.observables.strings[k].translate(str.maketrans("XY", "ZZ"))
                    values[r, k] = np.diag(oracle.pauli_matrix(letters)).real @ read
        return values


# --- folding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*GATES, "Unitary"])
@pytest.mark.parametrize("scale_factor", [3, 5, 2])
def test_a_folded_circuit_computes_the_same(name, scale_factor):
    wires = (2, 0)[: 2 if name == "Unitary" else GATES[name].n_wires]
    n_parameters = 0 if name == "Unitary" else GATES[name].n_parameters
    parameter = (None, 0, None, (0, 1, 2))[n_parameters]
    matrix = np.linalg.qr(np.arange(16).reshape(4, 4) ** 2 + 1j * np.eye(4))[0]
    operations = [
        Operation("H", (0,)),
        Operation(name, wires, parameter=parameter, matrix=matrix if name == "Unitary" else None),
        Operation("CRY", (1, 2), angle=0.3),
    ]
    if n_parameters:  # alone, with a factor and an offset, and in a product
        operations[0] = replace(operations[1], factor=-0.5, offset=0.3)
    if n_parameters == 1:
        operations[2] = Operation("RX", (1,), parameter=(0, 0), factor=0.7, offset=1)
    circuit, theta = Circuit(3, tuple(operations)), np.array([0.4, -1.1, 2.0])[:n_parameters]
    folded = fold(circuit, scale_factor)
    assert folded.circuit.count() == round(3 * scale_factor) or scale_factor == 2
    found = oracle.circuit_unitary(folded.circuit, folded.angles(theta[None])[0])
    expected = oracle.circuit_unitary(circuit, theta)
    overlap = np.trace(found.conj().T @ expected) / 8
    np.testing.assert_allclose(abs(overlap), 1, atol=1e-10)  # equal up to a global phase


def test_folding_by_one_changes_nothing():
    assert fold(CIRCUIT, 1).circuit == CIRCUIT


def test_what_cannot_be_folded_is_refused():
    with pytest.raises(UserError, match="scale_factor=0"):
        fold(CIRCUIT, 0)
    with pytest.raises(UserError, match="fed by 1 features"):
        fold(Circuit(1, (Operation("RX", (0,), feature=0),)), 3)


# --- zero-noise extrapolation ---------------------------------------------------------------------


def test_extrapolation_removes_most_of_the_noise_and_counts_what_it_adds():
    device = _noisy_device(0.01)
    ledger, make = _maker(device)
    raw = make(CIRCUIT, ENSEMBLE)(ROWS)
    mitigated = ZeroNoiseExtrapolation(make, CIRCUIT, ENSEMBLE)
    exact = _exact(ENSEMBLE)
    before = np.abs(raw - exact).max()
    with qml.Tracker(device) as tracker:
        found = mitigated(ROWS, purpose="input gradient")
    assert before > 0.05
    assert np.abs(found - exact).max() < before / 5
    assert ledger.by_purpose == {"forward": 4, "input gradient": 4, "mitigation": 8}
    # one submission for the raw values, and one per scale factor for the whole batch
    assert ledger.submissions == 1 + 3 and tracker.totals["batches"] == 3
    assert tracker.totals["executions"] == 4 + 8


def test_a_line_through_two_factors_is_their_combination():
    _, make = _maker(_noisy_device(0.01))
    two = ZeroNoiseExtrapolation(make, CIRCUIT, ENSEMBLE, scale_factors=(1, 3))
    folded = fold(CIRCUIT, 3)
    once = make(CIRCUIT, ENSEMBLE)(ROWS)
    thrice = make(folded.circuit, ENSEMBLE)(folded.angles(ROWS))
    np.testing.assert_allclose(two(ROWS), 1.5 * once - 0.5 * thrice, atol=1e-10)
    np.testing.assert_allclose(two.variance_factor, 1.5**2 + 0.5**2)
    np.testing.assert_allclose(two.run(ROWS, None), two(ROWS), atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale_factors": (1, 2, 3)}, r"2 folds only a part .* force=True"),
        ({"scale_factors": (1, 1.5)}, r"1.5 folds only a part"),
        ({"scale_factors": (1,)}, "at least two"),
        ({"scale_factors": (3, 1)}, "increasing"),
        ({"order": 3}, r"order=3: .* degree 1 to 2"),
        ({"order": 1.5}, r"order=1.5: .* degree 1 to 2"),
        ({"scale_factors": 3}, r"scale_factors=3: give numbers"),
        ({"scale_factors": ("1", "3")}, r"scale_factors=.*: give numbers"),
        ({"scale_factors": (1, np.inf), "force": True}, r"scale_factors=.*: give numbers"),
    ],
)
def test_scale_factors_that_mislead_are_refused(options, message):
    _, make = _maker(_noisy_device(0.01))
    with pytest.raises(UserError, match=message):
        ZeroNoiseExtrapolation(make, CIRCUIT, ENSEMBLE, **options)


def test_even_factors_can_be_forced():
    _, make = _maker(_noisy_device(0.01))
    forced = ZeroNoiseExtrapolation(make, CIRCUIT, ENSEMBLE, scale_factors=(1, 2), force=True)
    assert forced(ROWS).shape == (4, 3)


def test_executors_with_ledgers_of_their_own_are_refused():
    device = _noisy_device(0.01)

    def make(circuit, observables):
        return PennyLaneExecutor(circuit, observables, device=device)

    with pytest.raises(UserError, match="different ledgers"):
        ZeroNoiseExtrapolation(make, CIRCUIT, ENSEMBLE)
    with pytest.raises(UserError, match="different ledgers"):
        ReadoutCorrection(make, CIRCUIT, ENSEMBLE)(ROWS)


def test_executors_that_amplify_noise_by_themselves_are_combined():
    ledger = Ledger()
    executors = [
        PennyLaneExecutor(CIRCUIT, ENSEMBLE, device=_noisy_device(p), ledger=ledger)
        for p in (0.005, 0.015, 0.025)
    ]
    mitigated = ZeroNoiseExtrapolation.of(executors)
    found, exact = mitigated(ROWS), _exact(ENSEMBLE)
    assert ledger.by_purpose == {"forward": 4, "mitigation": 8}
    assert np.abs(found - exact).max() < np.abs(executors[0](ROWS) - exact).max() / 5
    with pytest.raises(UserError, match="2 executors for 3 scale factors"):
        ZeroNoiseExtrapolation.of(executors[:2])
    other = PennyLaneExecutor(
        fold(CIRCUIT, 3).circuit, ENSEMBLE, device=_noisy_device(0.01), ledger=ledger
    )
    with pytest.raises(UserError, match="another circuit"):
        ZeroNoiseExtrapolation.of([*executors[:2], other])


def test_angles_of_another_circuit_are_refused():
    _, make = _maker(_noisy_device(0.01))
    with pytest.raises(UserError, match=r"angles has shape \(4, 3\): the circuit has 12 angles"):
        ZeroNoiseExtrapolation(make, CIRCUIT, ENSEMBLE)(ROWS[:, :3])


@pytest.mark.parametrize(
    "make_one",
    [
        lambda make: ReadoutCorrection(make, CIRCUIT, PAIRS, readout=ALIKE),
        lambda make: ReadoutCorrection(make, CIRCUIT, PAIRS)(ROWS),
        lambda make: ZeroNoiseExtrapolation(make, CIRCUIT, PAIRS),
        lambda make: PackedExecutor(make, CIRCUIT, PAIRS, n_qubits=7),
    ],
)
def test_what_makes_executors_must_make_those_that_it_is_asked_for(make_one):
    whole = SimulatorExecutor(CIRCUIT, PAIRS)
    ledger = Ledger()
    for make, message in (
        (whole, "make=.*give a function of a circuit and observables"),
        (lambda circuit, observables: None, "make returned None"),
        # Were its values taken, those of ZZ would be corrected by what was never measured.
        (lambda circuit, observables: whole, "of another circuit or other observables"),
        (
            lambda circuit, _: SimulatorExecutor(
                circuit, qdeq.z_of_every_wire(circuit.n_qubits), ledger=ledger
            ),
            "of another circuit or other observables",
        ),
    ):
        with pytest.raises(UserError, match=message):
            make_one(make)


def test_known_errors_are_one_for_each_wire():
    make = functools.partial(SimulatorExecutor, ledger=Ledger())
    for readout in (ReadoutError(0.1, 0.1), [(0.1, 0.1)] * 3):
        with pytest.raises(UserError, match=r"readout=.*give a ReadoutError\(p01, p10\) for each"):
            ReadoutCorrection(make, CIRCUIT, ENSEMBLE, readout=readout)


def test_extrapolations_can_be_pickled():
    executors = [SimulatorExecutor(CIRCUIT, ENSEMBLE, ledger=Ledger())] * 3
    for mitigated in (
        ZeroNoiseExtrapolation.of(executors),
        ZeroNoiseExtrapolation(
            functools.partial(SimulatorExecutor, ledger=Ledger()), CIRCUIT, ENSEMBLE
        ),
    ):
        again = pickle.loads(pickle.dumps(mitigated))
        np.testing.assert_allclose(again(ROWS), mitigated(ROWS), atol=1e-12)


# --- a method of one's own ------------------------------------------------------------------------


class SignFlipped(Mitigation):
    """Averages each value with that of the circuit with all bits flipped at its end (twirling)."""

    scale_factors = (1, 1)

    def __init__(self, make, circuit, observables):
        flips = tuple(Operation("X", (wire,)) for wire in range(circuit.n_qubits))
        flipped = replace(circuit, operations=(*circuit.operations, *flips))
        each = [make(circuit, observables), make(flipped, observables)]
        super().__init__(circuit, observables, each)
        odd = [sum(letter != "I" for letter in string) % 2 for string in observables.strings]
        self.signs = np.where(odd, -1, 1)

    def mitigate(self, angles, measure):
        plain, flipped = (measure(executor, angles) for executor in self.executors)
        return (plain + self.signs * flipped) / 2


ALIKE = (ReadoutError(0.02, 0.08),) * 3  # twirled: symmetric with 0.05, a factor of 0.9


def test_a_mitigation_of_ones_own_is_one_method():
    ledger = Ledger()

    def make(circuit, observables):
        return Misreading(circuit, observables, ALIKE, shots=None, ledger=ledger, seed=0)

    own = SignFlipped(make, CIRCUIT, ENSEMBLE)
    found = own(ROWS, purpose="input gradient")
    np.testing.assert_allclose(found, 0.9 * _exact(ENSEMBLE), atol=1e-10)
    assert ledger.by_purpose == {"input gradient": 4, "mitigation": 4} and ledger.submissions == 2
    np.testing.assert_allclose(own.run(ROWS, None), found, atol=1e-12)
    assert ledger.submissions == 2  # `run` is free of charge
    # Around another one: the correction takes the factor for a readout error and removes it.
    both = ReadoutCorrection(lambda c, o: SignFlipped(make, c, o), CIRCUIT, ENSEMBLE)
    np.testing.assert_allclose(both(ROWS), _exact(ENSEMBLE), atol=1e-10)
    n = ledger.submissions
    assert both(ROWS[:0]).shape == (0, 3) and ledger.submissions == n


def test_a_mitigation_of_ones_own_is_checked():
    _, make = _misreading(None)

    class Short(SignFlipped):
        def mitigate(self, angles, measure):
            return super().mitigate(angles, measure)[1:]

    short = Short(make, CIRCUIT, ENSEMBLE)
    with pytest.raises(UserError, match=r"Short.mitigate returned .*\(3, 3\): give one of shape"):
        short(ROWS)
    assert "Short.mitigate" in str(short.last_error)
    with pytest.raises(UserError, match="not finite in row 0"):
        short(np.full_like(ROWS, np.nan))
    with pytest.raises(UserError, match="executors is empty"):
        Mitigation.__init__(short, CIRCUIT, ENSEMBLE, [])


# --- readout correction ---------------------------------------------------------------------------

ERRORS = (ReadoutError(0.02, 0.08), ReadoutError(0.1, 0.03), ReadoutError(0.0, 0.05))
STRINGS = qdeq.MeasurementEnsemble(3, ("ZII", "ZZI", "XYZ", "III", "IXX"))


def _misreading(shots, seed=0):
    ledger = Ledger()
    return ledger, lambda circuit, observables: Misreading(
        circuit, observables, ERRORS, shots=shots, ledger=ledger, seed=seed
    )


def test_exact_values_are_corrected_exactly():
    ledger, make = _misreading(None)
    corrected = ReadoutCorrection(make, CIRCUIT, STRINGS)
    raw, found = make(CIRCUIT, STRINGS)(ROWS), corrected(ROWS)
    exact = _exact(STRINGS)
    assert np.abs(raw - exact).max() > 0.05
    np.testing.assert_allclose(found, exact, atol=1e-10)
    np.testing.assert_allclose(
        [(e.p01, e.p10) for e in corrected.readout], [(e.p01, e.p10) for e in ERRORS], atol=1e-12
    )
    # the larger ensemble takes no setting more, and the calibration is two executions
    assert corrected.n_settings == len(STRINGS.settings())
    n = 4 * corrected.n_settings
    assert ledger.by_purpose == {"forward": 2 * n, "mitigation": 2}


def test_sampled_values_are_corrected_within_statistics():
    ledger, make = _misreading(2000, seed=1)
    rows = np.repeat(ROWS[:1], 50, axis=0)
    corrected = ReadoutCorrection(make, CIRCUIT, ENSEMBLE, calibration_shots=2_000_000)
    found = corrected(rows)
    exact = _exact(ENSEMBLE, rows=rows[:1])[0]
    error_of_mean = found.std(axis=0, ddof=1) / np.sqrt(50)
    assert np.all(np.abs(found.mean(axis=0) - exact) < 4 * error_of_mean + 2e-3)
    raw = make(CIRCUIT, ENSEMBLE)(rows).mean(axis=0)
    assert np.abs(raw - exact).max() > 10 * error_of_mean.max()
    assert ledger.shots == 2 * 50 * 2000 + 2 * 2_000_000


def test_a_known_error_needs_no_calibration():
    ledger, make = _misreading(None)
    corrected = ReadoutCorrection(make, CIRCUIT, ENSEMBLE, readout=ERRORS)
    np.testing.assert_allclose(corrected(ROWS), _exact(ENSEMBLE), atol=1e-10)
    assert "mitigation" not in ledger.by_purpose
    with pytest.raises(UserError, match="readout has 1 errors: give one for each of 3 wires"):
        ReadoutCorrection(make, CIRCUIT, ENSEMBLE, readout=ERRORS[:1])


def test_copies_side_by_side_are_corrected_each_by_its_own_errors():
    ledger, errors = Ledger(), dict(enumerate(ERRORS))
    turn, z = Circuit(1, (Operation("RY", (0,), parameter=0),)), qdeq.z_of_every_wire(1)

    def make(circuit, observables):
        noise = qdeq.NoiseModel(readout=errors)
        return SimulatorExecutor(circuit, observables, noise=noise, ledger=ledger)

    def corrected(circuit, observables):
        return ReadoutCorrection(make, circuit, observables)

    def packed(circuit, observables):
        return PackedExecutor(make, circuit, observables, n_qubits=3)

    rows = np.array([[0.0], [0.4], [2.0]])
    np.testing.assert_allclose(
        PackedExecutor(corrected, turn, z, n_qubits=3)(rows), np.cos(rows), atol=1e-10
    )
    assert ledger.by_purpose == {"forward": 1, "mitigation": 2}
    with pytest.raises(UserError, match=r"3 copies side by side, .*: correct the wide circuit"):
        ReadoutCorrection(packed, turn, z)
    ReadoutCorrection(packed, turn, z, readout=ERRORS[:1])  # all are read alike


def test_a_wire_that_reads_at_random_is_named():
    _, make = _misreading(None)
    coin = (*ERRORS[:2], ReadoutError(0.5, 0.5))
    with pytest.raises(UserError, match=r"wire 2 reads 0 as 1 with probability 0.50"):
        ReadoutCorrection(make, CIRCUIT, ENSEMBLE, readout=coin)(ROWS)


def test_both_corrections_together_beat_either():
    noise = {
        qml.noise.op_in(["RX", "RY", "CNOT"]): qml.noise.partial_wires(
            qml.DepolarizingChannel, 0.01
        )
    }
    misread = {qml.noise.meas_eq(qml.expval): qml.noise.partial_wires(qml.BitFlip, 0.05)}
    device = qml.noise.add_noise(
        qml.device("default.mixed", wires=3), qml.NoiseModel(noise, meas_map=misread)
    )
    _, make = _maker(device)
    rows = ROWS[:1]
    exact = _exact(ENSEMBLE, rows=rows)
    readout = ReadoutCorrection(make, CIRCUIT, ENSEMBLE)
    both = ZeroNoiseExtrapolation(
        lambda circuit, observables: ReadoutCorrection(make, circuit, observables),
        CIRCUIT,
        ENSEMBLE,
    )
    alone = ZeroNoiseExtrapolation(make, CIRCUIT, ENSEMBLE)
    errors = [
        np.abs(e(rows) - exact).max() for e in (make(CIRCUIT, ENSEMBLE), readout, alone, both)
    ]
    assert errors[3] < min(errors[1:3]) / 3 < errors[0] / 3
