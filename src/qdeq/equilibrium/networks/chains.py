"""Linear systems along a chain, solved from end to end: affine recursions and block elimination.

A system is (1 + shift) x_i - B_i x_(i-1) - A_i x_(i+1) = b_i with q x q blocks. Recursions run site
by site in one compiled loop where processors are few and fast: on 2 CPU cores 10,000 sites of 3
numbers take 0.1 ms, `jax.lax.associative_scan` 0.3 ms; 1,000 sites of 9 numbers, 16 samples, both
ways take 20 ms, cyclic reduction 66 ms. Elsewhere the causal recursion is an associative scan, and
chains both ways are eliminated by cyclic reduction. CPUs with compiled kernels take those instead
for chains both ways (`native/chain.py`): this file is their oracle.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float

from qdeq._numbers import at_least, at_most
from qdeq._precision import PRECISION
from qdeq.equilibrium.dense import robust_inverse


def causal_recursion(
    slopes: Float[Array, "N q a"],
    message: Float[Array, "a q"],
    offsets: Float[Array, "N q"],
    *,
    lower: Array | float | None = None,
    upper: Array | float | None = None,
    transposed: bool = False,
    method: str = "auto",
) -> Float[Array, "N q"]:
    """y_i = clip(b_i + C_i W y_(i-1)), from y = 0 before the first site.

    Parameters
    ----------
    slopes, message, offsets
        C, W and b.
    lower, upper
        What every y_i is clipped to, numbers or arrays that broadcast against `(N, q)`; None: large
        numbers whose products with blocks stay in range. So nothing overflows, whatever the
        products of the blocks are.
    transposed
        y_i = clip(b_i + W' C_(i+1)' y_(i+1)) instead, from the last site to the first.
    method
        "sequential" (clips at every site), "associative" (scales partial products that grow beyond
        what means anything, and clips the end), or "auto": sequential on CPUs.
    """
    largest = float(jnp.finfo(offsets.dtype).max) ** 0.5
    lower = jnp.asarray(-largest if lower is None else lower, offsets.dtype)
    upper = jnp.asarray(largest if upper is None else upper, offsets.dtype)
    if method == "auto":
        method = "sequential" if jax.default_backend() == "cpu" else "associative"
    if method == "sequential":
        by_sites = sequential_vmap(partial(_site_by_site, transposed))
        return by_sites(slopes, message, offsets, lower, upper)
    blocks = jnp.matmul(slopes, message, precision=PRECISION)
    if transposed:  # what i tells i + 1 comes back from there
        turned = jnp.swapaxes(blocks, -1, -2)
        blocks = jnp.concatenate([turned[1:], jnp.zeros_like(turned[:1])])
    y = _associative(blocks, offsets, transposed, largest**0.5)
    return at_most(at_least(y, lower), upper)


# Sample after sample: the loop over sites then reads memory in order, and multiplies by C and W one
# after the other: 256 samples of 1,000 sites of 6 numbers take 14 ms of processor time instead of
# 50 in step, and 125 in step by their blocks C W.
def _site_by_site(
    transposed: bool, slopes: Array, message: Array, offsets: Array, lower: Array, upper: Array
) -> Array:
    is_per_site = lower.ndim > 0 or upper.ndim > 0
    bounds = [jnp.broadcast_to(b, offsets.shape) for b in (lower, upper)] if is_per_site else []

    def site(heard: Array, here: tuple[Array, ...]) -> tuple[Array, Array]:
        slope, offset, *own = here
        low, high = own or (lower, upper)
        if not transposed:
            heard = _times(slope, _times(message, heard))
        y = at_most(at_least(heard + offset, low), high)
        if transposed:
            return _times(message.T, _times(slope.T, y)), y
        return y, y

    sites = (slopes, offsets, *bounds)
    return lax.scan(site, jnp.zeros_like(offsets[0]), sites, reverse=transposed)[1]


def _associative(blocks: Array, offsets: Array, reverse: bool, largest: float) -> Array:
    def after(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        (a, b), (c, d) = first, second
        # An affine map that takes the box beyond `largest` says little more than a direction, and
        # keeps it when it is scaled.
        slope = jnp.einsum("nij,njk->nik", c, a, precision="highest")
        shift = jnp.einsum("nij,nj->ni", c, b, precision="highest") + d
        size = jnp.max(jnp.abs(slope), axis=(1, 2)) + jnp.max(jnp.abs(shift), axis=1)  # NaN: seen
        factor = jnp.where(size > largest, largest / size, 1)
        return slope * factor[:, None, None], shift * factor[:, None]

    return lax.associative_scan(after, (blocks, offsets), reverse=reverse)[1]


class LineFactors(eqx.Module):
    """A block-tridiagonal matrix, eliminated from the first site to the last.

    Attributes
    ----------
    inverses
        Of what is left of the diagonal block when the sites before are eliminated, `(N, q, q)`.
    ahead
        What site i takes from site i + 1, `(N, q, q)`.
    before
        B, `(N, q, q)`.
    """

    inverses: Float[Array, "N q q"]
    ahead: Float[Array, "N q q"]
    before: Float[Array, "N q q"]

    @classmethod
    def of(
        cls, before: Float[Array, "N q q"], after: Float[Array, "N q q"], shift: Array | float
    ) -> "LineFactors":
        """Eliminate; the first block of `before` and the last of `after` are not looked at.

        Pivots are chosen within a block, and a singular block gets a regularised inverse, so that
        a wild sample gives a wild answer and no NaN.
        """
        q = before.shape[-1]
        before = before.at[0].set(0)
        after = after.at[-1].set(0)
        diagonal = (1 + shift) * jnp.eye(q, dtype=before.dtype)

        def site(ahead: Array, here: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
            block, following = here
            inverse, _ = robust_inverse(diagonal - _product(block, ahead))
            ahead = _product(inverse, following)
            return ahead, (inverse, ahead)

        start = jnp.zeros((q, q), before.dtype)
        _, (inverses, ahead) = lax.scan(site, start, (before, after))
        return cls(inverses, ahead, before)

    def solve(self, right: Float[Array, "N q"]) -> Float[Array, "N q"]:
        """x, substituted forwards and backwards."""

        def forwards(known: Array, here: tuple[Array, ...]) -> tuple[Array, Array]:
            inverse, block, b = here
            known = _times(inverse, b + _times(block, known))
            return known, known

        def backwards(x: Array, here: tuple[Array, Array]) -> tuple[Array, Array]:
            ahead, known = here
            x = _times(ahead, x) + known
            return x, x

        zero = jnp.zeros_like(right[0])
        _, known = lax.scan(forwards, zero, (self.inverses, self.before, right))
        return lax.scan(backwards, zero, (self.ahead, known), reverse=True)[1]


class CyclicReduction(eqx.Module):
    """The same system, all sites at once: for accelerators, which a loop over sites leaves idle.

    Every round takes from each site its neighbours at a distance, which doubles, so that log N
    rounds of batched products leave a system per site. That is N log N blocks of work and memory
    for a few times N, since nothing is kept: every right-hand side eliminates anew.

    Attributes
    ----------
    before, after
        B and A, `(N, q, q)`.
    diagonal
        `(q, q)`.

    References
    ----------
    R. W. Hockney, C. R. Jesshope, Parallel Computers (1981), section 5.4; D. Heller, SIAM J. Numer.
    Anal. 13 (1976), for blocks.
    """

    before: Float[Array, "N q q"]
    after: Float[Array, "N q q"]
    diagonal: Float[Array, "q q"]

    @classmethod
    def of(
        cls, before: Float[Array, "N q q"], after: Float[Array, "N q q"], shift: Array | float
    ) -> "CyclicReduction":
        """As `LineFactors.of`."""
        diagonal = (1 + shift) * jnp.eye(before.shape[-1], dtype=before.dtype)
        return cls(before.at[0].set(0), after.at[-1].set(0), diagonal)

    def solve(self, right: Float[Array, "N q"]) -> Float[Array, "N q"]:
        """x."""
        n = right.shape[0]
        sites = jnp.arange(n)
        invert = jax.vmap(lambda block: robust_inverse(block)[0])

        def halve(number: Array, system: tuple[Array, ...]) -> tuple[Array, ...]:
            before, after, diagonals, right = system
            distance = jnp.left_shift(1, number)
            inverses = invert(diagonals)

            def at(values: Array, move: Array) -> Array:
                """Of the site that is `move` farther on; 0 where there is none."""
                there = (sites + move >= 0) & (sites + move < n)
                moved = jnp.roll(values, -move, axis=0)
                return jnp.where(there.reshape(-1, *[1] * (values.ndim - 1)), moved, 0)

            by_before = _products(before, at(inverses, -distance))
            by_after = _products(after, at(inverses, distance))
            return (
                _products(by_before, at(before, -distance)),
                _products(by_after, at(after, distance)),
                diagonals
                - _products(by_before, at(after, -distance))
                - _products(by_after, at(before, distance)),
                right
                + _times(by_before, at(right, -distance))
                + _times(by_after, at(right, distance)),
            )

        diagonals = jnp.broadcast_to(self.diagonal, self.before.shape)
        system = (self.before, self.after, diagonals, right)
        rounds = (n - 1).bit_length()
        diagonals, right = lax.fori_loop(0, rounds, halve, system)[2:]
        return _times(invert(diagonals), right)


def line_factors(
    before: Float[Array, "N q q"], after: Float[Array, "N q q"], shift: Array | float
) -> LineFactors | CyclicReduction:
    """The elimination for JAX's default backend: site after site on CPUs, else cyclic reduction."""
    kind = LineFactors if jax.default_backend() == "cpu" else CyclicReduction
    return kind.of(before, after, shift)


