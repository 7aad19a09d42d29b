"""Ansaetze by the names that configurations and the command line use.

The circuits themselves are in `ansatz`; here is only the choice between them, and those that are
made from another: the paper's without its two-qubit gates, or many times over.
"""

from typing import get_args

from qdeq.circuits.ansatz import hardware_efficient, paper_ansatz, strongly_entangling
from qdeq.circuits.circuit import Circuit
from qdeq.errors import UserError, check_choice, check_count, check_kind
from qdeq.names import NamedAnsatz

ANSAETZE = get_args(NamedAnsatz)


def make_ansatz(name: str, n_qubits: int, *, n_layers: int = 3, trainable: str = "all") -> Circuit:
    """A circuit by name.

    Parameters
    ----------
    name
        ``"paper"``, ``"hardware-efficient"``, ``"strongly-entangling"``; or
        ``"paper-unentangled"``: the paper's without its two-qubit gates, a product of one-qubit
        circuits that any laptop simulates, which tells what entanglement contributes; or
        ``"paper-repeated"``: the paper's several times over, each time with angles of its own, the
        deep circuit that an equilibrium of the shallow one competes with.
    n_qubits
        Number of wires.
    n_layers
        Layers of the second and third, repetitions of the last.
    trainable
        ``"all"`` or ``"published"``, which only the paper's circuits know; see `paper_ansatz`.

    Raises
    ------
    UserError
        For an unknown name, ``"published"`` with a circuit that was not, or wrong numbers.

    Examples
    --------
    >>> make_ansatz("paper", 4).count(n_wires=2), make_ansatz("paper-unentangled", 4).depth()
    (17, 14)
    """
    check_choice("ansatz", name, ANSAETZE)
    if name.startswith("paper"):
        circuit = paper_ansatz(n_qubits, trainable=trainable)
        if name == "paper-repeated":
            check_count("n_layers", n_layers, why=": repeat the paper's circuit at least once")
            return sum([circuit] * (n_layers - 1), circuit)
        return circuit if name == "paper" else without_entanglers(circuit)
    if trainable != "all":
        raise UserError(
            f"trainable={trainable!r} with ansatz {name!r}: only the paper's circuits were "
            "published, set it to 'all'"
        )
    family = hardware_efficient if name == "hardware-efficient" else strongly_entangling
    return family(n_qubits, n_layers)


def without_entanglers(circuit: Circuit) -> Circuit:
    """Leave out the operations of two or more wires, and the parameters that only they use.

    Parameters
    ----------
    circuit
        Any circuit; its other operations keep their order, their parameters are renumbered.

    Examples
    --------
    >>> from qdeq.circuits import Operation
    >>> bell = Circuit(2, (Operation("RY", (1,), parameter=0), Operation("CNOT", (0, 1))))
    >>> without_entanglers(bell).count()
    1
    """
    check_kind("circuit", circuit, Circuit, "a Circuit")
    kept = [operation for operation in circuit.operations if len(operation.wires) == 1]
    used = sorted({index for operation in kept for index in operation.parameters})
    position = {old: new for new, old in enumerate(used)}
    return Circuit(
        circuit.n_qubits,
        tuple(operation.renumbered(position.__getitem__) for operation in kept),
        tuple(circuit.trainable[old] for old in used),
    )
