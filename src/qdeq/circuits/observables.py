"""Measurement ensembles: the Pauli strings whose expectation values are the measured state.

Which of them a device can read from the same shots is answered here; drawing shots is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from typing import get_args

import numpy as np

from qdeq import names
from qdeq.circuits.circuit import check_n_qubits
from qdeq.circuits.gates import GATES
from qdeq.errors import UserError, as_tuple, check_choice, check_count


@dataclass(frozen=True)
class MeasurementEnsemble:
    """The observables O_1 ... O_q that are measured, as Pauli strings.

    Parameters
    ----------
    n_qubits
        Number of wires.
    strings
        One string per observable, a letter I, X, Y or Z per wire, wire 0 first: ``"ZIII"``.

    Raises
    ------
    UserError
        If there is no string, or one has the wrong length or other letters.

    Examples
    --------
    >>> ensemble = MeasurementEnsemble(2, ("ZI", "IZ", "ZZ"))
    >>> ensemble.n_observables, ensemble.is_diagonal
    (3, True)
    """

    n_qubits: int
    strings: tuple[str, ...]

    def __post_init__(self) -> None:
        check_n_qubits(self.n_qubits)
        if isinstance(self.strings, str):
            raise UserError(f"strings={self.strings!r} is one string: give a tuple of them")
        strings = as_tuple("strings", self.strings, str, "Pauli strings such as 'ZI'")
        object.__setattr__(self, "strings", strings)
        if not self.strings:
            raise UserError("strings=(): an ensemble needs at least 1 observable")
        for string in self.strings:
            if len(string) != self.n_qubits or not set(string) <= set("IXYZ"):
                raise UserError(
                    f"{string!r} is not a Pauli string on {self.n_qubits} qubits: give "
                    f"{self.n_qubits} letters out of I, X, Y, Z, wire 0 first"
                )

    @property
    def n_observables(self) -> int:
        """The number q of observables, the length of the measured state."""
        return len(self.strings)

    @property
    def is_diagonal(self) -> bool:
        """Whether every string has only I and Z, so that one setting reads them all."""
        return all(set(string) <= set("IZ") for string in self.strings)

    def signs(self) -> np.ndarray:
        """Eigenvalues on the computational basis states.

        Returns
        -------
        np.ndarray
            ``(q, 2**n_qubits)`` float64 of +1 and -1; <Z> of |0> is +1.

        Raises
        ------
        UserError
            If a string has X or Y.

        Examples
        --------
        >>> z_of_every_wire(2).signs()
        array([[ 1.,  1., -1., -1.],
               [ 1., -1.,  1., -1.]])
        """
        if not self.is_diagonal:
            string = next(s for s in self.strings if not set(s) <= set("IZ"))
            raise UserError(
                f"{string!r} is not diagonal and has no signs: use strings of I and Z, or matrix()"
            )
        letter_signs = {"I": np.array([1.0, 1.0]), "Z": np.array([1.0, -1.0])}
        return np.stack(
            [reduce(np.kron, (letter_signs[letter] for letter in s)) for s in self.strings]
        )

    def matrix(self, k: int) -> np.ndarray:
        """Dense ``(2**n, 2**n)`` complex128 matrix of observable `k`, for few qubits."""
        return reduce(np.kron, (GATES[letter].constant for letter in self.strings[k]))

    def settings(self) -> tuple[tuple[int, ...], ...]:
        """Groups of observables that the same shots can estimate.

        Two strings share a setting if on every wire they agree or one of them has I (qubit-wise
        commutation). Each string joins the first group that it fits; this need not give the fewest
        groups, a problem as hard as graph colouring.

        Returns
        -------
        tuple of tuples of int
            Indices into `strings`; every index once.

        References
        ----------
        Verteletskyi et al., Measurement optimization in the variational quantum eigensolver using
        a minimum clique cover, J. Chem. Phys. 152, 124114 (2020), arXiv 1907.03358.

        Examples
        --------
        >>> xyz_of_every_wire(2).settings()
        ((0, 3), (1, 4), (2, 5))
        """
        groups: list[list[int]] = []
        bases: list[str] = []
        for k, string in enumerate(self.strings):
            for g, basis in enumerate(bases):
                if _compatible(basis, string):
                    groups[g].append(k)
                    bases[g] = _merge(basis, string)
                    break
            else:
                groups.append([k])
                bases.append(string)
        return tuple(tuple(group) for group in groups)

    def basis(self, indices: Sequence[int]) -> str:
        """The letter in which each wire is measured to read these observables together.

        Parameters
        ----------
        indices
            One group of `settings`.

        Returns
        -------
        str
            `n_qubits` letters; I where a wire need not be measured.

        Raises
        ------
        UserError
            If the observables need different letters on one wire.

        Examples
        --------
        >>> MeasurementEnsemble(3, ("XII", "XZI")).basis((0, 1))
        'XZI'
        """
        basis = "I" * self.n_qubits
        for k in indices:
            if not _compatible(basis, self.strings[k]):
                raise UserError(
                    f"{self.strings[k]!r} does not commute qubit-wise with {basis!r}: "
                    "pass one group of settings()"
                )
            basis = _merge(basis, self.strings[k])
        return basis


def _compatible(first: str, second: str) -> bool:
    return all(a == b or "I" in (a, b) for a, b in zip(first, second, strict=True))


def _merge(first: str, second: str) -> str:
    return "".join(b if a == "I" else a for a, b in zip(first, second, strict=True))


def _pauli_string(n_qubits: int, letter: str, wires: Sequence[int]) -> str:
    return "".join(letter if wire in wires else "I" for wire in range(n_qubits))


def make_observables(name: str, n_qubits: int) -> MeasurementEnsemble:
    """An ensemble by the name that configurations and the command line use.

    Parameters
    ----------
    name
        ``"z"``: `z_of_every_wire`; ``"z-pairs"``: products of one Z or two, and ``"z-strings"``: of
        any number, 2**n - 1 in all, see `z_strings`; ``"xyz"``: `xyz_of_every_wire`.
    n_qubits
        Number of wires.

    Raises
    ------
    UserError
        For an unknown name.

    Examples
    --------
    >>> make_observables("z-pairs", 2).strings
    ('ZI', 'IZ', 'ZZ')
    """
    check_choice("observables", name, get_args(names.Observables))
    if name == "xyz":
        return xyz_of_every_wire(n_qubits)
    weights = {"z": 1, "z-pairs": min(2, n_qubits), "z-strings": n_qubits}
    return z_strings(n_qubits, weights[name])


def z_of_every_wire(n_qubits: int) -> MeasurementEnsemble:
    """<Z> of every wire: the paper's ensemble, q = `n_qubits`.

    Examples
    --------
    >>> z_of_every_wire(3).strings
    ('ZII', 'IZI', 'IIZ')
    """
    return z_strings(n_qubits, 1)


def z_strings(n_qubits: int, max_weight: int) -> MeasurementEnsemble:
    """Every product of Z on 1 to `max_weight` wires: more numbers from the same shots.

    Parameters
    ----------
    n_qubits
        Number of wires.
    max_weight
        The largest number of Z in a string, from 1 to `n_qubits`.

    Returns
    -------
    MeasurementEnsemble
        Ordered by weight, then by the wires in lexicographic order.

    Raises
    ------
    UserError
        If `max_weight` is out of range.

    Examples
    --------
    >>> z_strings(3, 2).strings
    ('ZII', 'IZI', 'IIZ', 'ZZI', 'ZIZ', 'IZZ')
    """
    check_n_qubits(n_qubits)
    check_count("max_weight", max_weight)
    if max_weight > n_qubits:
        raise UserError(f"max_weight={max_weight}: with n_qubits={n_qubits} give 1 to {n_qubits}")
    return MeasurementEnsemble(
        n_qubits,
        tuple(
            _pauli_string(n_qubits, "Z", wires)
            for weight in range(1, max_weight + 1)
            for wires in combinations(range(n_qubits), weight)
        ),
    )


def xyz_of_every_wire(n_qubits: int) -> MeasurementEnsemble:
    """<X>, <Y> and <Z> of wire 0, then of wire 1, ...: q = 3 * `n_qubits`, three settings.

    Examples
    --------
    >>> xyz_of_every_wire(2).strings
    ('XI', 'YI', 'ZI', 'IX', 'IY', 'IZ')
    """
    check_n_qubits(n_qubits)
    return MeasurementEnsemble(
        n_qubits,
        tuple(
            _pauli_string(n_qubits, letter, (wire,)) for wire in range(n_qubits) for letter in "XYZ"
        ),
    )
