"""A model function's value and Jacobian as JAX primitives, differentiable to any order.

`evaluate_p` is linear in some of its operands, the circuit's numbers, and its transpose in those is
`pull_back_p`: the two serve what training asks for. Along the fixed operands a kernel may have its
derivative as one more such function, `moved`. Every other derivative, by the point or beyond first
order, goes through the plain JAX `reference` of the same function.

Under `jax.vmap` every operand gets a leading axis, of length 1 where it is shared: the cotangents
of parameters are summed over the batch inside the kernel.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from qdeq._manual_axes import check_types
from qdeq.native.library import target


@dataclass(frozen=True)
class Kernel:
    """Which model function of `cpp/`.

    Attributes
    ----------
    kind
        "rational" or "product"; "product_moved" for the derivative of the latter.
    plan
        Its structure, as integers that `cpp/product.h` reads.
    n_fixed
        How many of the operands come first that the function is not linear in.
    reference
        `reference(operands, m) -> f(m)`: the same for one sample in JAX.
    moved
        The derivative of f along changes of the fixed operands, as a function that is linear in
        these: all operands of f are its fixed ones, and the changes follow. None: derivatives by
        fixed operands go through the reference.
    evaluates
        Whether there is a kernel for values; else they are the reference's.
    n_values
        Numbers of f; None for as many as m has.
    """

    kind: str
    plan: tuple[int, ...]
    n_fixed: int
    reference: Callable[[Sequence[Array], Array], Array]
    moved: "Kernel | None" = None
    evaluates: bool = True
    n_values: int | None = None


def evaluate(kernel: Kernel, operands: Sequence[Array], m: Float[Array, " q"]) -> Array:
    """f(m), `(q,)`."""
    arrays = of_one_type(*operands, m)
    return evaluate_p.bind(*arrays, kernel=kernel, rank=0, jacobian=False)[0]


def linearise(
    kernel: Kernel, operands: Sequence[Array], m: Float[Array, " q"]
) -> tuple[Array, Array]:
    """f(m), `(q,)`, and df/dm, `(q, q)` or, of a function with `n_values`, `(n_values, q)`."""
    arrays = of_one_type(*operands, m)
    value, jacobian = evaluate_p.bind(*arrays, kernel=kernel, rank=0, jacobian=True)
    return value, jacobian


def of_one_type(*arrays: Array) -> list[Array]:
    """The arrays in the type that JAX's arithmetic would give them; kernels know no other."""
    check_types(arrays)
    dtype = jnp.result_type(*arrays)
    return [jnp.asarray(a, dtype) for a in arrays]


# Operands are those of the function, then m; results are the value and, if asked for, the Jacobian.
evaluate_p = Primitive("qdeq_evaluate")
evaluate_p.multiple_results = True
# Operands are the fixed ones, m, and the cotangents of the results; results are cotangents of the
# linear operands, whose shapes are `shapes`.
pull_back_p = Primitive("qdeq_pull_back")
pull_back_p.multiple_results = True


def _leading(arrays: Sequence[Any], rank: int) -> tuple[int, ...]:
    """Sizes of the leading axes that arrays of length 1 there stand for."""
    sizes = ({a.shape[axis] for a in arrays} - {1} for axis in range(rank))
    # One size beside 1, which may be 0: a batch may be empty.
    return tuple(max(size, default=1) for size in sizes)


def _result_shapes(
    kernel: Kernel, arrays: Sequence[Any], rank: int, with_jacobian: bool
) -> list[tuple[int, ...]]:
    leading, n = _leading(arrays, rank), arrays[-1].shape[-1]
    q = n if kernel.n_values is None else kernel.n_values
    return [(*leading, q), (*leading, q, n)][: 1 + with_jacobian]


def _evaluate_shapes(*arrays: Any, kernel: Kernel, rank: int, jacobian: bool) -> list[Any]:
    dtype = arrays[-1].dtype
    return [ShapedArray(s, dtype) for s in _result_shapes(kernel, arrays, rank, jacobian)]


def _evaluate_call(*arrays: Array, kernel: Kernel, rank: int, jacobian: bool) -> Sequence[Array]:
    if not kernel.evaluates:
        function = functools.partial(_evaluate_reference, kernel, jacobian)
        return _lifted(function, arrays, rank)
    shapes = _result_shapes(kernel, arrays, rank, jacobian)
    results = [jax.ShapeDtypeStruct(shape, arrays[-1].dtype) for shape in shapes]
    call = jax.ffi.ffi_call(target(f"qdeq_evaluate_{kernel.kind}", arrays[-1].dtype), results)
    return call(*arrays, plan=np.array(kernel.plan, np.int64))


def _pull_back_shapes(*arrays: Any, shapes: Sequence[tuple[int, ...]], **_: Any) -> list[Any]:
    return [ShapedArray(shape, arrays[0].dtype) for shape in shapes]