class RingFactors(eqx.Module):
    """The same with ends that meet: the line of all sites but the last, and the last as a border.

    Attributes
    ----------
    line
        Without the last site.
    answers
        What the line's sites take from the last one, `(N - 1, q, q)`.
    border
        Inverse of the last site's block when the line is eliminated, `(q, q)`.
    before, after
        The last site's own blocks, `(q, q)`.
    """

    line: LineFactors | CyclicReduction
    answers: Float[Array, "N_minus_1 q q"]
    border: Float[Array, "q q"]
    before: Float[Array, "q q"]
    after: Float[Array, "q q"]

    @classmethod
    def of(
        cls, before: Float[Array, "N q q"], after: Float[Array, "N q q"], shift: Array | float
    ) -> "RingFactors":
        """Eliminate."""
        n, q = before.shape[0], before.shape[-1]
        line = line_factors(before[:-1], after[:-1], shift)
        heard = jnp.zeros((n - 1, q, q), before.dtype)
        heard = heard.at[0].set(before[0]).at[-1].add(after[-2])
        answers = jax.vmap(line.solve, in_axes=2, out_axes=2)(heard)
        diagonal = (1 + shift) * jnp.eye(q, dtype=before.dtype)
        left = _product(before[-1], answers[-1]) + _product(after[-1], answers[0])
        border, _ = robust_inverse(diagonal - left)
        return cls(line, answers, border, before[-1], after[-1])

    def solve(self, right: Float[Array, "N q"]) -> Float[Array, "N q"]:
        """x."""
        line = self.line.solve(right[:-1])
        heard = _times(self.before, line[-1]) + _times(self.after, line[0])
        last = _times(self.border, right[-1] + heard)
        return jnp.concatenate([line + _times(self.answers, last), last[None]])


# Sums of products and no `@`: XLA's CPU backend fuses them into the loop over sites.
def _times(block: Float[Array, "*N q q"], x: Float[Array, "*N q"]) -> Float[Array, "*N q"]:
    return jnp.sum(block * x[..., None, :], axis=-1)


def _product(a: Float[Array, "q q"], b: Float[Array, "q q"]) -> Float[Array, "q q"]:
    return jnp.sum(a[:, :, None] * b[None], axis=1)


def _products(a: Float[Array, "N q q"], b: Float[Array, "N q q"]) -> Float[Array, "N q q"]:
    return jnp.matmul(a, b, precision=PRECISION)
