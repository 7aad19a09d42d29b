"""An equilibrium as a PyTorch module: its own parameters, gradients through the fixed point.

JAX solves and differentiates a batch in compiled programs. Tensors pass by DLPack, into a JAX that
has only CPUs as NumPy arrays.
"""

from collections.abc import Callable
from numbers import Integral
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from qdeq.equilibrium import Equilibrium, Solution, SolverStats
from qdeq.equilibrium.networks import NetworkEquilibrium
from qdeq.errors import UserError
from qdeq.interop._extras import check_installed
from qdeq.models import ModelFunction, Network, QuantumEquilibrium
from qdeq.models.function import trained_parts

check_installed("torch", extra="torch", needed_for="qdeq.interop.torch")

import torch  # noqa: E402

_FLOATS = (torch.float32, torch.float64)


class FunctionEquilibrium(eqx.Module):
    """z = f(z, x), or f(z, x, parameters), of any JAX function, from z = 0.

    Attributes
    ----------
    function
        Any JAX function, also an Equinox module.
    parameters
        What is learned beside the function's own arrays; None: nothing.
    layer
        The solver and the rest.
    shape
        Of z.
    """

    function: Callable[..., Any]
    parameters: PyTree
    layer: Equilibrium
    shape: tuple[int, ...] = eqx.field(static=True)

    def solve(self, x: Array) -> Solution:
        """The equilibrium of one sample."""
        z0 = jnp.zeros(self.shape, x.dtype)
        if self.parameters is None:
            return self.layer(self.function, z0, x)
        parameters = self.parameters

        def f(z: Array, x: Array) -> Array:
            return self.function(z, x, parameters)

        return self.layer(f, z0, x)


