"""The least that a training step costs: operations and bytes, counted by hand from the formulas.

Counts are of real multiplications and additions, forward once and backward twice (the usual factor
3 for value and gradient), for the evaluation path that the model takes. Dispatch, loops and
temporaries are not counted: they are what the gap to the measured figure consists of.
"""

import functools
import time

import jax
import jax.numpy as jnp

from benchmarks.measurements import Floor
from qdeq.circuits import AngleEncoding
from qdeq.models import QuantumModel, evaluation_path
from qdeq.simulation import lightcone_cost
from qdeq.simulation.product import product_encoding

_VALUE_AND_GRADIENT = 3


def step_floor(model: QuantumModel, batch: int, solver_steps: float, n_classes: int) -> Floor:
    """Floor of one implicit training step of a classifier with the paper's head.

    Parameters
    ----------
    model
        Decides the evaluation path.
    batch
        B.
    solver_steps
        Mean steps per sample.
    n_classes
        C.
    """
    if isinstance(model.encoding, AngleEncoding):
        prepare, sample, step, memory = _angle(model)
    else:
        prepare, sample, step, memory = _amplitude(model)
    q, d = model.n_observables, model.n_features
    adjoint = 2 * q**3 / 3 + 2 * q**2  # one LU of I - J and one solve
    jacobian = 2 * _VALUE_AND_GRADIENT * step  # J once, and the penalty's value and gradient
    head = 2 * d * n_classes
    quasi_newton = 10 * q**2  # products with, and update of, the inverse Jacobian
    operations = _VALUE_AND_GRADIENT * (prepare + batch * (sample + head)) + batch * (
        solver_steps * (step + quasi_newton) + adjoint + jacobian
    )
    memory = _VALUE_AND_GRADIENT * memory + 4 * batch * (2 * d + 4 * q + n_classes)
    flops, bandwidth = machine_peaks()
    return Floor(operations, memory, max(operations / flops, memory / bandwidth))


def _gate_operations(model: QuantumModel, n_amplitudes: float) -> float:
    # A rotation maps a pair of amplitudes with 4 complex products and 2 sums: 28 operations, 14 per
    # amplitude. Fixed gates fold into neighbours, permutations cost nothing.
    return 14 * n_amplitudes * model.circuit.n_parameters


def _amplitude(model: QuantumModel) -> tuple[float, float, float, float]:
    """Operations of prepare, of bind per sample, of one evaluation; bytes of the columns."""
    n, d, q = 2**model.circuit.n_qubits, model.n_features, model.n_observables
    gates = _gate_operations(model, n * d)
    step = 2 * q**3 + 4 * q**2
    if evaluation_path(model) == "quadratic-forms":
        gram = 2 * (2 * n) * d**2 * q / 2  # q symmetric d x d matrices, real and imaginary part
        sample = 2 * q * d**2 / 2 + 2 * q**2 * d
        return gates + gram, sample, step, 4 * q * d**2
    # Columns: P = Phi x, its squares against q signs, and b = (A R)' x.
    sample = 2 * (2 * n) * d + 2 * (2 * n) * q + 2 * q**2 * d
    reinjected = 2 * (2 * n) * d * q**2
    return gates + reinjected, sample, step, 4 * (2 * n) * (d + q)


def _angle(model: QuantumModel) -> tuple[float, float, float, float]:
    assert isinstance(model.encoding, AngleEncoding)
    coefficients = lightcone_cost(model.measured)
    product = product_encoding(model.encoding)
    if coefficients is None or product is None:
        return 0.0, 0.0, _gate_operations(model, 2**model.circuit.n_qubits), 0.0
    q = model.n_observables
    # Wires that stay in |0> have one amplitude only: the columns of the encoded subspace.
    cone_wires = min(model.circuit.n_qubits, _mean_cone(model))
    live = cone_wires * sum(map(bool, product.components)) / len(product.components)
    size, columns = 2.0**cone_wires, 2.0**live
    shared = q if cone_wires < model.circuit.n_qubits else 1  # narrow cones are separate
    gates = shared * _gate_operations(model, size * columns)
    if shared > 1:
        gates *= cone_wires / model.circuit.n_qubits  # only the gates inside the cone
    gram = q * 8 * size * columns**2 / 2
    transform = 4 * coefficients * live
    return gates + gram + transform, 2 * model.n_features, 2 * coefficients, 4 * coefficients


def _mean_cone(model: QuantumModel) -> int:
    from qdeq.simulation.cones import cone_groups

    assert isinstance(model.encoding, AngleEncoding)
    groups = cone_groups(model.measured) or ()
    sizes = [len(cone.wires) for group in groups for cone in group.cones]
    return max(sizes) if sizes else model.circuit.n_qubits


@functools.cache
def machine_peaks() -> tuple[float, float]:
    """Operations per second of a float32 matrix product, bytes per second of an addition."""
    size = 1024
    matrix = jnp.ones((size, size), jnp.float32)
    vector = jnp.ones(2**24, jnp.float32)  # 64 MiB: outside every cache

    def best(function, argument) -> float:
        program = jax.jit(function).lower(argument).compile()
        jax.block_until_ready(program(argument))
        seconds = []
        for _ in range(8):
            began = time.perf_counter()
            jax.block_until_ready(program(argument))
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    product = best(lambda a: jnp.matmul(a, a, precision="highest"), matrix)
    addition = best(lambda a: a + 1, vector)
    return 2 * size**3 / product, 2 * vector.nbytes / addition
