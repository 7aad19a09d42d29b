"""A user's QNode as the model function of an equilibrium."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import Var
from jaxtyping import Array, ArrayLike, Float

from qdeq._pennylane import check_jax, load, quiet
from qdeq.circuits import MeasuredCircuit
from qdeq.devices import Ledger, device_errors
from qdeq.errors import UserError, check_count
from qdeq.interop.pennylane._guest import NATIVE, Guest, cannot_run, example, make_guest, stack
from qdeq.interop.pennylane._rules import evaluate
from qdeq.interop.pennylane._tapes import make_tapes
from qdeq.interop.pennylane.measured_qnode import measured_circuit
from qdeq.models import Injection, ModelFunction
from qdeq.models.injection import injection_of
from qdeq.simulation.sampling import check_shots


class QNodeModel(ModelFunction):
    """f_theta(m, x) = what a QNode returns for theta and v; made by `model_function`.

    One sample in the signature; `jax.vmap` for a batch, which a device gets as one submission. It
    can take the place of a `QuantumModel` in an `Equilibrium` and in a `Classifier`.

    Attributes
    ----------
    theta
        `(P,)`: the QNode's trainable arguments, flattened; `arguments()` has their shapes.
    injection
        From measured state and features to the encoder input v, x + R m unless another was given.
    """

    theta: Float[Array, " P"]
    injection: Injection
    guest: Guest = eqx.field(static=True)

    @property
    def reinjection(self) -> Float[Array, "a q"]:
        """R, or W of an injection, within its bound."""
        return self.injection.bounded_state

    @property
    def n_features(self) -> int:
        """d, the length of x."""
        return self.injection.n_features

    @property
    def n_observables(self) -> int:
        """q, the length of what the QNode returns."""
        return self.injection.n_observables

    @property
    def n_parameters(self) -> int:
        """How many numbers training changes: theta, and those of a learned injection."""
        return self.theta.shape[-1] + self.injection.n_learned

    def __call__(self, m: Float[Array, " q"], x: Float[Array, " d"]) -> Float[Array, " q"]:
        """One evaluation for one sample: measured state `(q,)`, features `(d,)` -> `(q,)`."""
        _check_shape("m", m, self.n_observables)
        _check_shape("x", x, self.n_features)
        return self.evaluate(self.theta, self.injection(m, x)).astype(jnp.result_type(m))

    def evaluate(self, theta: Float[Array, " P"], v: Float[Array, " a"]) -> Float[Array, " q"]:
        """The QNode itself: flat theta `(P,)` and encoder input `(a,)` -> `(q,)`."""
        _check_shape("theta", theta, self.theta.size)
        _check_shape("v", v, self.injection.n_inputs)
        return _evaluate(self.guest, theta, v)

    @property
    def measured(self) -> MeasuredCircuit:
        """Encoding, circuit and observables as ours, of the same theta and injection.

        The QNode is run some dozen times with made-up numbers to see them.

        Raises
        ------
        UserError
            If a gate, an angle or a measurement of the QNode has no counterpart there.
        """
        return measured_circuit(self.guest, self.theta.size, self.injection.n_inputs)

    @property
    def n_read_out(self) -> int:
        """What a head reads, as of a `QuantumModel`."""
        return self.injection.n_read_out

    def read_out(self, m: Float[Array, " q"]) -> Float[Array, " r"]:
        """The re-injected state R m, with another injection than x + R m the state itself."""
        return self.injection.read_out(m)

    def arguments(self) -> dict[str, Any]:
        """The trainable arguments by name, in the shapes that the QNode takes."""
        return self.guest.unravel(self.theta)


def model_function(
    qnode: Any,
    *,
    theta: ArrayLike | Mapping[str, ArrayLike] | None,
    n_features: int,
    inputs: str | None = None,
    reinjection: ArrayLike | None = None,
    injection: Injection | None = None,
    ledger: Ledger | None = None,
    gradient_shots: int | None = None,
) -> QNodeModel:
    """Make a model function f(m, x) of a QNode: any device, any differentiation method.

    The QNode is run once, to see what it returns. With ``diff_method="backprop"`` it becomes part
    of the compiled program. With every other method it runs on its device, called back from the
    program, and a batch of samples with all its shifted circuits is one submission (two, if both
    theta and v are differentiated at once): never one job per sample.

    Parameters
    ----------
    qnode
        A QNode of two arguments, theta and then the encoder input v `(d,)` (in any order where that
        is called `inputs`, as in PennyLane's own layers), that returns q real
        numbers: expectation values, or probabilities. Gates may depend on both in any way that JAX
        can trace. It takes one sample; do not use PennyLane's broadcasting in it.
    theta
        Start of the trainable argument, of any shape; a dictionary by name where there are several;
        None if there is none.
    n_features
        The length of v: d, that of the features, unless an injection maps them to v.
    inputs
        Name of the argument for v, where it is neither `inputs` nor the second (or, with a
        dictionary, the first one that is left).
    reinjection
        `(d, q)` map R in v = x + R m; nearest-neighbour upsampling by default.
    injection
        In its place v = U x + W m + b, with parts that are learned or fixed.
    ledger
        Charged before every submission; its executions are those that `qml.Tracker` counts. Not
        with backprop, which runs inside the compiled program where nothing can be counted. Another
        process (`n_jobs=2`) charges a copy.
    gradient_shots
        Shots for gradients, where they shall differ from the QNode's.

    Returns
    -------
    QNodeModel
        `model(m, x)`, differentiable in `model.theta`, m and x. With shots every call draws new
        samples.

    Raises
    ------
    UserError
        If PennyLane is missing or JAX too new, for arguments that do not fit the QNode, for results
        that are not real, finite numbers. When differentiated: for a second derivative that
        PennyLane would silently get wrong (adjoint, or parameter shift with ``max_diff=1``).

    Notes
    -----
    Schuld et al., Evaluating analytic gradients on quantum hardware, Phys. Rev. A 99, 032331
    (2019), arXiv 1811.11184; Wierichs et al., General parameter-shift rules for quantum gradients,
    Quantum 6, 677 (2022), arXiv 2107.12390.

    Examples
    --------
    >>> import jax.numpy as jnp, pennylane as qml, qdeq
    >>> @qml.qnode(qml.device("default.qubit", wires=2), diff_method="parameter-shift")
    ... def circuit(theta, v):
    ...     for wire in range(2):
    ...         qml.RY(0.5 * v[wire], wires=wire)
    ...         qml.RX(theta[wire], wires=wire)
    ...     qml.CNOT(wires=[0, 1])
    ...     return qml.expval(qml.Z(0)), qml.expval(qml.Z(1))
    >>> f = model_function(circuit, theta=[0.1, 0.4], n_features=2)
    >>> solution = qdeq.Equilibrium(max_steps=20)(f, jnp.zeros(2), jnp.array([0.3, 0.6]))
    >>> bool(solution.stats.converged)
    True
    """
    qml = load()
    check_jax()
    check_count("n_features", n_features, why=": the encoder input needs at least 1 number")
    check_shots("gradient_shots", gradient_shots)
    if isinstance(theta, Mapping):
        theta = dict(theta)
    guest, flat = make_guest(qml, qnode, theta, inputs, n_features, ledger, gradient_shots)
    try:
        with device_errors(guest):
            found = np.asarray(_evaluate(guest, flat, jnp.asarray(example(n_features, flat.dtype))))
    except UserError:
        raise
    except Exception as error:
        raise cannot_run(error) from error
    if np.iscomplexobj(found) or not np.isfinite(found).all():
        what = "complex" if np.iscomplexobj(found) else "not finite"
        raise UserError(
            f"the QNode returned numbers that are {what}: a model function is real and finite, "
            "return qml.expval or qml.probs"
        )
    shape = (n_features, found.size)
    return QNodeModel(flat, injection_of(injection, reinjection, shape, flat.dtype), guest)


@eqx.filter_jit  # traced once: PennyLane builds its tapes anew at every trace
def _evaluate(guest: Guest, theta: Array, v: Array) -> Array:
    dtype = theta.dtype
    v = v.astype(dtype)
    if guest.way == NATIVE:
        values = stack(guest.call(theta, v))
        return values if jnp.iscomplexobj(values) else values.astype(dtype)
    traced, finish = guest.trace(theta, v)
    tapes = make_tapes(guest, traced, lambda p: isinstance(p, Tracer))
    if not tapes.slots:
        raise UserError(
            "the gates of the QNode depend neither on theta nor on v: use its arguments as angles"
        )
    slots = _slots(traced)
    values = evaluate(tapes, slots, _reads_input(guest, theta, v, len(slots)), dtype)
    results, first = [], 0
    for shapes in tapes.shapes:
        parts = []
        for shape in shapes:
            size = int(np.prod(shape))
            parts.append(values[first : first + size].reshape(shape))
            first += size
        results.append(tuple(parts) if len(parts) > 1 else parts[0])
    with quiet():
        return stack(finish(tuple(results))).astype(dtype)


def _slots(tapes: tuple) -> list[Array]:
    parameters = (p for tape in tapes for p in tape.get_parameters(trainable_only=False))
    return [p for p in parameters if isinstance(p, Tracer)]


def _reads_input(guest: Guest, theta: Array, v: Array, n_slots: int) -> tuple[bool, ...]:
    """For each slot whether its value depends on v; every equation passes dependence on."""
    shapes = (jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (theta, v))
    jaxpr = jax.make_jaxpr(lambda theta, v: _slots(guest.trace(theta, v)[0]))(*shapes).jaxpr
    tainted = {jaxpr.invars[1]}
    for equation in jaxpr.eqns:
        if any(isinstance(var, Var) and var in tainted for var in equation.invars):
            tainted.update(equation.outvars)
    found = tuple(isinstance(var, Var) and var in tainted for var in jaxpr.outvars)
    assert len(found) == n_slots
    return found


def _check_shape(name: str, value: Any, length: int) -> None:
    if jnp.shape(value) != (length,):
        raise UserError(
            f"{name} has shape {jnp.shape(value)}: give one sample of shape ({length},), and use "
            "jax.vmap for a batch"
        )