class EquilibriumLayer(torch.nn.Module):
    """The equilibrium of a batch as a PyTorch module.

    Its trainable arrays are `torch.nn.Parameter`s and its fixed ones buffers: optimisers,
    `state_dict`, `.to(dtype)`, `copy.deepcopy` and so on treat it as any other module. Tensors and
    parameters have one dtype, float32 or float64. A tensor's device must be one that JAX has.
    `torch.compile` leaves it as it is; transforms of `torch.func` are refused.

    Parameters
    ----------
    function
        A `qdeq.QuantumEquilibrium`; a model function (a `QuantumModel`, one of
        `qdeq.interop.pennylane`, a `Network`), which `options` make one of; or any JAX function
        `f(z, x)` or `f(z, x, parameters)` of one sample. An Equinox module's arrays are learned.
    shape
        Of z, for a JAX function: a number or a tuple.
    parameters
        For a JAX function: a pytree of arrays or tensors to learn, its third argument.
    options
        Of `qdeq.Equilibrium` (of a network `NetworkEquilibrium`): `solver`, `adjoint`, ...; or
        `layer=` with one.

    Raises
    ------
    UserError
        For something that has no equilibrium, options that do not fit it, and in a call for inputs
        of another shape, dtype or device.

    Examples
    --------
    >>> import jax, qdeq
    >>> layer = EquilibriumLayer(qdeq.paper_model(key=jax.random.key(0)))
    >>> m = layer(torch.ones(8, 16))
    >>> tuple(m.shape), bool(layer.stats.converged.all())
    ((8, 4), True)
    >>> m.sum().backward()
    >>> [(name, tuple(p.grad.shape)) for name, p in layer.named_parameters()]
    [('theta', (39,))]
    """

    def __init__(
        self,
        function: Any,
        *,
        shape: int | tuple[int, ...] | None = None,
        parameters: PyTree = None,
        **options: Any,
    ):
        super().__init__()
        module = _module_of(function, shape, parameters, options)
        self._stats: SolverStats | None = None
        self._parts: tuple | None = None
        self._module = module  # whose arrays the parameters take the place of
        arrays = eqx.filter(module, eqx.is_inexact_array)
        learned = trained_parts(module.model) if isinstance(module, QuantumEquilibrium) else True
        leaves, _ = jax.tree_util.tree_flatten_with_path(arrays)
        self._names: list[str] = []
        self._learned: list[np.ndarray] = []  # which numbers of an array
        self._shapes: list[tuple[int, ...]] = []
        flags = _flags(module, arrays, learned)
        for (path, leaf), is_learned in zip(leaves, flags, strict=True):
            name = _free_name(path, self)
            tensor = torch.from_numpy(np.array(leaf))
            if is_learned.any():
                self.register_parameter(name, torch.nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)
            self._names.append(name)
            self._learned.append(is_learned)
            self._shapes.append(tuple(leaf.shape))
        self._features = _sample_shape(module)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The equilibria of a batch, or of one sample.

        Parameters
        ----------
        x
            Features with any leading axes, `(..., d)`, of a network `(..., N, d)`; for a JAX
            function `(B, ...)`.

        Returns
        -------
        torch.Tensor
            `(..., q)`, of a network `(..., N, q)`; for a JAX function `(B, *shape)`.
        """
        if torch.compiler.is_compiling():  # JAX compiles the layer; the decorator takes 1 s to load
            around: Any = torch.compiler.disable(self._forward)
            return around(x)
        return self._forward(x)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        values = self._values()
        leading = self._checked(x, values)
        flat = x.reshape(-1, *x.shape[len(leading) :])
        try:
            found = _Solve.apply(self, flat, *values)
        except RuntimeError as error:
            if "setup_context" not in str(error):
                raise
            raise UserError(
                "torch.func's transforms do not reach into the layer: it takes batches itself, and "
                "torch.autograd.functional.jacobian differentiates it; or transform its JAX form, "
                "layer.equilibrium()"
            ) from None
        return found.reshape(*leading, *found.shape[1:])

    @property
    def stats(self) -> SolverStats | None:
        """`SolverStats` of the last batch, NumPy arrays; None before the first."""
        return jax.tree.map(np.asarray, self._stats)

    def equilibrium(self) -> Any:
        """The present parameters in JAX: a `QuantumEquilibrium`, or what a function became."""
        with _precision(next(iter(self._values()), torch.zeros(()))):
            return _with_arrays(self._static_parts(), [_to_jax(value) for value in self._values()])

    def extra_repr(self) -> str:
        """The names of what is learned."""
        return ", ".join(name for name, _ in self.named_parameters())

    def __getstate__(self) -> dict[str, Any]:
        # A structure does not survive a copy, what it is made of does.
        return {**self.__dict__, "_parts": None, "_stats": self.stats}

    def _static_parts(self) -> tuple:
        """What programs are told apart by: all but the arrays, and which numbers are learned."""
        if self._parts is None:
            arrays, rest = eqx.partition(self._module, eqx.is_inexact_array)
            self._parts = rest, jax.tree.structure(arrays), tuple(self._learned)
        return self._parts

    def _values(self) -> list[torch.Tensor]:
        return [getattr(self, name) for name in self._names]

    def _checked(self, x: torch.Tensor, values: list[torch.Tensor]) -> tuple[int, ...]:
        """The leading axes of x, which must fit the layer's sizes, dtype and device."""
        if not isinstance(x, torch.Tensor):
            raise UserError(f"x is a {type(x).__name__}: give a torch.Tensor")
        if x.dtype not in _FLOATS:
            raise UserError(f"x has the dtype {x.dtype}: give float32 or float64")
        if x.layout is not torch.strided:
            raise UserError(f"x has the layout {x.layout}: give x.to_dense()")
        for name, value, shape in zip(self._names, values, self._shapes, strict=True):
            if tuple(value.shape) != shape:  # JAX would repeat its numbers
                raise UserError(f"{name} has the shape {tuple(value.shape)}: it has to be {shape}")
            if value.dtype != x.dtype or value.device != x.device:
                raise UserError(
                    f"x is {x.dtype} on {x.device}, {name} {value.dtype} on {value.device}: move "
                    "one to the other, as in layer.to(x.device, x.dtype)"
                )
        if self._features is None:
            if x.ndim == 0:
                raise UserError("x has no axis: give a batch, (B, ...)")
            return tuple(x.shape[:1])
        own = len(self._features)
        if tuple(x.shape[x.ndim - own :]) != self._features or x.ndim < own:
            wanted = ", ".join(map(str, self._features))
            raise UserError(f"x has the shape {tuple(x.shape)}: give (..., {wanted})")
        return tuple(x.shape[: x.ndim - own])


