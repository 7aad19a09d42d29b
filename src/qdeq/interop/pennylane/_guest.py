"""A user's QNode as data: how it is called, differentiated, and what its tapes look like.

Here PennyLane meets JAX: the quantum function is traced with JAX values, so that everything it
computes before a gate is differentiated by JAX, and the tape's parameters become plain arrays.
Running tapes is in `_tapes`, the derivative rules are in `_rules`.
"""

import inspect
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from joblib import wrap_non_picklable_objects

from qdeq._pennylane import load, quiet
from qdeq.devices import DeviceError, Ledger
from qdeq.errors import UserError

# Ways in which a QNode is differentiated.
NATIVE = "by JAX"
SHIFT = "by shifts"
DEVICE = "by the device"
TRANSFORM = "by a gradient transform"
NEVER = "not at all"


@dataclass(eq=False)
class Guest:
    """A QNode and the places of its arguments.

    Attributes
    ----------
    qml
        The module `pennylane`.
    qnode
        The user's QNode.
    config
        PennyLane's execution configuration, with ``diff_method="best"`` resolved.
    inputs
        Name of the argument that receives v.
    unravel
        Flat theta `(P,)` to arguments by name.
    ledger
        Charged before every submission; None counts nothing.
    gradient_shots
        Shots of submissions that are for a gradient; None: those of the QNode.
    last_error
        Why the newest failed submission did: JAX reports an exception of a callback as text only.
    """

    qml: Any
    qnode: Any
    config: Any
    inputs: str
    unravel: Callable[[Any], dict[str, Any]]
    ledger: Ledger | None = None
    gradient_shots: int | None = None
    last_error: UserError | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Guest":
        """Itself, as of a function: a copy of a model runs the same device and is charged alike."""
        return self

    def __getstate__(self) -> dict[str, bytes]:
        # A copy of the QNode, which keeps what it ran last: values of a trace cannot be written.
        qnode = self.qnode.update(interface=self.qnode.interface)
        config = self.config
        if self.way in (SHIFT, TRANSFORM):
            config = replace(config, gradient_method=config.gradient_method.__name__)
        state = self.__dict__ | {"qml": None, "qnode": qnode, "config": config, "last_error": None}
        try:  # by value: of a decorated function no module has the name
            return {"state": pickle.dumps(wrap_non_picklable_objects(state, keep_wrapper=False))}
        except Exception as error:
            raise UserError(
                f"the QNode cannot be copied to another process or file ({error}): give it a "
                "device in Python, such as default.qubit, and no transforms, or take n_jobs=1"
            ) from error

    def __setstate__(self, state: dict[str, bytes]) -> None:
        qml = load()
        self.__dict__.update(pickle.loads(state["state"]) | {"qml": qml})
        method = self.config.gradient_method
        method = getattr(qml.gradients, str(method), method)
        self.config = replace(self.config, gradient_method=method)

    @property
    def way(self) -> str:
        """One of the five ways above."""
        method = self.config.gradient_method
        if method is None:
            return NEVER
        if method == "backprop":
            return NATIVE
        if self.config.use_device_gradient:
            return DEVICE
        return SHIFT if method is self.qml.gradients.param_shift else TRANSFORM

    @property
    def method(self) -> str:
        """The differentiation method as the user calls it."""
        method = self.config.gradient_method
        return "parameter-shift" if self.way == SHIFT else getattr(method, "__name__", str(method))

    def call_arguments(self, theta: Any, v: Any) -> tuple[tuple, dict]:
        """Positional and keyword arguments of the quantum function."""
        named = self.unravel(theta) | {self.inputs: v}
        signature = inspect.signature(self.qnode.func)
        given = {name: named[name] for name in signature.parameters if name in named}
        bound = inspect.BoundArguments(signature, OrderedDict(given))  # by name no `/` would do
        return bound.args, bound.kwargs

    def call(self, theta: Any, v: Any) -> Any:
        """What the QNode returns, traced by JAX: only for `backprop`."""
        args, kwargs = self.call_arguments(theta, v)
        with quiet():
            return self.qnode(*args, **kwargs)

    def trace(self, theta: Any, v: Any) -> tuple[tuple, Callable[[tuple], Any]]:
        """Tapes with JAX values as parameters, and how their results become the QNode's.

        The QNode's own transforms have been applied, and gates that the differentiation method
        cannot handle are decomposed.
        """
        args, kwargs = self.call_arguments(theta, v)
        with quiet():
            tape = self.qml.tape.make_qscript(self.qnode.func, shots=self.qnode.shots)
            tapes, finish = self.qnode.compile_pipeline((mark(tape(*args, **kwargs)),))
            _check_measurements(self.qml, tapes)
            tapes, finish_expanded = self._expand(tuple(mark(tape) for tape in tapes))
        return tapes, lambda results: finish(finish_expanded(results))[0]

    def _expand(self, tapes: tuple) -> tuple[tuple, Callable]:
        program = self.qml.CompilePipeline()
        if self.way == DEVICE:
            program = self.qnode.device.preprocess_transforms(self.config)
        else:
            expand = getattr(self.config.gradient_method, "expand_transform", None)
            if expand is not None:
                options = self.config.gradient_keyword_arguments
                program.add_transform(self.qml.transform(expand), **options)
        tapes, finish = program(tapes)
        state = self.qml.measurements.StateMP
        if any(isinstance(m, state) for tape in tapes for m in tape.measurements):
            raise UserError(
                f"diff_method={self.method!r} reads probabilities from a whole state, which no "
                "device measures: choose 'parameter-shift' or 'backprop', or measure qml.expval"
            )
        return tuple(mark(tape) for tape in tapes), finish

    def submit(self, run: Callable[[], Any]) -> Any:
        """Let the device run; its exception becomes a `DeviceError` and is kept."""
        try:
            return run()
        except UserError as error:
            self.last_error = error
            raise
        except Exception as error:
            lines = str(error).strip().splitlines() or ["no message"]
            self.last_error = DeviceError(
                f"device {self.qnode.device.name} failed ({type(error).__name__}: {lines[0]}): "
                "what was measured before is kept, see to the device and continue"
            )
            raise self.last_error from error


