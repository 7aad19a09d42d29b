"""Measured bits of one setting, and the averages that are taken of them."""

from typing import Any

import numpy as np

# Each wire's factor in a product where a 0 was read, and where a 1 was: the eigenvalues of Z.
PLAIN_READING = np.array([[1.0, -1.0]])

_BITS_AT_ONCE = 2**22


class MeasuredBits:
    """Measured bits of one setting: ``(B, shots, n)`` booleans, wire i in place i."""

    def __init__(self, packed: np.ndarray, n_qubits: int):
        self._packed, self._n_qubits = packed, n_qubits

    @classmethod
    def of(cls, measured: list[Any], n_qubits: int) -> "MeasuredBits":
        """From the bit arrays of some PUBs, each of shape ``(rows,)`` or ``()``."""
        packed = [array.array.reshape(-1, *array.array.shape[-2:]) for array in measured]
        return cls(np.concatenate(packed), n_qubits)

    def product(self, wires: list[int], readings: np.ndarray) -> np.ndarray:
        """``(B,)`` means over the shots of a product over wires.

        Parameters
        ----------
        wires
            Whose factors.
        readings
            ``(n, 2)`` or ``(1, 2)``: the factor that a 0 and that a 1 of each wire stands for.
        """
        table = np.broadcast_to(readings, (self._n_qubits, 2))
        means = []
        for bits in self._rows():
            factors = [np.where(bits[..., w], table[w, 1], table[w, 0]) for w in wires]
            means.append(np.prod(factors, axis=0).mean(axis=-1) if wires else np.ones(len(bits)))
        return np.concatenate(means)

    def histogram(self) -> np.ndarray:
        """``(B, 2**n)`` counts; wire 0 is the most significant bit."""
        weights = 2 ** np.arange(self._n_qubits)[::-1]
        outcomes = np.concatenate([b @ weights for b in self._rows()])
        return np.stack([np.bincount(row, minlength=2**self._n_qubits) for row in outcomes])

    def _rows(self) -> Any:
        # Unpacked, a bit is a byte: a few rows at a time.
        n_rows = max(1, _BITS_AT_ONCE // (self._packed.shape[1] * self._n_qubits))
        for first in range(0, len(self._packed), n_rows):
            # Qiskit packs the last bit first; reversed, bit i is wire i.
            bits = np.unpackbits(self._packed[first : first + n_rows], axis=-1)[..., ::-1]
            yield bits[..., : self._n_qubits]
