"""A transpiled circuit made longer, gate by gate, without another result."""

from qiskit import QuantumCircuit
from qiskit.transpiler import PassManager


def folded(circuit: QuantumCircuit, fold: int, rewrite: PassManager | None) -> QuantumCircuit:
    """U (U^-1 U) (U^-1 U) ... with so many factors, and then the measurements of the circuit.

    Folding before transpilation would not do: a transpiler takes U^-1 U out again.

    Parameters
    ----------
    circuit
        In the device's own gates; measurements only at its end.
    fold
        Odd number of factors.
    rewrite
        What writes an inverted circuit in the device's gates on the same qubits; None leaves it.
    """
    gates = circuit.remove_final_measurements(inplace=False)
    assert gates is not None
    backwards = gates.inverse()
    if rewrite is not None:
        backwards = rewrite.run(backwards)
    result = circuit.copy()
    result.data = []
    for part in (gates, *(backwards, gates) * (fold // 2)):
        result.compose(part, inplace=True)
        result.barrier()
    for instruction in circuit.data:
        if instruction.operation.name == "measure":
            result.append(instruction)
    return result
