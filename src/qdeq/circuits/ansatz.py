"""Ready-made circuits: the paper's ansatz and two common families.

Encodings are in `encodings`; the paper's whole model is assembled in `qdeq.models`.
"""

from collections.abc import Sequence
from typing import get_args

import numpy as np

from qdeq.circuits.circuit import Circuit, check_n_qubits
from qdeq.circuits.gates import GATES
from qdeq.circuits.operation import Operation
from qdeq.errors import UserError, as_tuple, check_choice, check_count
from qdeq.names import Trainable

_RANDOM_GATES = ("RX", "RY", "RZ", "CNOT")


class _Builder:
    """Appends operations and hands out parameter indices in order."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.n_parameters = 0

    def add(self, name: str, *wires: int) -> None:
        n_new = GATES[name].n_parameters
        fresh = tuple(range(self.n_parameters, self.n_parameters + n_new))
        parameter = None if n_new == 0 else fresh[0] if n_new == 1 else fresh
        self.operations.append(Operation(name, wires, parameter=parameter))
        self.n_parameters += n_new


def paper_ansatz(
    n_qubits: int,
    *,
    trainable: str = "all",
    seed: int = 1111,
    n_random: int = 50,
    n_blocks: int | None = None,
) -> Circuit:
    """The circuit of the QDEQ paper: a random layer, then G blocks of fixed shape.

    The random layer has `n_random` gates from {RX, RY, RZ, CNOT} with equal odds on random wires.
    Block i is RX(2i), RY(2i+1), RZ(2i+3), CRX(2i -> 2i+2); after all blocks follow, for each i,
    H(2i+3), SX(2i+2), CNOT(2i+3 -> 2i). With the defaults this is the published circuit, gate by
    gate, at 4 qubits (39 angles) and 10 qubits (56 angles).

    Parameters
    ----------
    n_qubits
        Number of wires, at least 4.
    trainable
        ``"all"`` trains every angle, as the paper's text does. ``"published"`` freezes the angles
        of the blocks, which the published code never registers with its optimiser: 35 of 39 angles
        learn at 4 qubits and 40 of 56 at 10.
    seed
        Seed of NumPy's legacy generator, which draws the random layer.
    n_random
        Number of gates in the random layer.
    n_blocks
        Number of blocks G; None is the most that fit, ``(n_qubits - 2) // 2``.

    Returns
    -------
    Circuit
        Parameters numbered in circuit order.

    Raises
    ------
    UserError
        For fewer than 4 qubits, an unknown `trainable`, or counts out of range.

    References
    ----------
    Schleich et al., Quantum Deep Equilibrium Models, NeurIPS 2024, arXiv 2410.23940.

    Examples
    --------
    >>> circuit = paper_ansatz(4, trainable="published")
    >>> circuit.n_parameters, sum(circuit.trainable)
    (39, 35)
    """
    check_choice("trainable", trainable, get_args(Trainable))
    check_n_qubits(n_qubits)
    if n_qubits < 4:
        raise UserError(
            f"n_qubits={n_qubits}: a block of the paper's ansatz needs at least 4 wires; give "
            "more, or another ansatz such as 'hardware-efficient'"
        )
    check_count("n_random", n_random, 0)
    check_count("seed", seed, 0)
    if seed >= 2**32:
        raise UserError(f"seed={seed}: NumPy's legacy generator takes seeds from 0 to 2**32 - 1")
    most = (n_qubits - 2) // 2
    n_blocks = most if n_blocks is None else n_blocks
    check_count("n_blocks", n_blocks, 0)
    if n_blocks > most:
        raise UserError(f"n_blocks={n_blocks}: n_qubits={n_qubits} has room for 0 to {most} blocks")

    builder = _Builder()
    _add_random_layer(builder, n_qubits, n_random, seed)
    n_learned = builder.n_parameters
    for i in range(n_blocks):
        builder.add("RX", 2 * i)
        builder.add("RY", 2 * i + 1)
        builder.add("RZ", 2 * i + 3)
        builder.add("CRX", 2 * i, 2 * i + 2)
    if trainable == "all":
        n_learned = builder.n_parameters
    for i in range(n_blocks):
        builder.add("H", 2 * i + 3)
        builder.add("SX", 2 * i + 2)
        builder.add("CNOT", 2 * i + 3, 2 * i)
    flags = tuple(i < n_learned for i in range(builder.n_parameters))
    return Circuit(n_qubits, tuple(builder.operations), flags)


def _add_random_layer(builder: _Builder, n_qubits: int, n_random: int, seed: int) -> None:
    # A private legacy generator gives the numbers that numpy.random.seed(seed) would, and leaves
    # the caller's global state alone. The explicit p matters: without it `choice` takes another
    # path through the generator and draws other gates than the published code.
    generator = np.random.RandomState(seed)
    odds = np.full(len(_RANDOM_GATES), 1 / len(_RANDOM_GATES))
    for _ in range(n_random):
        name = _RANDOM_GATES[generator.choice(len(_RANDOM_GATES), p=odds)]
        wires = generator.choice(n_qubits, GATES[name].n_wires, replace=False)
        builder.add(name, *wires)


def hardware_efficient(
    n_qubits: int,
    n_layers: int,
    *,
    rotations: Sequence[str] = ("RY", "RZ"),
    entangler: str = "CNOT",
) -> Circuit:
    """Layers of rotations on every wire, each followed by two rounds of neighbouring pairs.

    Pairs (0, 1), (2, 3), ... come first, then (1, 2), (3, 4), ...: two layers of depth whatever the
    number of qubits. A chain 0-1, 1-2, 2-3, ... would be n - 1 deep, and the last wire would depend
    on all the others after one layer, which leaves light-cone simulation nothing to exploit.

    With <Z> observables and a CNOT or CZ entangler, an RZ at the end of the last layer commutes
    with everything after it and cannot change the output.

    Parameters
    ----------
    n_qubits
        Number of wires; with 1 there is no entangler.
    n_layers
        Number of layers, 0 or more.
    rotations
        Gates of one wire with angles, in time order: RX, RY, RZ, PhaseShift or U3.
    entangler
        A gate of two wires; its angles, if any, are parameters too.

    Returns
    -------
    Circuit
        With ``n_layers * n_qubits * len(rotations)`` parameters if the entangler has none and no
        rotation is U3.

    Raises
    ------
    UserError
        For unknown gates or a negative number of layers.

    References
    ----------
    Kandala et al., Hardware-efficient variational quantum eigensolver, Nature 549, 242 (2017),
    arXiv 1704.05018.

    Examples
    --------
    >>> print(hardware_efficient(4, 1, rotations=("RY",), entangler="CZ").draw())
    0: ──RY(θ0)─╭●────┤
    1: ──RY(θ1)─╰●─╭●─┤
    2: ──RY(θ2)─╭●─╰●─┤
    3: ──RY(θ3)─╰●────┤
    """
    _check_layers(n_qubits, n_layers)
    turning = [g.name for g in GATES.values() if g.n_wires == 1 and g.n_parameters > 0]
    if isinstance(rotations, str):
        raise UserError(f"rotations={rotations!r} is one string: give a tuple, ({rotations!r},)")
    rotations = as_tuple("rotations", rotations, object, "names of gates")
    for i, name in enumerate(rotations):
        check_choice(f"rotations[{i}]", name, turning)
    check_choice("entangler", entangler, [g.name for g in GATES.values() if g.n_wires == 2])
    builder = _Builder()
    for _ in range(n_layers):
        for wire in range(n_qubits):
            for name in rotations:
                builder.add(name, wire)
        for first in (0, 1):
            for wire in range(first, n_qubits - 1, 2):
                builder.add(entangler, wire, wire + 1)
    return Circuit(n_qubits, tuple(builder.operations))


def strongly_entangling(n_qubits: int, n_layers: int) -> Circuit:
    """Layers of arbitrary rotations of every wire (RZ, RY, RZ) and a ring of CNOTs.

    In layer l (from 0) wire i controls wire ``i + 1 + l mod (n - 1)``, modulo n. The operations and
    the order of the parameters are those of PennyLane's ``StronglyEntanglingLayers``.

    Parameters
    ----------
    n_qubits
        Number of wires; with 1 there are no CNOTs.
    n_layers
        Number of layers, 0 or more.

    Returns
    -------
    Circuit
        With ``3 * n_qubits * n_layers`` parameters.

    Raises
    ------
    UserError
        For a negative number of layers or no qubits.

    References
    ----------
    Schuld et al., Circuit-centric quantum classifiers, Phys. Rev. A 101, 032308 (2020),
    arXiv 1804.00633.

    Examples
    --------
    >>> strongly_entangling(4, 3).n_parameters
    36
    """
    _check_layers(n_qubits, n_layers)
    builder = _Builder()
    for layer in range(n_layers):
        for wire in range(n_qubits):
            for name in ("RZ", "RY", "RZ"):
                builder.add(name, wire)
        if n_qubits > 1:
            reach = 1 + layer % (n_qubits - 1)
            for wire in range(n_qubits):
                builder.add("CNOT", wire, (wire + reach) % n_qubits)
    return Circuit(n_qubits, tuple(builder.operations))


def _check_layers(n_qubits: int, n_layers: int) -> None:
    check_n_qubits(n_qubits)
    check_count("n_layers", n_layers, 0)
