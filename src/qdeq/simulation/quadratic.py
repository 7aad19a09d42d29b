"""Amplitude encoding in three stages: circuit columns, then a tiny rational map per sample.

With v = x + R m every expectation value is v'A_k v / v'v, where A_k = Re(Phi^dagger O_k Phi) and
Phi holds the first d columns of the circuit's unitary. Expanding in m leaves numbers that do not
change inside a solver loop; see `docs/architecture.md` for the formula. Only the direction of v
counts, so that x, the columns of R and m are taken over powers of two (`_scale.py`).
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int

from qdeq import native
from qdeq._precision import PRECISION
from qdeq._scale import balanced, balanced_columns, brought
from qdeq._vectors import as_vector
from qdeq.circuits import MeasuredCircuit
from qdeq.simulation.heisenberg import noisy_forms
from qdeq.simulation.statevector import pauli_images, signed_gram, stacked_parts, unitary_columns


class RationalMap(eqx.Module):
    """f_k(m) = (c_k + b_k.m + m'Q_k m) / (s + g.m + m'G m), the model function of one sample.

    That holds in the ordinary range. In general the numbers are those of x and of the columns of R
    over powers of two, whose exponents are here, and m is brought to them before it is squared.
    Where the denominator |x + R m|^2 is zero, amplitude encoding is undefined; the value is 0 there
    (the maximally mixed state's) with zero derivative.
    """

    constant: Float[Array, " q"]
    linear: Float[Array, "q q"]
    quadratic: Float[Array, "q q q"]
    norm_constant: Float[Array, ""]
    norm_linear: Float[Array, " q"]
    norm_quadratic: Float[Array, "q q"]
    exponent: Int[Array, ""]  # of x
    column_exponents: Int[Array, " q"]  # of R

    def __call__(self, m: Float[Array, " q"]) -> Float[Array, " q"]:
        """Expectation values `(q,)` at measured state `m` `(q,)`."""
        m = self._state(m)
        if native.serves(m.dtype):
            return native.evaluate(_KERNEL, self._operands, m)
        return _rational_reference(self._operands, m)

    def jacobian(self, m: Float[Array, " q"]) -> Float[Array, "q q"]:
        """df/dm at `m` `(q,)`."""
        return self.linearise(m)[1]

    def linearise(self, m: Float[Array, " q"]) -> tuple[Float[Array, " q"], Float[Array, "q q"]]:
        """f(m) and df/dm at `m` `(q,)`."""
        m = self._state(m)
        if native.serves(m.dtype):
            return native.linearise(_KERNEL, self._operands, m)
        return self(m), jax.jacfwd(self)(m)

    def broyden(self, start: Float[Array, " q"], **settings: Any) -> native.SolverRun | None:
        """The equilibrium by `qdeq.native.broyden`; None where that is not available."""
        start = self._state(start)
        if not native.serves(start.dtype):
            return None
        return native.broyden(_KERNEL, self._operands, start, **settings)

    def _state(self, m: Float[Array, " q"]) -> Array:
        return as_vector("the measured state", m, len(self.norm_linear), self.norm_linear.dtype)

    @property
    def _operands(self) -> tuple[Array, ...]:
        """The denominator's, then those in which f is linear, as `native/cpp` has them."""
        bottom = (self.norm_constant, self.norm_linear, self.norm_quadratic)
        dtype = self.constant.dtype
        exponents = (self.exponent.astype(dtype), self.column_exponents.astype(dtype))
        return (*bottom, *exponents, self.constant, self.linear, self.quadratic)


def _rational_reference(operands: Sequence[Array], m: Array) -> Array:
    exponents = (operands[3].astype(jnp.int32), operands[4].astype(jnp.int32))
    return _rational(m, tuple(operands[5:]), tuple(operands[:3]), exponents)


_KERNEL = native.Kernel("rational", (), 5, _rational_reference)


_matmul = functools.partial(jnp.matmul, precision=PRECISION)


@jax.custom_jvp
def _rational(m, numerator, denominator, exponents):
    return _rational_parts(m, numerator, denominator, exponents).value


@functools.partial(_rational.defjvp, symbolic_zeros=True)
def _rational_jvp(primals, tangents):
    # Autodiff of m'Qm forms Q dm for every tangent dm: q times the work of forming Qm once, which
    # is what a Jacobian (Newton, implicit adjoint, penalty) would pay. Q_k and G are symmetric.
    m, numerator, denominator, exponents = primals
    dm, d_numerator, d_denominator, _ = tangents
    parts = _rational_parts(m, numerator, denominator, exponents)
    d_top = _polynomial(parts, d_numerator)
    d_bottom = _polynomial(parts, d_denominator)
    if not isinstance(dm, SymbolicZero):
        # The slope b + 2 Q m from the chord b + Q m. Not dm is multiplied with `turn`: where dm is
        # the same for all samples, as in a Jacobian, these stay products of large matrices.
        top = (2 * parts.top_chord - parts.weight * numerator[1]) * parts.turn
        bottom = (2 * parts.bottom_chord - parts.weight * denominator[1]) * parts.turn
        d_top += _matmul(top, dm)
        d_bottom += _matmul(bottom, dm)
    return parts.value, (d_top - parts.value * d_bottom) * parts.inverse_norm


class _Parts(NamedTuple):
    """The value at one m, and what derivatives need of it."""

    value: Array
    top_chord: Array  # b + Q m
    bottom_chord: Array  # g + G m
    inverse_norm: Array
    m: Array  # over powers of two, one for every entry
    turn: Array  # by which m was multiplied
    weight: Array  # by which x was: b counts once, c twice


def _rational_parts(m, numerator, denominator, exponents) -> _Parts:
    constant, linear, quadratic = numerator
    norm_constant, norm_linear, norm_quadratic = denominator
    m, turn, weight = brought(m, *exponents)
    top_chord = weight * linear + _matmul(quadratic, m)
    bottom_chord = weight * norm_linear + _matmul(norm_quadratic, m)
    top = weight * weight * constant + _matmul(top_chord, m)
    bottom = weight * weight * norm_constant + _matmul(bottom_chord, m)
    undefined = bottom <= 0  # False for NaN, which stays NaN
    inverse_norm = jnp.where(undefined, 0, 1 / jnp.where(undefined, 1, bottom))
    return _Parts(top * inverse_norm, top_chord, bottom_chord, inverse_norm, m, turn, weight)


def _polynomial(parts: _Parts, coefficients) -> Array:
    """c + b.m + m'Q m; coefficients that are symbolic zeros cost nothing."""
    constant, linear, quadratic = coefficients
    m, weight = parts.m, parts.weight
    total = jnp.zeros((), m.dtype)
    if not isinstance(constant, SymbolicZero):
        total += weight * weight * constant
    if not isinstance(linear, SymbolicZero):
        total += weight * _matmul(linear, m)
    if not isinstance(quadratic, SymbolicZero):
        total += _matmul(_matmul(quadratic, m), m)
    return total


class QuadraticForms(eqx.Module):
    """The observables pulled back to feature space: A_k, A_k R, R'A_k R. Best for few features.

    R is meant over powers of two, one for every column, with the exponents beside it.
    """

    forms: Float[Array, "q d d"]
    forms_reinjected: Float[Array, "q d q"]
    quadratic: Float[Array, "q q q"]
    reinjection: Float[Array, "d q"]
    exponents: Int[Array, " q"]

    def bind(self, x: Float[Array, " d"]) -> RationalMap:
        """The rational map of one sample with features `x` `(d,)`."""
        x, exponent, square = balanced(_features(x, self.reinjection))
        constant = jnp.einsum("kde,d,e->k", self.forms, x, x, precision=PRECISION)
        linear = 2 * jnp.einsum("kdl,d->kl", self.forms_reinjected, x, precision=PRECISION)
        return _rational_map(self, constant, linear, x, exponent, square)


class ProjectedColumns(eqx.Module):
    """The circuit's columns Phi, with real and imaginary part stacked, and A_k R, R'A_k R.

    Diagonal observables only. Best for many features: A_k itself would cost q d^2 2^n to form. R is
    meant as in `QuadraticForms`.
    """

    columns: Float[Array, "n2 d"]
    signs: Float[Array, "q n2"]
    forms_reinjected: Float[Array, "q d q"]
    quadratic: Float[Array, "q q q"]
    reinjection: Float[Array, "d q"]
    exponents: Int[Array, " q"]

    def bind(self, x: Float[Array, " d"]) -> RationalMap:
        """The rational map of one sample with features `x` `(d,)`."""
        x, exponent, square = balanced(_features(x, self.reinjection))
        state = _matmul(self.columns, x)
        constant = _matmul(self.signs, state**2)
        linear = 2 * jnp.einsum("kdl,d->kl", self.forms_reinjected, x, precision=PRECISION)
        return _rational_map(self, constant, linear, x, exponent, square)


def prepare_forms(
    measured: MeasuredCircuit, theta: jax.Array, reinjection: jax.Array
) -> QuadraticForms:
    """Pull every observable back to feature space; `theta` `(P,)`, `reinjection` `(d, q)`.

    Noise changes the forms and nothing that follows from them.
    """
    if measured.noise is not None:
        forms = noisy_forms(measured, theta)
    else:
        forms = _unitary_forms(measured, theta)
    reinjection, exponents = balanced_columns(reinjection)
    reinjected = _matmul(forms, reinjection)
    quadratic = jnp.einsum("dm,kdl->kml", reinjection, reinjected, precision=PRECISION)
    return QuadraticForms(forms, reinjected, quadratic, reinjection, exponents)


def _unitary_forms(measured: MeasuredCircuit, theta: jax.Array) -> jax.Array:
    observables = measured.observables
    columns = unitary_columns(measured.circuit, theta, measured.n_features)
    if observables.is_diagonal:
        signs = jnp.asarray(observables.signs(), theta.dtype)
        return signed_gram(jnp.concatenate([signs, signs], axis=1), stacked_parts(columns))
    images = pauli_images(observables, columns)
    return jnp.einsum("jd,kje->kde", columns.conj(), images, precision=PRECISION).real


def prepare_columns(
    measured: MeasuredCircuit, theta: jax.Array, reinjection: jax.Array
) -> ProjectedColumns:
    """Simulate the circuit on d basis columns; `theta` `(P,)`, `reinjection` `(d, q)`."""
    columns = stacked_parts(unitary_columns(measured.circuit, theta, measured.n_features))
    signs = jnp.asarray(measured.observables.signs(), theta.dtype)
    signs = jnp.concatenate([signs, signs], axis=1)
    reinjection, exponents = balanced_columns(reinjection)
    reinjected = _matmul(columns, reinjection)
    forms_reinjected = jnp.einsum(
        "jd,kjl->kdl", columns, signs[:, :, None] * reinjected, precision=PRECISION
    )
    quadratic = jnp.einsum("dm,kdl->kml", reinjection, forms_reinjected, precision=PRECISION)
    return ProjectedColumns(columns, signs, forms_reinjected, quadratic, reinjection, exponents)


def _features(x: Array, reinjection: Array) -> Array:
    return as_vector("x", x, len(reinjection), reinjection.dtype)


def _rational_map(
    form: QuadraticForms | ProjectedColumns,
    constant: Array,
    linear: Array,
    x: Array,
    exponent: Array,
    square: Array,
) -> RationalMap:
    return RationalMap(
        constant,
        linear,
        form.quadratic,
        square,
        2 * _matmul(x, form.reinjection),
        _matmul(form.reinjection.T, form.reinjection),
        exponent,
        form.exponents,
    )
