"""An independent simulator: dense NumPy matrices, written from the definitions, no library code."""

import numpy as np

X = np.array([[0, 1], [1, 0]], dtype=complex)
Y = np.array([[0, -1j], [1j, 0]])
Z = np.diag([1.0 + 0j, -1])
I2 = np.eye(2, dtype=complex)
PAULIS = {"I": I2, "X": X, "Y": Y, "Z": Z}
P0, P1 = np.diag([1.0 + 0j, 0]), np.diag([0j, 1])


def rotation(axis, angle):
    """exp(-i angle axis / 2) for a matrix that squares to one."""
    return np.cos(angle / 2) * np.eye(len(axis)) - 1j * np.sin(angle / 2) * axis


FIXED = {
    "I": I2,
    "X": X,
    "Y": Y,
    "Z": Z,
    "H": np.array([[1, 1], [1, -1]]) / np.sqrt(2),
    "S": np.diag([1, 1j]),
    "T": np.diag([1, np.exp(0.25j * np.pi)]),
    "SX": 0.5 * np.array([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]]),
    "CNOT": np.kron(P0, I2) + np.kron(P1, X),
    "CZ": np.diag([1, 1, 1, -1]),
    "SWAP": np.eye(4)[[0, 2, 1, 3]],
}


def gate_matrix(name, angles=()):
    """The matrix of a gate, first wire most significant."""
    if name in FIXED:
        return np.asarray(FIXED[name], dtype=complex)
    if name == "PhaseShift":
        return np.diag([1, np.exp(1j * angles[0])])
    if name == "U3":
        t, p, q = angles
        return np.array(
            [
                [np.cos(t / 2), -np.exp(1j * q) * np.sin(t / 2)],
                [np.exp(1j * p) * np.sin(t / 2), np.exp(1j * (p + q)) * np.cos(t / 2)],
            ]
        )
    if len(name) == 2:
        return rotation(PAULIS[name[1]], angles[0])
    if name.startswith("CR"):
        return np.kron(P0, I2) + np.kron(P1, rotation(PAULIS[name[2]], angles[0]))
    return rotation(np.kron(PAULIS[name[1]], PAULIS[name[2]]), angles[0])


def on_wires(matrix, wires, n_qubits):
    """The matrix on the whole register, entry by entry: wire 0 is the most significant bit."""
    size = 2**n_qubits
    full = np.zeros((size, size), dtype=complex)
    for column in range(size):
        bits = [(column >> (n_qubits - 1 - w)) & 1 for w in range(n_qubits)]
        local = int("".join(str(bits[w]) for w in wires), 2)
        for row_local in range(len(matrix)):
            new = list(bits)
            for position, wire in enumerate(wires):
                new[wire] = (row_local >> (len(wires) - 1 - position)) & 1
            full[int("".join(map(str, new)), 2), column] += matrix[row_local, local]
    return full


def applied(matrix, wires, unitary):
    """`on_wires(matrix) @ unitary` without the large matrix: hundreds of gates take no time."""
    n_qubits, n_wires = len(unitary).bit_length() - 1, len(wires)
    tensor = unitary.reshape((2,) * n_qubits + (-1,))
    gate = np.reshape(matrix, (2,) * (2 * n_wires))
    tensor = np.tensordot(gate, tensor, (range(n_wires, 2 * n_wires), wires))
    return np.moveaxis(tensor, range(n_wires), wires).reshape(unitary.shape)


def gate_angles(operation, theta, features=()):
    """The angles of an operation: factor times a parameter, a feature or a product, plus offset."""
    if operation.angle is not None:
        return [operation.angle]
    if operation.feature is not None:
        entries = [np.prod([features[i] for i in np.atleast_1d(operation.feature)])]
    elif operation.parameter is None:
        return []
    elif operation.name == "U3":
        entries = [theta[i] for i in operation.parameter]
    else:
        entries = [np.prod([theta[i] for i in np.atleast_1d(operation.parameter)])]
    return list(np.array(operation.factor) * entries + np.array(operation.offset))


def circuit_unitary(circuit, theta, features=()):
    """The unitary of a `qdeq.Circuit`, gate by gate."""
    unitary = np.eye(2**circuit.n_qubits, dtype=complex)
    for operation in circuit.operations:
        if operation.matrix is not None:
            matrix = np.asarray(operation.matrix)
        else:
            matrix = gate_matrix(operation.name, gate_angles(operation, theta, features))
        unitary = applied(matrix, operation.wires, unitary)
    return unitary


def pauli_matrix(string):
    """A Pauli string such as "ZIX" as a matrix."""
    matrix = np.eye(1, dtype=complex)
    for letter in string:
        matrix = np.kron(matrix, PAULIS[letter])
    return matrix


def expectation_values(strings, state):
    """<state|P|state> for each Pauli string."""
    return np.array([(state.conj() @ pauli_matrix(s) @ state).real for s in strings])
