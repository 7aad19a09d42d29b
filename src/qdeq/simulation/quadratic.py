"""Amplitude encoding in three stages: circuit columns, then a tiny rational map per sample.

With v = x + R m every expectation value is v'A_k v / v'v, where A_k = Re(Phi^dagger O_k Phi) and
Phi holds the first d columns of the circuit's unitary. Expanding in m leaves numbers that do not
change inside a solver loop; see `docs/architecture.md` for the formula.
"""

import functools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from qdeq import native
from qdeq._precision import PRECISION
from qdeq.circuits import MeasuredCircuit
from qdeq.simulation.heisenberg import noisy_forms
from qdeq.simulation.statevector import pauli_images, signed_gram, stacked_parts, unitary_columns


class RationalMap(eqx.Module):
    """f_k(m) = (c_k + b_k.m + m'Q_k m) / (s + g.m + m'G m), the model function of one sample.

    Where the denominator |x + R m|^2 is zero, amplitude encoding is undefined; the value is 0 there
    (the maximally mixed state's) with zero derivative.
    """

    constant: Float[Array, " q"]
    linear: Float[Array, "q q"]
    quadratic: Float[Array, "q q q"]
    norm_constant: Float[Array, ""]
    norm_linear: Float[Array, " q"]
    norm_quadratic: Float[Array, "q q"]

    def __call__(self, m: Float[Array, " q"]) -> Float[Array, " q"]:
        """Expectation values `(q,)` at measured state `m` `(q,)`."""
        if native.serves(m.dtype):
            return native.evaluate(_KERNEL, self._operands, m)
        return _rational_reference(self._operands, m)

    def jacobian(self, m: Float[Array, " q"]) -> Float[Array, "q q"]:
        """df/dm at `m` `(q,)`."""
        return self.linearise(m)[1]

    def linearise(self, m: Float[Array, " q"]) -> tuple[Float[Array, " q"], Float[Array, "q q"]]:
        """f(m) and df/dm at `m` `(q,)`."""
        if native.serves(m.dtype):
            return native.linearise(_KERNEL, self._operands, m)
        return self(m), jax.jacfwd(self)(m)

    def broyden(self, start: Float[Array, " q"], **settings: Any) -> native.SolverRun | None:
        """The equilibrium by `qdeq.native.broyden`; None where that is not available."""
        if not native.serves(start.dtype):
            return None
        return native.broyden(_KERNEL, self._operands, start, **settings)

    def norm_squared(self, m: Float[Array, " q"]) -> Float[Array, ""]:
        """|x + R m|^2; zero marks an input that amplitude encoding cannot prepare."""
        return _polynomial(m, (self.norm_constant, self.norm_linear, self.norm_quadratic))

    @property
    def _operands(self) -> tuple[Array, ...]:
        """The denominator's, then those in which f is linear, as `native/cpp` has them."""
        bottom = (self.norm_constant, self.norm_linear, self.norm_quadratic)
        return (*bottom, self.constant, self.linear, self.quadratic)


def _rational_reference(operands: Sequence[Array], m: Array) -> Array:
    return _rational(m, tuple(operands[3:]), tuple(operands[:3]))


_KERNEL = native.Kernel("rational", (), 3, _rational_reference)


_matmul = functools.partial(jnp.matmul, precision=PRECISION)


@jax.custom_jvp
def _rational(m, numerator, denominator):
    return _rational_parts(m, numerator, denominator)[0]


@functools.partial(_rational.defjvp, symbolic_zeros=True)
def _rational_jvp(primals, tangents):
    # Autodiff of m'Qm forms Q dm for every tangent dm: q times the work of forming Qm once, which
    # is what a Jacobian (Newton, implicit adjoint, penalty) would pay. Q_k and G are symmetric.
    m, numerator, denominator = primals
    dm, d_numerator, d_denominator = tangents
    value, top_chord, bottom_chord, inverse_norm = _rational_parts(m, numerator, denominator)
    d_top = _polynomial(m, d_numerator)
    d_bottom = _polynomial(m, d_denominator)
    if not isinstance(dm, SymbolicZero):
        # The slope b + 2 Q m from the chord b + Q m.
        d_top += _matmul(2 * top_chord - numerator[1], dm)
        d_bottom += _matmul(2 * bottom_chord - denominator[1], dm)
    return value, (d_top - value * d_bottom) * inverse_norm


