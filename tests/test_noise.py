"""Noise as data: channels keep trace and positivity, rules choose operations, texts read back."""

import math

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdeq.circuits import (
    AmplitudeDamping,
    Dephasing,
    Depolarising,
    KrausChannel,
    NoiseModel,
    Operation,
    OverRotation,
    ReadoutError,
    Rule,
    ThermalRelaxation,
    TwoQubitDepolarising,
    format_noise,
    parse_noise,
)
from qdeq.errors import UserError
from qdeq.simulation.superoperators import transfer_matrix

probabilities = st.floats(0, 1)
times = st.floats(1e-3, 1e3)
relaxations = st.builds(
    lambda t1, ratio, time: ThermalRelaxation(t1, ratio * t1, time),
    times,
    st.floats(1e-3, 2),
    st.floats(0, 1e3),
)
channels = st.one_of(
    st.builds(Depolarising, probabilities),
    st.builds(TwoQubitDepolarising, probabilities),
    st.builds(Dephasing, probabilities),
    st.builds(AmplitudeDamping, probabilities),
    relaxations,
    st.builds(OverRotation, st.floats(-7, 7), st.sampled_from(["RX", "PhaseShift", "CRY", "RZZ"])),
)


@given(channel=channels)
@settings(max_examples=60)
def test_every_channel_keeps_the_trace_and_is_completely_positive(channel):
    kraus, size = channel.kraus(), 2**channel.n_wires
    total = sum(k.conj().T @ k for k in kraus)
    np.testing.assert_allclose(total, np.eye(size), atol=1e-12)
    # The Choi matrix, from what the transfer matrix makes of every matrix unit.
    strings = [oracle.pauli_matrix(a + b) for a in "IXYZ" for b in ("IXYZ" if size == 4 else [""])]
    transfer = transfer_matrix(kraus)
    np.testing.assert_allclose(transfer[0], np.eye(size**2)[0], atol=1e-12)
    choi = np.zeros((size**2, size**2), dtype=complex)
    for i, j in np.ndindex(size, size):
        unit = np.zeros((size, size))
        unit[i, j] = 1
        image = transfer @ [np.trace(p @ unit) for p in strings]
        choi += np.kron(unit, sum(c * p for c, p in zip(image, strings, strict=True)) / size)
    assert np.linalg.eigvalsh(choi).min() > -1e-12


def apply(channel, rho):
    return sum(k @ rho @ k.conj().T for k in channel.kraus())


def test_channels_are_the_maps_that_their_names_promise():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4, 4, 2)) @ [1, 1j]
    pair = a @ a.conj().T / np.trace(a @ a.conj().T)
    rho = pair[:2, :2] / np.trace(pair[:2, :2])
    mixed = np.eye(2) / 2
    # One Pauli in three: what survives is 1 - 4 p / 3 of the traceless part; 15 errors: 1 - 16/15 p
    np.testing.assert_allclose(
        apply(Depolarising(0.3), rho), mixed + (1 - 0.4) * (rho - mixed), atol=1e-14
    )
    np.testing.assert_allclose(
        apply(TwoQubitDepolarising(0.3), pair),
        np.eye(4) / 4 + (1 - 0.32) * (pair - np.eye(4) / 4),
        atol=1e-14,
    )
    for t1, t2 in ((3.0, 2.0), (3.0, 5.5), (3.0, 6.0), (math.inf, 4.0), (2.0, 2.0)):
        out = apply(ThermalRelaxation(t1, t2, 0.7), rho)
        np.testing.assert_allclose(out[1, 1], rho[1, 1] * math.exp(-0.7 / t1), atol=1e-14)
        np.testing.assert_allclose(out[0, 1], rho[0, 1] * math.exp(-0.7 / t2), atol=1e-14)
    np.testing.assert_allclose(apply(Dephasing(0.5), rho), np.diag(np.diag(rho)), atol=1e-14)
    np.testing.assert_allclose(apply(AmplitudeDamping(1), rho), np.diag([1, 0]), atol=1e-14)


def test_a_rule_chooses_operations_by_gate_wires_and_size():
    cnot, rx = Operation("CNOT", (2, 0)), Operation("RX", (0,), angle=0.3)
    single, pair = Depolarising(0.1), TwoQubitDepolarising(0.1)

    def after(operation, *rule, **options):
        return NoiseModel((Rule(*rule, **options),)).channels_after(operation)

    assert after(cnot, single) == ((single, (2,)), (single, (0,)))
    assert after(cnot, single, wires=(0, 1)) == ((single, (0,)),)
    assert after(cnot, single, n_wires=1) == () and after(rx, single, n_wires=1) != ()
    assert after(cnot, single, gates=("RX",)) == ()
    assert after(cnot, pair) == ((pair, (2, 0)),) and after(rx, pair) == ()
    assert after(cnot, pair, wires=(0, 1)) == () and after(cnot, pair, wires=(0, 1, 2)) != ()
    assert after(cnot, pair, on=(2, 0)) != () and after(cnot, pair, on=(0, 2)) == ()
    assert after(cnot, OverRotation(0.2)) == ()
    assert after(rx, OverRotation(0.2)) == ((OverRotation(0.2, "RX"), (0,)),)
    both = NoiseModel((Rule(pair), Rule(single, wires=(2,))))
    assert both.channels_after(cnot) == ((pair, (2, 0)), (single, (2,)))
    assert hash(both) == hash(NoiseModel([Rule(pair), Rule(single, wires=[2])]))


