"""How features and measured state enter a model function: v = U x + W m + b, learned or fixed.

What is done with v, the encoding's input, is not here; nothing of this file knows circuits.
"""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from qdeq._precision import PRECISION
from qdeq._scale import balanced, times_power
from qdeq._vectors import as_reals, check_key
from qdeq.equilibrium.regularisers import gain_factor
from qdeq.errors import UserError, as_tuple, check_amount, check_choice, check_count

PARTS = ("input", "state", "bias")
"""The parts of an injection, U, W and b, by the names that `Injection` takes."""


class Injection(eqx.Module):
    """v = U x + W m + b: a numbers for an encoding from d features and q measured values.

    Each part is fixed or learned. With everything left out but `state` it is the paper's
    v = x + R m, R fixed, and nothing more is computed than that.

    Parameters
    ----------
    state
        W, `(a, q)`. Of a `QuantumModel` a is the length of the encoding's input.
    input
        U, `(a, d)`. None is the identity, d = a; where it is learned it starts there.
    bias
        b, `(a,)`. None is zero; where it is learned it starts there.
    learned
        Which of `"input"`, `"state"` and `"bias"` training changes; the others have no gradient.
    bound
        The largest gain that W may have: the model function gets ``W min(1, bound / |W|)``, with
        the spectral norm `|W|`, the most that W makes a state longer. However large W grows, its
        gain stays at most `bound`; a W within it is used as it is. Differentiable: beyond the bound
        the gradient has no part along W's leading singular direction. None: not bounded.
    floor
        The least length of U x + b: shorter ones are lengthened to it, and 0 becomes its first
        direction. Amplitude encoding sees how long features are against the state alone: with a
        floor and a bound no state can outweigh them. None: they enter as they are.

    Raises
    ------
    UserError
        For shapes that do not go together, a part that does not exist, or a bound or a floor that
        is no positive number.

    Examples
    --------
    Three features, two measured values, and an encoding that reads four angles:

    >>> injection = Injection(np.ones((4, 2)), np.eye(4)[:, :3], learned=("input", "state"))
    >>> injection(jnp.array([0.5, 1.0]), jnp.array([1.0, 2.0, 3.0]))
    Array([2.5, 3.5, 4.5, 1.5], dtype=float32)
    >>> injection.n_learned
    20
    """

    input: Float[Array, "a d"] | None
    state: Float[Array, "a q"]
    bias: Float[Array, " a"] | None
    n_inputs: int = eqx.field(static=True)
    n_features: int = eqx.field(static=True)
    n_observables: int = eqx.field(static=True)
    learned: tuple[str, ...] = eqx.field(static=True)
    bound: float | None = eqx.field(static=True)
    floor: float | None = eqx.field(static=True)

    def __init__(
        self,
        state: ArrayLike,
        input: ArrayLike | None = None,
        bias: ArrayLike | None = None,
        *,
        learned: str | Sequence[str] = (),
        bound: float | None = None,
        floor: float | None = None,
    ):
        learned = (learned,) if isinstance(learned, str) else learned
        names = as_tuple("learned", learned, str, "names of parts")
        for name in names:
            check_choice("learned", name, PARTS)
        self.learned = tuple(part for part in PARTS if part in names)
        if bound is not None:
            check_amount("bound", bound, above=True, otherwise=", the largest gain, or None")
        self.bound = None if bound is None else float(bound)
        if floor is not None:
            check_amount("floor", floor, above=True, otherwise=", the least length, or None")
        self.floor = None if floor is None else float(floor)
        dtype = jnp.result_type(float)
        self.state = _array("state", state, "(a, q): from q measured values to a inputs", 2, dtype)
        self.n_inputs, self.n_observables = self.state.shape
        a = self.n_inputs
        if input is None and "input" in self.learned:
            input = jnp.eye(a, dtype=dtype)
        if bias is None and "bias" in self.learned:
            bias = jnp.zeros(a, dtype)
        self.input = self.bias = None
        self.n_features = a
        if input is not None:
            wanted = f"({a}, d): from d features to as many inputs as state has rows"
            self.input = _array("input", input, wanted, 2, dtype, a)
            self.n_features = self.input.shape[1]
        if bias is not None:
            wanted = f"({a},): one number for each row of state"
            self.bias = _array("bias", bias, wanted, 1, dtype, a)

    @classmethod
    def random(
        cls,
        n_inputs: int,
        n_features: int,
        n_observables: int,
        *,
        key: PRNGKeyArray | Array,
        scale: float = 1.0,
        gain: float = 0.5,
        learned: str | Sequence[str] = PARTS,
        bound: float | None = None,
    ) -> "Injection":
        """A start for learning, for standardised features and angles in radians.

        Entries of U are normal with deviation `scale` / sqrt(d), so that those of U x have the
        deviation `scale`. Those of W
        are so small that its spectral norm is about `gain`: an expectation value moves by at most 1
        per radian, mostly by less, so the equilibrium starts where iterations contract. b is zero.

        Parameters
        ----------
        n_inputs, n_features, n_observables
            a, d and q.
        key
            JAX key.
        scale
            Of U, in radians: small ones start where a circuit is nearly linear in its features.
        gain
            Of W; 0 starts without feedback.
        learned, bound
            See `Injection`.

        Raises
        ------
        UserError
            For a size below 1, or a negative scale or gain.

        Examples
        --------
        >>> injection = Injection.random(12, 13, 4, key=jax.random.key(0))
        >>> injection.input.shape, injection.state.shape, injection.bias.shape
        ((12, 13), (12, 4), (12,))
        """
        sizes = {"n_inputs": n_inputs, "n_features": n_features, "n_observables": n_observables}
        for name, size in sizes.items():
            check_count(name, size)
        for name, value in {"scale": scale, "gain": gain}.items():
            check_amount(name, value)
        check_key(key)
        input_key, state_key = jax.random.split(key)
        # The norm of a matrix of standard normal numbers tends to the sum of these roots.
        longest = math.sqrt(n_inputs) + math.sqrt(n_observables)
        return cls(
            jax.random.normal(state_key, (n_inputs, n_observables)) * (gain / longest),
            jax.random.normal(input_key, (n_inputs, n_features)) / math.sqrt(n_features) * scale,
            jnp.zeros(n_inputs),
            learned=learned,
            bound=bound,
        )

    def changed(
        self, *, bound: float | None = None, floor: float | None = None, factor: float = 1.0
    ) -> "Injection":
        """The same with another bound or floor, where one is given, and W times a factor."""
        return Injection(
            self.state if factor == 1 else self.state * factor,
            self.input,
            self.bias,
            learned=self.learned,
            bound=self.bound if bound is None else bound,
            floor=self.floor if floor is None else floor,
        )

    @property
    def is_paper(self) -> bool:
        """Whether it is v = x + R m with R fixed, whose R m is the paper's upsampled state."""
        return self._has_features_alone and not self.learned and self.bound is None

    @property
    def keeps_features(self) -> bool:
        """Whether features enter as they are: U = I, b = 0, neither of them learned, no floor."""
        return self._has_features_alone and self.floor is None

    @property
    def _has_features_alone(self) -> bool:
        return self.input is None and self.bias is None

    @property
    def n_learned(self) -> int:
        """How many numbers training changes."""
        sizes = {
            "input": self.n_inputs * self.n_features,
            "state": self.n_inputs * self.n_observables,
            "bias": self.n_inputs,
        }
        return sum(sizes[part] for part in self.learned)

    def trained(self) -> "Injection":
        """Itself with True for an array that training changes, False for one that it does not."""
        return eqx.tree_at(
            lambda injection: [getattr(injection, part) for part in PARTS],
            self,
            [None if getattr(self, part) is None else part in self.learned for part in PARTS],
            is_leaf=lambda part: part is None,
        )

    @property
    def bounded_state(self) -> Float[Array, "a q"]:
        """W as the model function has it, within the bound."""
        if self.bound is None:
            return self.state
        return self.state * gain_factor(self.state, self.bound)

    def matrices(
        self,
    ) -> tuple[Float[Array, "a d"] | None, Float[Array, "a q"], Float[Array, " a"] | None]:
        """U, W and b as the model function has them; no gradient reaches what is fixed.

        Returns
        -------
        input
            `(a, d)`, or None for the identity.
        state
            `(a, q)`, within the bound.
        bias
            `(a,)`, or None for zero.
        """
        return (
            self._held("input", self.input),
            self._held("state", self.bounded_state),
            self._held("bias", self.bias),
        )

    def inputs(self, x: Float[Array, " d"]) -> Float[Array, " a"]:
        """U x + b, the part of v that a state does not change; x itself where that is all.

        Not shorter than the floor, where there is one.
        """
        u = self.affine(x)
        return u if self.floor is None else _lengthened(u, self.floor)

    def affine(self, x: Float[Array, " d"]) -> Float[Array, " a"]:
        """U x + b, however short."""
        matrix, bias = self._held("input", self.input), self._held("bias", self.bias)
        u = x if matrix is None else jnp.matmul(matrix, x, precision=PRECISION)
        return u if bias is None else u + bias

    def __call__(self, m: Float[Array, " q"], x: Float[Array, " d"]) -> Float[Array, " a"]:
        """v = U x + W m + b of one sample: measured state `(q,)`, features `(d,)` -> `(a,)`."""
        state = self._held("state", self.bounded_state)
        return self.inputs(x) + jnp.matmul(state, m, precision=PRECISION)

    @property
    def n_read_out(self) -> int:
        """Length of what `read_out` returns."""
        return self.n_inputs if self.is_paper else self.n_observables

    def read_out(self, m: Float[Array, " q"]) -> Float[Array, " r"]:
        """What a head sees of a state: the paper's z = R m, with any other injection m itself."""
        if not self.is_paper:
            return m
        return jnp.matmul(jax.lax.stop_gradient(self.state), m, precision=PRECISION)

    def _held(self, part: str, array: Any) -> Any:
        if array is None or part in self.learned:
            return array
        return jax.lax.stop_gradient(array)