def _pull_back_call(
    *arrays: Array, kernel: Kernel, rank: int, shapes: Sequence[tuple[int, ...]]
) -> Sequence[Array]:
    results = [jax.ShapeDtypeStruct(shape, arrays[0].dtype) for shape in shapes]
    call = jax.ffi.ffi_call(target(f"qdeq_pull_back_{kernel.kind}", arrays[0].dtype), results)
    leading = np.array(_leading(arrays, rank), np.int64)
    return call(*arrays, plan=np.array(kernel.plan, np.int64), leading=leading)


def _lifted(function: Callable[..., Any], arrays: Sequence[Array], rank: int) -> Any:
    """A function of one sample's arrays, applied over their leading axes."""
    if rank == 0:
        return function(*arrays)
    (size,) = _leading(arrays, 1)
    shared = [a.shape[0] == 1 and size != 1 for a in arrays]
    return jax.vmap(
        lambda *arrays: _lifted(function, arrays, rank - 1),
        in_axes=[None if alone else 0 for alone in shared],
    )(*(a[0] if alone else a for a, alone in zip(arrays, shared, strict=True)))


def _evaluate_reference(kernel: Kernel, with_jacobian: bool, *arrays: Array) -> list[Array]:
    *operands, m = arrays
    value = kernel.reference(operands, m)
    if not with_jacobian:
        return [value]
    return [value, jax.jacfwd(lambda m: kernel.reference(operands, m))(m)]


def _instantiated(tangents: Sequence[Any], primals: Sequence[Array]) -> list[Array]:
    return [
        jnp.zeros_like(p) if type(t) is ad.Zero else t
        for t, p in zip(tangents, primals, strict=True)
    ]


def _any(tangents: Sequence[Any]) -> bool:
    return any(type(t) is not ad.Zero for t in tangents)


def _evaluate_jvp(
    primals: Sequence[Array], tangents: Sequence[Any], *, kernel: Kernel, rank: int, jacobian: bool
) -> Any:
    n = kernel.n_fixed
    by_point, by_fixed = _any(tangents[-1:]), _any(tangents[:n])
    changes: list[Array] = []
    if by_point or by_fixed:
        changes = _instantiated((*tangents[:n], tangents[-1]), (*primals[:n], primals[-1]))
    moved: Any = None
    if by_fixed and kernel.moved is not None:
        operands = (*primals[:-1], *changes[:n], primals[-1])
        moved = evaluate_p.bind(*operands, kernel=kernel.moved, rank=rank, jacobian=jacobian)
        by_fixed, changes[:n] = False, [jnp.zeros_like(p) for p in primals[:n]]
    # The derivative by the point alone is the Jacobian, which the kernel gives with the value.
    first_order = by_point and not jacobian and not by_fixed
    bind = functools.partial(evaluate_p.bind, kernel=kernel, rank=rank)
    values = bind(*primals, jacobian=jacobian or first_order)
    total: list[Any] = []
    if first_order:
        values, matrix = values[:1], values[1]
        move = jnp.broadcast_to(tangents[-1], (*matrix.shape[:-2], matrix.shape[-1]))
        total = [jnp.einsum("...kl,...l->...k", matrix, move, precision="highest")]
    elif by_point or by_fixed:
        linear = primals[n:-1]

        def along(*arrays: Array) -> list[Array]:
            arrays = (*arrays[:n], *linear, arrays[n])
            return _lifted(functools.partial(_evaluate_reference, kernel, jacobian), arrays, rank)

        total = jax.jvp(along, (*primals[:n], primals[-1]), tuple(changes))[1]
    if _any(tangents[n:-1]):
        linear = _instantiated(tangents[n:-1], primals[n:-1])
        change = bind(*primals[:n], *linear, primals[-1], jacobian=jacobian)
        total = [a + b for a, b in zip(total, change, strict=True)] if total else change
    if moved is not None:
        total = [a + b for a, b in zip(total, moved, strict=True)] if total else moved
    return values, total


def _evaluate_transpose(
    cotangents: Sequence[Any], *arrays: Any, kernel: Kernel, rank: int, jacobian: bool
) -> list[Any]:
    n = kernel.n_fixed
    linear, m = arrays[n:-1], arrays[-1]
    known = _evaluate_shapes(
        *(_shaped(a) for a in arrays), kernel=kernel, rank=rank, jacobian=jacobian
    )
    given = [
        jnp.zeros(a.shape, a.dtype) if type(ct) is ad.Zero else ct
        for ct, a in zip(cotangents, known, strict=True)
    ]
    if jacobian and type(cotangents[1]) is ad.Zero:
        given = given[:1]
    shapes = tuple(a.aval.shape if ad.is_undefined_primal(a) else a.shape for a in linear)
    pulled = pull_back_p.bind(*arrays[:n], m, *given, kernel=kernel, rank=rank, shapes=shapes)
    chosen = [p if ad.is_undefined_primal(a) else None for p, a in zip(pulled, linear, strict=True)]
    return [*[None] * n, *chosen, None]