def mark(tape: Any) -> Any:
    """The tape with exactly its traced parameters marked as trainable."""
    parameters = tape.get_parameters(trainable_only=False)
    traced = [i for i, p in enumerate(parameters) if isinstance(p, Tracer)]
    tape.trainable_params = traced
    return tape


def stack(output: Any) -> jax.Array:
    """Whatever a QNode returns as one vector `(q,)`, in the order in which it is written."""
    return jnp.concatenate([jnp.ravel(jnp.asarray(leaf)) for leaf in _leaves(output)])


def _leaves(output: Any) -> Iterator[Any]:
    """JAX would sort the names of a dictionary: the device measures them as they stand."""
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, (list, tuple)):
        for part in output:
            yield from _leaves(part)
    else:
        yield output


def make_guest(
    qml: Any,
    qnode: Any,
    theta: Any,
    inputs: str | None,
    n_features: int,
    ledger: Ledger | None,
    gradient_shots: int | None,
) -> tuple[Guest, jax.Array]:
    """Find out how a QNode is called and differentiated; also flat theta.

    Raises
    ------
    UserError
        If it is no QNode, its arguments do not fit, or it is set up in a way that cannot work.
    """
    _check_qnode(qml, qnode)
    names = list(inspect.signature(qnode.func).parameters)
    inputs = _inputs_name(names, theta, inputs)
    dtype = jnp.result_type(float)
    named = jax.tree.map(lambda a: _real(a, dtype), _arguments(names, theta, inputs))
    flat, unravel = ravel_pytree(named)
    flat = flat.astype(dtype)  # without any argument it would be float32 under x64
    guest = Guest(qml, qnode, None, inputs, unravel, ledger, gradient_shots)
    args, kwargs = guest.call_arguments(np.asarray(flat), example(n_features, dtype))
    try:
        with quiet():
            config = qml.workflow.construct_execution_config(qnode)(*args, **kwargs)
            tape = qml.tape.make_qscript(qnode.func)(*args, **kwargs)
    except UserError:
        raise
    except Exception as error:
        raise cannot_run(error) from error
    if tape.batch_size is not None:
        gate = next(op for op in tape if getattr(op, "batch_size", None) is not None)
        raise UserError(
            f"{gate.name} is given {tape.batch_size} angles at once, which PennyLane takes for a "
            "batch: give it one angle, and use jax.vmap around the model function for a batch"
        )
    guest = replace(guest, config=config)
    if qnode.gradient_kwargs and guest.way != TRANSFORM:
        raise UserError(
            f"gradient_kwargs={qnode.gradient_kwargs!r} with diff_method={guest.method!r} would "
            "have no effect here, where a whole batch is shifted in one submission: leave it out"
        )
    if guest.way == NATIVE and (ledger is not None or gradient_shots is not None):
        raise UserError(
            "ledger or gradient_shots with diff_method='backprop': it runs inside the compiled "
            "program, where nothing is counted or sampled; choose 'parameter-shift' or 'adjoint'"
        )
    return guest, flat