def _rational_parts(m, numerator, denominator):
    """The value, the chords b + Q m and g + G m, and the inverse of the denominator."""
    constant, linear, quadratic = numerator
    norm_constant, norm_linear, norm_quadratic = denominator
    top_chord = linear + _matmul(quadratic, m)
    bottom_chord = norm_linear + _matmul(norm_quadratic, m)
    top = constant + _matmul(top_chord, m)
    bottom = norm_constant + _matmul(bottom_chord, m)
    defined = bottom > 0
    inverse_norm = jnp.where(defined, 1 / jnp.where(defined, bottom, 1), 0)
    return top * inverse_norm, top_chord, bottom_chord, inverse_norm


def _polynomial(m, coefficients) -> Array:
    """c + b.m + m'Q m; coefficients that are symbolic zeros cost nothing."""
    constant, linear, quadratic = coefficients
    total = jnp.zeros((), m.dtype) if isinstance(constant, SymbolicZero) else constant
    if not isinstance(linear, SymbolicZero):
        total += _matmul(linear, m)
    if not isinstance(quadratic, SymbolicZero):
        total += _matmul(_matmul(quadratic, m), m)
    return total


class QuadraticForms(eqx.Module):
    """The observables pulled back to feature space: A_k, A_k R, R'A_k R. Best for few features."""

    forms: Float[Array, "q d d"]
    forms_reinjected: Float[Array, "q d q"]
    quadratic: Float[Array, "q q q"]
    reinjection: Float[Array, "d q"]

    def bind(self, x: Float[Array, " d"]) -> RationalMap:
        """The rational map of one sample with features `x` `(d,)`."""
        constant = jnp.einsum("kde,d,e->k", self.forms, x, x, precision=PRECISION)
        linear = 2 * jnp.einsum("kdl,d->kl", self.forms_reinjected, x, precision=PRECISION)
        return _rational_map(constant, linear, self.quadratic, self.reinjection, x)


class ProjectedColumns(eqx.Module):
    """The circuit's columns Phi, with real and imaginary part stacked, and A_k R, R'A_k R.

    Diagonal observables only. Best for many features: A_k itself would cost q d^2 2^n to form.
    """

    columns: Float[Array, "n2 d"]
    signs: Float[Array, "q n2"]
    forms_reinjected: Float[Array, "q d q"]
    quadratic: Float[Array, "q q q"]
    reinjection: Float[Array, "d q"]

    def bind(self, x: Float[Array, " d"]) -> RationalMap:
        """The rational map of one sample with features `x` `(d,)`."""
        state = _matmul(self.columns, x)
        constant = _matmul(self.signs, state**2)
        linear = 2 * jnp.einsum("kdl,d->kl", self.forms_reinjected, x, precision=PRECISION)
        return _rational_map(constant, linear, self.quadratic, self.reinjection, x)


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
    reinjected = _matmul(forms, reinjection)
    quadratic = jnp.einsum("dm,kdl->kml", reinjection, reinjected, precision=PRECISION)
    return QuadraticForms(forms, reinjected, quadratic, reinjection)


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
    reinjected = _matmul(columns, reinjection)
    forms_reinjected = jnp.einsum(
        "jd,kjl->kdl", columns, signs[:, :, None] * reinjected, precision=PRECISION
    )
    quadratic = jnp.einsum("dm,kdl->kml", reinjection, forms_reinjected, precision=PRECISION)
    return ProjectedColumns(columns, signs, forms_reinjected, quadratic, reinjection)


def _rational_map(constant, linear, quadratic, reinjection, x) -> RationalMap:
    return RationalMap(
        constant,
        linear,
        quadratic,
        x @ x,
        2 * _matmul(x, reinjection),
        _matmul(reinjection.T, reinjection),
    )