class _Solve(torch.autograd.Function):
    """The step from tensors to JAX and back, with its derivative."""

    @staticmethod
    def forward(ctx: Any, module: EquilibriumLayer, x: torch.Tensor, *values: torch.Tensor) -> Any:
        parts, needed = module._static_parts(), tuple(ctx.needs_input_grad[1:])
        ctx.needed, ctx.pull_back = needed, None
        ctx.inputs = x, *values  # not `save_for_backward`: they are copied, and may change
        with _precision(x):
            if len(x) == 0:
                one = [_to_jax(value) for value in (x.new_zeros(1, *x.shape[1:]), *values)]
                value, _ = eqx.filter_eval_shape(_solved, parts, one)
                return x.new_zeros(0, *value.shape[1:])
            inputs = [_to_jax(value) for value in (x, *values)]
            if any(needed):
                value, module._stats, ctx.pull_back = _differentiated(parts, inputs, needed)
            else:
                value, module._stats = _values_of(parts, inputs)
            return _to_torch(value)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple:
        try:
            return (None, *_PullBack.apply(ctx, *cotangents, *ctx.inputs))
        except RuntimeError as error:
            if "atching rule" not in str(error):
                raise
            raise UserError(
                "several cotangents at once (is_grads_batched, vectorize=True) do not reach into "
                "the layer: ask for one after the other"
            ) from None

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        raise UserError(
            "forward-mode derivatives do not reach into the layer: take backward ones, or jax.jvp "
            "of its JAX form, layer.equilibrium()"
        )


class _PullBack(torch.autograd.Function):
    """The derivative, a function of the cotangent and of all that the layer was given.

    So that torch knows of what a second derivative would be one, and does not take it for zero.
    """

    @staticmethod
    def forward(_: Any, solve: Any, cotangent: torch.Tensor, *inputs: torch.Tensor) -> Any:
        if solve.pull_back is None:  # of no sample
            return tuple(torch.zeros_like(value) for value in inputs)
        with _precision(cotangent):
            found = iter(_pulled_back(solve.pull_back, _to_jax(cotangent)))
            return tuple(_to_torch(next(found)) if needs else None for needs in solve.needed)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise UserError(
            "a second derivative through EquilibriumLayer: it has first ones alone; for a penalty "
            "on a gradient or for a Hessian take jax.grad of qdeq.QuantumEquilibrium"
        )


def _with_arrays(parts: tuple, arrays: list[Array]) -> Any:
    rest, structure, learned = parts
    arrays = [
        jnp.where(is_learned, array, jax.lax.stop_gradient(array))
        for array, is_learned in zip(arrays, learned, strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(structure, arrays), rest)


def _solved(parts: tuple, inputs: list[Array]) -> tuple[Array, SolverStats]:
    x, *arrays = inputs
    solution = jax.vmap(_with_arrays(parts, arrays).solve)(x)
    return solution.value, solution.stats


_values_of = eqx.filter_jit(_solved)


@eqx.filter_jit
def _differentiated(
    parts: tuple, inputs: list[Array], needed: tuple[bool, ...]
) -> tuple[Array, SolverStats, Any]:
    """Values, statistics, and what cotangents of the values are for the inputs that need it."""

    def solved(wanted: list[Array]) -> tuple[Array, SolverStats]:
        given = iter(wanted)
        merged = [next(given) if n else old for n, old in zip(needed, inputs, strict=True)]
        return _solved(parts, merged)

    wanted = [value for value, is_needed in zip(inputs, needed, strict=True) if is_needed]
    value, pull_back, stats = jax.vjp(solved, wanted, has_aux=True)
    return value, stats, pull_back


@jax.jit
def _pulled_back(pull_back: Any, cotangent: Array) -> list[Array]:
    return pull_back(cotangent)[0]


def _precision(x: torch.Tensor) -> Any:
    """JAX with 64 bits where the tensor has them, whatever the program has chosen."""
    return jax.enable_x64(x.dtype == torch.float64)


def _to_jax(x: torch.Tensor) -> Any:
    """What a compiled program takes for a tensor."""
    # A copy: tensors may be changed in place while JAX still reads.
    x = x.detach().clone(memory_format=torch.contiguous_format)
    if x.device.type == "cpu" and jax.default_backend() == "cpu":
        # 0.01 ms a tensor, where DLPack takes 0.07. With a GPU JAX would compute there instead.
        return x.numpy()
    try:
        return jnp.from_dlpack(x)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"a tensor on {x.device} cannot be read by JAX, which has "
            f"{', '.join(map(str, jax.devices()))}: move it to the CPU, or install JAX for the "
            f"device ({error})"
        ) from None