def _lengthened(u: Float[Array, " a"], floor: float) -> Float[Array, " a"]:
    """u itself, or floor u / |u| where that is longer; 0 becomes the first direction."""
    scaled, power, square = balanced(u)
    is_zero = square == 0
    unit = scaled * (1 / jnp.sqrt(jnp.where(is_zero, 1, square)))
    longer = jnp.where(is_zero, jnp.eye(1, len(u), dtype=u.dtype)[0], unit) * floor
    # Compared on the scale of u, on which its square is a number.
    least = times_power(jnp.asarray(floor, u.dtype), -power)
    return jnp.where(jnp.sqrt(square) >= least, u, longer)


def nearest_neighbour_reinjection(n_features: int, n_observables: int) -> np.ndarray:
    """The paper's R: every measured value is repeated over d/q neighbouring features.

    Where q does not divide d, feature i takes the value number `i * q // d`; with more observables
    than features the surplus ones are not fed back.

    Returns
    -------
    ndarray
        `(n_features, n_observables)` of zeros and ones.
    """
    reinjection = np.zeros((n_features, n_observables))
    rows = np.arange(n_features)
    columns = rows * n_observables // n_features if n_observables <= n_features else rows
    reinjection[rows, columns] = 1
    return reinjection


def injection_of(
    injection: Injection | None,
    reinjection: ArrayLike | None,
    shape: tuple[int, int],
    dtype: jnp.dtype,
) -> Injection:
    """The injection that a model is given, or the paper's: with its R, or the one it is given.

    Parameters
    ----------
    injection, reinjection
        At most one of them.
    shape
        `(a, q)`: of the encoding's input and of the measured state.
    dtype
        Of the model.

    Raises
    ------
    UserError
        For both, another object, or shapes that do not fit the model.
    """
    if injection is None:
        if reinjection is None:
            reinjection = nearest_neighbour_reinjection(*shape)
        if np.shape(reinjection) != shape:
            raise UserError(
                f"reinjection has shape {np.shape(reinjection)}: it maps {shape[1]} measured "
                f"values to {shape[0]} features, give an array of shape {shape}"
            )
        injection = Injection(reinjection)
    elif reinjection is not None:
        raise UserError("injection and reinjection: give one of them, reinjection is its state")
    elif not isinstance(injection, Injection):
        raise UserError(
            f"injection={type(injection).__name__}: give a qdeq.Injection; a fixed matrix alone is "
            "reinjection"
        )
    elif injection.state.shape != shape:
        raise UserError(
            f"the injection's state has shape {injection.state.shape}: it maps {shape[1]} measured "
            f"values to the {shape[0]} numbers that the encoding reads, give an array of shape "
            f"{shape}, and an input of {shape[0]} rows"
        )
    return jax.tree.map(lambda array: jnp.asarray(array, dtype), injection)


def _array(
    name: str, value: ArrayLike, wanted: str, ndim: int, dtype: jnp.dtype, rows: int | None = None
) -> Array:
    array = as_reals(name, value, dtype)
    shape = array.shape
    if len(shape) != ndim or 0 in shape or (rows is not None and shape[0] != rows):
        raise UserError(f"{name} has shape {shape}: give an array of shape {wanted}")
    return array