def test_readout_errors_are_given_once_or_per_wire():
    error = ReadoutError(0.1, 0.2)
    assert NoiseModel(readout=error).readout_of(7) == error
    some = NoiseModel(readout={3: error, 1: ReadoutError(0, 0.5)})
    assert some == NoiseModel(readout=((1, ReadoutError(0, 0.5)), (3, error)))
    assert some.readout_of(3) == error and some.readout_of(0) is None
    assert NoiseModel(readout={}) == NoiseModel()  # a perfect device
    with pytest.raises(UserError, match="wire 3"):
        some.check_wires(3)
    with pytest.raises(UserError, match="wire 2"):
        NoiseModel((Rule(Dephasing(0.1), wires=(0, 2)),)).check_wires(2)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Depolarising(1.5), "1.5"),
        (lambda: Dephasing(-0.1), "between 0 and 1"),
        (lambda: AmplitudeDamping(float("nan")), "between 0 and 1"),
        (lambda: ReadoutError("much", 0), "much"),
        (lambda: ThermalRelaxation(1, 3, 0.1), "at most 2"),
        (lambda: ThermalRelaxation(0, 1, 0.1), "above 0"),
        (lambda: ThermalRelaxation(1, 1, -1), "0 or more"),
        (lambda: OverRotation(math.inf), "finite"),
        (lambda: OverRotation(0.1).kraus(), "no gate yet"),
        (lambda: OverRotation(0.1, "H"), "RX"),
        (lambda: KrausChannel((np.eye(2), np.eye(2))), "keeps the trace"),
        (lambda: KrausChannel((np.eye(3),)), "shape"),
        (lambda: Rule(0.1), "Depolarising"),
        (lambda: Rule(Depolarising(0.1), gates="CNOT"), "tuple"),
        (lambda: Rule(Depolarising(0.1), gates=("CNOTT",)), "CNOTT"),
        (lambda: Rule(Depolarising(0.1), wires=()), "at least one"),
        (lambda: Rule(Depolarising(0.1), wires=(1, 1)), "distinct"),
        (lambda: Rule(OverRotation(0.1), gates=("H",)), "exactly one angle"),
        (lambda: Rule(TwoQubitDepolarising(0.1), gates=("RX",)), "2 wires"),
        (lambda: Rule(TwoQubitDepolarising(0.1), n_wires=1), "2 wire"),
        (lambda: Rule(Depolarising(0.1), n_wires=2.0), "n_wires=2.0: give an integer"),
        (lambda: NoiseModel((Depolarising(0.1),)), "Rule"),
        (lambda: NoiseModel(readout=0.02), "ReadoutError"),
        (lambda: NoiseModel(readout={0: 0.02}), "ReadoutError"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(wrong, words):
    with pytest.raises(UserError) as caught:
        wrong()
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "depolarising=0.01",
        "depolarising@1q=0.001,two-qubit-depolarising=0.01,readout=0.02",
        "dephasing@CNOT+2q+1=0.005,amplitude-damping@RX+RY=0.01,readout=0.01/0.03",
        "thermal-relaxation=5e-05/7e-05/3.5e-08,over-rotation=-0.02",
        "two-qubit-depolarising@CNOT+0-1=0.03,readout@0=0.02,readout@2=0.1/0.2",
        "",
    ],
)
def test_a_text_and_its_noise_model_give_each_other_back(text):
    noise = parse_noise(text)
    assert format_noise(noise) == text == str(noise)
    assert parse_noise(text.upper().replace(",", " , ").replace("=", " = ")) == noise


def test_a_text_says_what_the_classes_say():
    assert parse_noise("depolarizing@2q=0.1,over-rotation=0.2,readout@1+0=0.1/0.2") == NoiseModel(
        (Rule(Depolarising(0.1), n_wires=2), Rule(OverRotation(0.2))),
        readout={0: ReadoutError(0.1, 0.2), 1: ReadoutError(0.1, 0.2)},
    )
    identity = KrausChannel((np.eye(2),))
    for rules in ((Rule(identity),), (Rule(Dephasing(0.1)), Rule(Dephasing(0.2)))):
        unwritable = NoiseModel(rules)
        assert type(rules[0].channel).__name__ in str(unwritable)
        with pytest.raises(UserError, match="no text"):
            format_noise(unwritable)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("depolarising", "incomplete"),
        ("depolarising@=0.1", "incomplete"),
        ("depolarising=", "no number"),
        ("depolarising=two", "no number"),
        ("depolarising=1.2", "between 0 and 1"),
        ("depolarising=0.1/0.2", "one number"),
        ("thermal-relaxation=1/2", "t1/t2/time"),
        ("bitflip=0.1", "amplitude-damping"),
        ("depolarising=0.1,depolarising=0.2", "twice"),
        ("readout@0+1=0.1,readout@1=0.2", "given already"),
        ("depolarising@cnott=0.1", "cnott"),
        ("readout@CNOT=0.1", "wire"),
        ("readout=0.1,readout@1=0.2", "single wires"),
        ("readout=0.1/0.2/0.3", "3 numbers"),
        ("over-rotation@H=0.1", "exactly one angle"),
    ],
)
def test_a_text_with_a_mistake_is_refused_in_one_sentence(text, words):
    with pytest.raises(UserError) as caught:
        parse_noise(text)
    assert words in str(caught.value) and "\n" not in str(caught.value)