def _to_torch(x: Array) -> torch.Tensor:
    # A copy here too: JAX's arrays must not change.
    return torch.from_dlpack(x).clone()


def _module_of(function: Any, shape: Any, parameters: Any, options: dict[str, Any]) -> Any:
    model = function.model if isinstance(function, QuantumEquilibrium) else function
    if isinstance(model, Network) and model.head is not None:
        raise UserError(
            f"Network(n_outputs={model.head.out_features}): the layer returns the states of its "
            "sites, which that head would not read; make it without n_outputs and key, and put a "
            "torch.nn.Linear behind the layer"
        )
    if isinstance(function, QuantumEquilibrium | ModelFunction):
        if shape is not None or parameters is not None:
            raise UserError(
                f"shape and parameters beside a {type(function).__name__}, which has its own: "
                "leave them out"
            )
        if isinstance(function, ModelFunction):
            return QuantumEquilibrium(function, **options)
        if options:
            raise UserError(f"{', '.join(options)} beside a QuantumEquilibrium: its layer has them")
        return function
    if isinstance(function, torch.nn.Module) or not callable(function):
        kind = isinstance(function, torch.nn.Module)
        what = f"{type(function).__name__}, a module of PyTorch," if kind else repr(function)
        raise UserError(
            f"{what} has no equilibrium: give a QuantumEquilibrium, a model function, or a "
            "JAX function f(z, x)"
        )
    if shape is None:
        raise UserError("shape: give the shape of z, a number or a tuple, for a JAX function")
    layer = options.pop("layer", None)
    if layer is None:
        try:
            layer = Equilibrium(**options)
        except TypeError as error:
            raise UserError(f"EquilibriumLayer: {error}") from None
    elif options:
        raise UserError(f"{', '.join(options)} beside a layer: give one or the other")
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if not all(isinstance(n, Integral) and not isinstance(n, bool) and int(n) > 0 for n in sizes):
        raise UserError(f"shape={shape!r}: give a whole number above 0, or a tuple of them")

    def as_array(a: Any) -> Array:
        try:
            if isinstance(a, torch.Tensor):
                with _precision(a):  # else JAX rounds what torch holds in float64
                    array = jnp.asarray(a.detach().cpu().numpy())
            else:
                array = jnp.asarray(a)
        except TypeError as error:  # bfloat16 has no NumPy; texts have no JAX
            raise UserError(
                f"parameters holds {a!r}, which JAX cannot take ({error}): give float32 or float64"
            ) from None
        if not jnp.issubdtype(array.dtype, jnp.inexact):
            raise UserError(
                f"parameters holds {a!r}, which is no floating-point number and cannot be learned: "
                "write 1.0 for 1, or let the function hold what stays as it is"
            )
        return array

    learned = jax.tree.map(as_array, parameters)
    return FunctionEquilibrium(function, learned, layer, tuple(map(int, sizes)))


def _flags(module: Any, arrays: Any, learned: Any) -> list[np.ndarray]:
    """Which numbers training changes: all of a function; of a model what it says; no start."""
    if not isinstance(module, QuantumEquilibrium):
        return [np.array(True)] * len(jax.tree.leaves(arrays))
    flags = jax.tree.map(lambda _: np.array(False), arrays)
    kept = jax.tree.map(lambda _, which: np.array(which, bool), arrays.model, learned)
    return jax.tree.leaves(eqx.tree_at(lambda m: m.model, flags, kept))


def _free_name(path: Any, layer: EquilibriumLayer) -> str:
    """A name for a parameter: the last words of where it stands, as many as make it unique."""
    words = jax.tree_util.keystr(path, simple=True, separator=" ").split()
    words = [word for word in words if word not in ("model", "parameters")] or ["value"]
    names = ["_".join(words[-n:]) for n in range(1, len(words) + 1)]
    for name in names:
        if name.isidentifier() and not hasattr(layer, name):
            return name
    return f"p_{'_'.join(words)}_{len(layer._names)}"


def _sample_shape(module: Any) -> tuple[int, ...] | None:
    """Of the features of one sample; None where a function says nothing of it."""
    if not isinstance(module, QuantumEquilibrium):
        return None
    if isinstance(module.model, Network) and isinstance(module.layer, NetworkEquilibrium):
        return (module.model.wiring.n_sites, module.model.injection.n_features)
    return (module.model.n_features,)