def _shaped(array: Any) -> Any:
    return array.aval if ad.is_undefined_primal(array) else array


def _pull_back_jvp(
    primals: Sequence[Array], tangents: Sequence[Any], *, kernel: Kernel, rank: int, shapes: Any
) -> Any:
    n = kernel.n_fixed + 1
    bind = functools.partial(pull_back_p.bind, kernel=kernel, rank=rank, shapes=shapes)
    values = bind(*primals)
    total: list[Any] = []
    if _any(tangents[:n]):
        cotangents = primals[n:]

        def by_fixed(*arrays: Array) -> Any:
            *fixed, m = arrays

            def forward(*linear: Array) -> list[Array]:
                function = functools.partial(_evaluate_reference, kernel, len(cotangents) > 1)
                return _lifted(function, (*fixed, *linear, m), rank)

            zeros = [jnp.zeros(shape, m.dtype) for shape in shapes]
            # The lifted function sums over shared axes and may broadcast its results.
            results, pull = jax.vjp(forward, *zeros)
            given = [jnp.broadcast_to(c, r.shape) for c, r in zip(cotangents, results, strict=True)]
            return pull(given)

        changes = _instantiated(tangents[:n], primals[:n])
        total = list(jax.jvp(by_fixed, tuple(primals[:n]), tuple(changes))[1])
    if _any(tangents[n:]):
        change = bind(*primals[:n], *_instantiated(tangents[n:], primals[n:]))
        total = [a + b for a, b in zip(total, change, strict=True)] if total else change
    return values, total


def _pull_back_transpose(
    cotangents: Sequence[Any], *arrays: Any, kernel: Kernel, rank: int, shapes: Any
) -> list[Any]:
    n = kernel.n_fixed + 1
    dtype = arrays[n - 1].dtype
    given = [
        jnp.zeros(shape, dtype) if type(ct) is ad.Zero else ct
        for ct, shape in zip(cotangents, shapes, strict=True)
    ]
    with_jacobian = len(arrays) > n + 1
    results = evaluate_p.bind(
        *arrays[: n - 1], *given, arrays[n - 1], kernel=kernel, rank=rank, jacobian=with_jacobian
    )
    return [
        *[None] * n,
        *(
            _unbroadcast(r, a.aval.shape) if ad.is_undefined_primal(a) else None
            for r, a in zip(results, arrays[n:], strict=True)
        ),
    ]


def _unbroadcast(array: Array, shape: tuple[int, ...]) -> Array:
    axes = [i for i, (a, b) in enumerate(zip(array.shape, shape, strict=True)) if a != b]
    return jnp.sum(array, axis=tuple(axes), keepdims=True) if axes else array


def _with_leading_axis(arrays: Sequence[Array], axes: Sequence[Any]) -> list[Array]:
    return [
        a[None] if axis is None else jnp.moveaxis(a, axis, 0)
        for a, axis in zip(arrays, axes, strict=True)
    ]


def _evaluate_batch(arrays: Sequence[Array], axes: Sequence[Any], *, rank: int, **rest: Any) -> Any:
    results = evaluate_p.bind(*_with_leading_axis(arrays, axes), rank=rank + 1, **rest)
    return results, [0] * len(results)


def _pull_back_batch(
    arrays: Sequence[Array], axes: Sequence[Any], *, rank: int, shapes: Any, **rest: Any
) -> Any:
    (size,) = {a.shape[axis] for a, axis in zip(arrays, axes, strict=True) if axis is not None}
    wider = tuple((size, *shape) for shape in shapes)
    results = pull_back_p.bind(
        *_with_leading_axis(arrays, axes), rank=rank + 1, shapes=wider, **rest
    )
    return results, [0] * len(results)


def _register(primitive: Primitive, call: Any, static: Sequence[str], **rules: Any) -> None:
    primitive.def_impl(jax.jit(call, static_argnames=static))
    primitive.def_abstract_eval(rules["shapes"])
    mlir.register_lowering(primitive, mlir.lower_fun(call, multiple_results=True))
    ad.primitive_jvps[primitive] = rules["jvp"]
    ad.primitive_transposes[primitive] = rules["transpose"]
    batching.primitive_batchers[primitive] = rules["batch"]


_register(
    evaluate_p,
    _evaluate_call,
    ("kernel", "rank", "jacobian"),
    shapes=_evaluate_shapes,
    jvp=_evaluate_jvp,
    transpose=_evaluate_transpose,
    batch=_evaluate_batch,
)
_register(
    pull_back_p,
    _pull_back_call,
    ("kernel", "rank", "shapes"),
    shapes=_pull_back_shapes,
    jvp=_pull_back_jvp,
    transpose=_pull_back_transpose,
    batch=_pull_back_batch,
)
