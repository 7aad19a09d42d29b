"""The network's map: every site's cell applied to what it hears, and its Jacobian in factors."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from qdeq._precision import PRECISION
from qdeq._vectors import lost_in_reals
from qdeq.equilibrium._derivatives import value_and_matrix
from qdeq.equilibrium.networks.cells import at_all_sites, cells_of, check_cells, drawing
from qdeq.equilibrium.networks.injection import EdgeInjection
from qdeq.equilibrium.networks.wiring import AbstractWiring, Chain
from qdeq.errors import UserError, told


@runtime_checkable
class CellWithLinearisation(Protocol):
    """A cell that knows its value and its Jacobian by v in one go."""

    def __call__(self, v: Float[Array, " a"], x: Float[Array, " d"]) -> Float[Array, " q"]:
        """The state of a site."""
        ...

    def linearise(self, v: Array, x: Array) -> tuple[Float[Array, " q"], Float[Array, "q a"]]:
        """The state, and its derivative by v."""
        ...


class Wired(eqx.Module):
    """F(z)_i = cell(v_i, x_i), v_i = U x_i + sum over edges (j -> i, kind r) of W_r z_j + b.

    All sites share the cell and the weights, so the same object runs on wirings of any size
    (`on`).

    Parameters
    ----------
    cell
        `cell(v, x) -> m`: what a site hears `(a,)` and its features `(d,)` to its state `(q,)`,
        any JAX function with a forward derivative by v. A pytree, such as an Equinox module, where
        it has parameters. One that is random has parameters `key`, or `key` and `shots`, by name.
        Or `Cells`, several kinds of them.
    injection
        U, W and b.
    wiring
        Who hears whom.
    before
        On a causal chain, the state `(q,)` that its first site hears, such as the last one of the
        window before; differentiated. With a mask that is the first site that there is. None: it
        hears nothing.

    Raises
    ------
    UserError
        Where wiring and injection have different numbers of kinds, cells are for another number of
        sites, or for a state before what is no causal chain.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from qdeq.equilibrium.networks import Chain
    >>> injection = EdgeInjection([[1.0]], [[0.5]])
    >>> network = Wired(lambda v, x: jnp.tanh(v), injection, Chain(3))
    >>> network(jnp.zeros((3, 1)), jnp.ones((3, 1)))[:, 0].round(3).tolist()
    [0.7620000243186951, 0.7620000243186951, 0.7620000243186951]
    """

    cell: Any
    injection: EdgeInjection
    wiring: AbstractWiring = eqx.field(static=True)
    before: Float[Array, " q"] | None = None

    def __check_init__(self) -> None:
        check_wiring(self.wiring, self.injection)
        check_cells(self.cell, self.wiring.n_sites)
        if self.before is not None:
            check_before(self.before, self.wiring, self.injection)

    def on(self, wiring: AbstractWiring) -> "Wired":
        """The same cell and weights, and the state before, on another wiring."""
        return Wired(self.cell, self.injection, wiring, self.before)

    def heard(
        self, z: Float[Array, "N q"], x: Float[Array, "N d"], mask: Bool[Array, " N"] | None = None
    ) -> Float[Array, "N a"]:
        """v of every site; the state before is heard by the first one that there is."""
        features, messages, offset = self.injection.weights()
        gathered = self.wiring.gather(z)
        v = offset + _matmul(x, features.T) + _sum_of_kinds(gathered, messages)
        if self.before is None:
            return v
        first = 0 if mask is None else jnp.argmax(mask)
        return v.at[first].add(_matmul(messages[0], self.before.astype(v.dtype)))

    def __call__(
        self,
        z: Float[Array, "N q"],
        x: Float[Array, "N d"],
        mask: Bool[Array, " N"] | None = None,
        *,
        key: PRNGKeyArray | Array | None = None,
        shots: int | Int[Array, ""] | None = None,
    ) -> Float[Array, "N q"]:
        """One application. A site where `mask` is False has state 0, and so sends nothing.

        With a key every site gets one of its own, and the shots.
        """
        x = masked(x, mask)  # so that nothing that stands there is in a gradient
        v, keys = self.heard(z, x, mask), self.keys(key)
        return masked(at_all_sites(self.cell, lambda cell: drawing(cell, shots), v, x, keys), mask)

    def keys(self, key: PRNGKeyArray | Array | None) -> Array | None:
        """A key for every site."""
        return None if key is None else jax.random.split(key, self.wiring.n_sites)

    def linearise(
        self,
        z: Float[Array, "N q"],
        x: Float[Array, "N d"],
        mask: Bool[Array, " N"] | None = None,
        *,
        key: PRNGKeyArray | Array | None = None,
        shots: int | Int[Array, ""] | None = None,
    ) -> tuple[Float[Array, "N q"], "Jacobian"]:
        """F(z), and its Jacobian; memory linear in N q^2."""
        x = masked(x, mask)
        v = self.heard(z, x, mask)
        messages = self.injection.weights()[1]
        kinds, a, q = messages.shape
        # Fewer directions than the cell has inputs: along what is heard.
        by_directions = kinds * q < a and not any(
            isinstance(cell, CellWithLinearisation) for cell in cells_of(self.cell)
        )

        def slopes_of(cell: Any) -> Callable[[Array, Array, Any], tuple[Array, Array]]:
            if isinstance(cell, CellWithLinearisation):
                return lambda v, x, key: cell.linearise(v, x)
            draw = drawing(cell, shots)
            if not by_directions:
                return lambda v, x, key: value_and_matrix(lambda v: (draw(v, x, key), None), v)[:2]
            side_by_side = jnp.moveaxis(messages, 0, 1).reshape(a, kinds * q)
            zero = jnp.zeros(kinds * q, v.dtype)

            def along(v: Array, x: Array, key: Any) -> tuple[Array, Array]:
                def moved(s: Array) -> tuple[Array, None]:
                    return draw(v + _matmul(side_by_side, s), x, key), None

                return value_and_matrix(moved, zero)[:2]

            return along

        value, slopes = at_all_sites(self.cell, slopes_of, v, x, self.keys(key))
        if by_directions:
            identity = jnp.eye(kinds * q, dtype=messages.dtype).reshape(kinds * q, kinds, q)
            messages = jnp.moveaxis(identity, 1, 0)
        return masked(value, mask), Jacobian(masked(slopes, mask), messages, self.wiring)


class Jacobian(eqx.Module):
    """dF/dz as it comes about: C_i, the slopes of every cell, after what its site hears by W_r.

    Attributes
    ----------
    slopes
        C, `(N, q, a)`.
    messages
        W, `(kinds, a, q)`.
    wiring
        Who hears whom.
    """

    slopes: Float[Array, "N q a"]
    messages: Float[Array, "kinds a q"]
    wiring: AbstractWiring = eqx.field(static=True)

    def heard(self, move: Float[Array, "N q"]) -> Float[Array, "N a"]:
        """How what every site hears changes with the states."""
        return _sum_of_kinds(self.wiring.gather(move), self.messages)

    def push(self, move: Float[Array, "N q"]) -> Float[Array, "N q"]:
        """J `move`."""
        return jnp.sum(self.slopes * self.heard(move)[:, None, :], axis=-1)

    def blocks(self) -> Float[Array, "kinds N q q"]:
        """C_i W_r: how the state of i changes with what it hears by r."""
        return jnp.stack([_matmul(self.slopes, w) for w in self.messages])

    def blocks_of_inputs(self) -> Float[Array, "kinds N a a"]:
        """W_r C_j, j the sender: how the inputs of i change with the inputs of j."""
        n, q, a = self.slopes.shape
        gathered = self.wiring.gather(self.slopes.reshape(n, q * a))
        return jnp.stack(
            [_matmul(w, c.reshape(n, q, a)) for w, c in zip(self.messages, gathered, strict=True)]
        )

    def matrix(self) -> Float[Array, "Nq Nq"]:
        """J, written out."""
        return self._between_sites(self.blocks()[:, :, :, None, :])

    def matrix_of_inputs(self) -> Float[Array, "Na Na"]:
        """W C, written out: how what sites hear changes with what they hear."""
        blocks = jnp.stack([_matmul(w, self.slopes) for w in self.messages])
        return self._between_sites(jnp.swapaxes(blocks, 1, 2)[:, None])

    def _between_sites(self, blocks: Float[Array, "kinds #N k #N k"]) -> Float[Array, "Nk Nk"]:
        """A matrix of blocks by receiver and sender, 0 where there is no edge."""
        edges, n, k = self.wiring.edges, self.wiring.n_sites, blocks.shape[-1]
        present = np.zeros((len(blocks), n, n))
        present[edges.kinds, edges.receivers, edges.senders] = 1
        present = jnp.asarray(present, blocks.dtype)
        # Kind by kind and no einsum: that is one loop, where XLA multiplies tiny matrices apart.
        total = jnp.zeros((n, k, n, k), blocks.dtype)
        for there, block in zip(present, blocks, strict=True):
            total = total + there[:, None, :, None] * block
        return total.reshape(n * k, n * k)

    def where_finite(self) -> "Jacobian":
        """Slopes that are not finite as 0."""
        finite = jnp.where(jnp.isfinite(self.slopes), self.slopes, 0)
        return Jacobian(finite, self.messages, self.wiring)


def masked(values: Array, mask: Array | None) -> Array:
    """0 at sites that are left out; sites are the first axis."""
    if mask is None:
        return values
    return jnp.where(mask.reshape(-1, *[1] * (values.ndim - 1)), values, 0)


def checked_mask(mask: Any, wiring: AbstractWiring) -> Array | None:
    """A mask as an array; `UserError` for another shape or type, or where it would open a ring."""
    if mask is None:
        return None
    try:
        mask = jnp.asarray(mask)
    except (TypeError, ValueError):
        raise UserError(f"mask={told(mask)}: give a bool per site, ({wiring.n_sites},)") from None
    if mask.shape != (wiring.n_sites,) or mask.dtype != jnp.bool_:
        raise UserError(
            f"mask has shape {mask.shape} and dtype {mask.dtype}: give a bool per site, "
            f"({wiring.n_sites},)"
        )
    if wiring.closes:
        raise UserError(
            f"mask with {wiring!r}: leaving a site out would open it; solve samples of "
            "different size apart"
        )
    return mask


def check_wiring(wiring: Any, injection: Any) -> None:
    """Raise `UserError` for what is no wiring or no injection, or where their kinds differ."""
    if not isinstance(injection, EdgeInjection):
        raise UserError(
            f"injection={type(injection).__name__}: give an EdgeInjection, such as "
            "EdgeInjection.random(wiring, n_inputs, n_features, n_states, key=key)"
        )
    if not isinstance(wiring, AbstractWiring):
        raise UserError(f"wiring={wiring!r}: give Alone(), Chain(n), Grid(rows, columns) or Graph")
    if wiring.n_kinds != injection.n_kinds:
        few = wiring.n_kinds < injection.n_kinds
        missing = f", or n_kinds={injection.n_kinds} to a Graph without edges of some kinds"
        raise UserError(
            f"wiring={wiring!r} has {wiring.n_kinds} kinds of edges and the injection weights for "
            f"{injection.n_kinds}: give messages of shape ({wiring.n_kinds}, a, q){missing * few}"
        )


def check_before(before: Any, wiring: AbstractWiring, injection: EdgeInjection) -> None:
    """Raise `UserError` for a state before that nothing hears, or of another shape."""
    if not (isinstance(wiring, Chain) and wiring.structure == "causal"):
        raise UserError(
            f"before= with {wiring!r}: only a causal chain has a site before its first; give "
            "Chain(n), or leave it out"
        )
    shape = getattr(before, "shape", None)
    if shape != (injection.n_states,):
        given = type(before).__name__ if shape is None else f"of shape {shape}"
        raise UserError(
            f"before is {given}: give one state of {injection.n_states} numbers, "
            f"({injection.n_states},); jax.vmap for a batch"
        )
    lost = lost_in_reals(before)
    if lost or not jnp.issubdtype(before.dtype, jnp.number):
        raise UserError(f"before is {lost or before.dtype}: give real numbers")


def _matmul(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=PRECISION)


def _sum_of_kinds(
    gathered: Float[Array, "kinds N q"], messages: Float[Array, "kinds a q"]
) -> Array:
    total = _matmul(gathered[0], messages[0].T)
    for kind in range(1, messages.shape[0]):
        total = total + _matmul(gathered[kind], messages[kind].T)
    return total
