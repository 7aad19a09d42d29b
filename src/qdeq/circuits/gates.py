"""The table of gates: names, numbers of wires and angles, matrices in a form for simulation.

Which gate sits on which wire is the business of `circuit`; applying one to a state that of
`qdeq.simulation`.
"""

from dataclasses import dataclass

import numpy as np

from qdeq.errors import UserError


@dataclass(frozen=True, eq=False)
class Gate:
    """A gate as three constant matrices, so that its angle enters through two numbers only.

    A gate with one angle t is ``constant + cos(scale * t) * cosine + sin(scale * t) * sine``. A
    simulator therefore traces two scalars per gate and never builds a matrix entry by entry.

    The first wire of a gate is the most significant bit of its matrix; the wires of a controlled
    gate are (control, target). Rotations are ``exp(-i t P / 2)`` with t in radians.

    Attributes
    ----------
    name
        The canonical name, the key in `GATES`.
    n_wires
        Number of wires k on which the gate acts.
    n_parameters
        Number of angles: 0, 1, or 3 (``U3``).
    constant
        ``(2**k, 2**k)`` complex128. The whole matrix of a gate without angles; zeros for ``U3``,
        which is given by its `factors` alone.
    cosine, sine
        ``(2**k, 2**k)`` complex128, or None unless the gate has exactly one angle.
    scale
        What multiplies the angle inside the cosine: 0.5 for rotations, 1 for ``PhaseShift``, 0 for
        the rest.
    factors
        Gates that applied one after the other, the first one first, make this gate:
        ``(name, position of its angle among this gate's angles)``. Only ``U3`` has factors.
    """

    name: str
    n_wires: int
    n_parameters: int
    constant: np.ndarray
    cosine: np.ndarray | None = None
    sine: np.ndarray | None = None
    scale: float = 0.0
    factors: tuple[tuple[str, int], ...] = ()

    def matrix(self, *angles: float) -> np.ndarray:
        """The unitary matrix of the gate.

        Parameters
        ----------
        *angles
            `n_parameters` angles in radians.

        Returns
        -------
        np.ndarray
            ``(2**n_wires, 2**n_wires)`` complex128.

        Raises
        ------
        UserError
            If the number of angles is wrong.

        Examples
        --------
        >>> GATES["RZ"].matrix(np.pi).round(3)
        array([[0.-1.j, 0.+0.j],
               [0.+0.j, 0.+1.j]])
        """
        if len(angles) != self.n_parameters:
            raise UserError(
                f"{self.name} was given {len(angles)} angles and takes {self.n_parameters}: "
                "pass exactly one number for each"
            )
        if self.factors:
            product = np.eye(2**self.n_wires, dtype=np.complex128)
            for name, position in self.factors:
                product = GATES[name].matrix(angles[position]) @ product
            return product
        if self.cosine is None or self.sine is None:
            return self.constant.copy()
        angle = self.scale * angles[0]
        return self.constant + np.cos(angle) * self.cosine + np.sin(angle) * self.sine


def _read_only(matrix: object) -> np.ndarray:
    array = np.array(matrix, dtype=np.complex128)
    array.setflags(write=False)
    return array


def _block_diagonal(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """The matrix that acts as `upper` when the first wire is 0 and as `lower` when it is 1."""
    n = len(upper)
    matrix = np.zeros((2 * n, 2 * n), dtype=np.complex128)
    matrix[:n, :n] = upper
    matrix[n:, n:] = lower
    return matrix


_I = np.eye(2)
_X = np.array([[0, 1], [1, 0]])
_Y = np.array([[0, -1j], [1j, 0]])
_Z = np.diag([1, -1])
_ZERO = np.zeros((2, 2))


def _fixed(name: str, matrix: object) -> Gate:
    constant = _read_only(matrix)
    return Gate(name, n_wires=len(constant).bit_length() - 1, n_parameters=0, constant=constant)


def _rotation(name: str, generator: np.ndarray) -> Gate:
    """exp(-i t P / 2) = cos(t / 2) I - i sin(t / 2) P, for a generator with P P = I."""
    size = len(generator)
    return Gate(
        name,
        n_wires=size.bit_length() - 1,
        n_parameters=1,
        constant=_read_only(np.zeros((size, size))),
        cosine=_read_only(np.eye(size)),
        sine=_read_only(-1j * generator),
        scale=0.5,
    )


def _controlled_rotation(name: str, generator: np.ndarray) -> Gate:
    return Gate(
        name,
        n_wires=2,
        n_parameters=1,
        constant=_read_only(_block_diagonal(_I, _ZERO)),
        cosine=_read_only(_block_diagonal(_ZERO, _I)),
        sine=_read_only(_block_diagonal(_ZERO, -1j * generator)),
        scale=0.5,
    )


_ALL_GATES = (
    _fixed("I", _I),
    _fixed("X", _X),
    _fixed("Y", _Y),
    _fixed("Z", _Z),
    _fixed("H", (_X + _Z) / np.sqrt(2)),
    _fixed("S", np.diag([1, 1j])),
    _fixed("T", np.diag([1, np.exp(0.25j * np.pi)])),
    _fixed("SX", ((1 + 1j) * _I + (1 - 1j) * _X) / 2),
    _rotation("RX", _X),
    _rotation("RY", _Y),
    _rotation("RZ", _Z),
    Gate(
        "PhaseShift",
        n_wires=1,
        n_parameters=1,
        constant=_read_only(np.diag([1, 0])),
        cosine=_read_only(np.diag([0, 1])),
        sine=_read_only(np.diag([0, 1j])),
        scale=1.0,
    ),
    # Angles (theta, phi, lambda) as in OpenQASM 3 and PennyLane; lambda acts first.
    Gate(
        "U3",
        n_wires=1,
        n_parameters=3,
        constant=_read_only(_ZERO),
        factors=(("PhaseShift", 2), ("RY", 0), ("PhaseShift", 1)),
    ),
    _fixed("CNOT", _block_diagonal(_I, _X)),
    _fixed("CZ", _block_diagonal(_I, _Z)),
    _fixed("SWAP", np.eye(4)[[0, 2, 1, 3]]),
    _controlled_rotation("CRX", _X),
    _controlled_rotation("CRY", _Y),
    _controlled_rotation("CRZ", _Z),
    _rotation("RXX", np.kron(_X, _X)),
    _rotation("RYY", np.kron(_Y, _Y)),
    _rotation("RZZ", np.kron(_Z, _Z)),
)

GATES: dict[str, Gate] = {gate.name: gate for gate in _ALL_GATES}
"""Every named gate. ``Unitary`` is not here: such an operation brings its own matrix."""