def _real(value: Any, dtype: Any) -> jax.Array:
    try:
        return jnp.asarray(value, dtype)
    except (TypeError, ValueError) as error:
        raise UserError(f"theta has {value!r}: give real numbers") from error


def _check_qnode(qml: Any, qnode: Any) -> None:
    if not isinstance(qnode, qml.QNode):
        raise UserError(
            f"{type(qnode).__name__} is no QNode: give qml.QNode(function, device), or use the "
            "function itself as f(m, x) if it is plain JAX"
        )
    if qnode.shots.has_partitioned_shots:
        raise UserError("the QNode has a list of shots: give it one number of them")
    if qnode.interface not in ("auto", "jax", "jax-jit"):
        raise UserError(
            f"interface={qnode.interface!r}: qdeq computes with JAX, give the QNode interface "
            "'jax' or leave it out"
        )


def _check_measurements(qml: Any, tapes: tuple) -> None:
    allowed = ("ExpectationMP", "ProbabilityMP", "VarianceMP")
    for measurement in (m for tape in tapes for m in tape.measurements):
        if type(measurement).__name__ not in allowed:
            raise UserError(
                f"the QNode returns {type(measurement).__name__}: a model function returns real "
                "numbers, measure qml.expval, qml.probs or qml.var"
            )


def example(n_features: int, dtype: Any) -> np.ndarray:
    """A v to try a QNode with: not zero, at which amplitude embedding has no value."""
    return np.linspace(0.1, 1.0, n_features).astype(dtype)


def cannot_run(error: Exception) -> UserError:
    """The first line of what went wrong inside PennyLane."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, (jax.errors.JAXTypeError, jax.errors.JAXIndexError)):
        lines = ["its arguments are JAX values here, use jax.numpy or qml.math on them"]
    return UserError(f"the QNode cannot be evaluated: {lines[0]}")


# What PennyLane's own layers for other frameworks call it; it may then stand anywhere.
_INPUTS = "inputs"


def _inputs_name(names: list[str], theta: Any, inputs: str | None) -> str:
    if inputs is None:
        taken = set(theta) if isinstance(theta, dict) else set()
        free = [name for name in names if name not in taken]
        if _INPUTS in free and len(names) > (theta is not None):
            return _INPUTS
        position = 1 if theta is not None and not taken else 0
        if len(free) <= position:
            raise UserError(
                f"the QNode takes the arguments {', '.join(names) or 'none'}: it needs one for "
                "theta and one for the encoder input v = x + R m"
            )
        return free[position]
    if inputs not in names:
        raise UserError(f"inputs={inputs!r}: the QNode takes the arguments {', '.join(names)}")
    return inputs


def _arguments(names: list[str], theta: Any, inputs: str) -> dict[str, Any]:
    if theta is None:
        return {}
    if not isinstance(theta, dict):
        return {next(name for name in names if name != inputs): theta}
    for name in theta:
        if name == inputs or name not in names:
            raise UserError(
                f"theta has {name!r}, and the QNode's arguments beside {inputs!r} are "
                f"{', '.join(n for n in names if n != inputs) or 'none'}"
            )
    return dict(theta)
