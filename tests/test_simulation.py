"""The simulator against dense matrices, the published model functions, and itself path by path."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdeq.circuits import (
    GATES,
    AmplitudeEncoding,
    AngleEncoding,
    Circuit,
    MeasuredCircuit,
    MeasurementEnsemble,
    Operation,
    hardware_efficient,
    reuploading,
    strongly_entangling,
    xyz_of_every_wire,
    z_of_every_wire,
    z_strings,
)
from qdeq.errors import UserError
from qdeq.models import QuantumModel, evaluation_path, paper_model
from qdeq.simulation import (
    expectation_values,
    prepare_columns,
    prepare_forms,
    run,
    statevector,
    unitary_columns,
)
from qdeq.simulation.cones import cone_groups, lightcone_cost
from qdeq.simulation.fusion import fuse

GOLDEN = np.load(Path(__file__).parent / "data" / "model_function.npz")
PUBLISHED = [(4, "amplitude"), (4, "angle"), (10, "amplitude"), (10, "angle")]


def random_circuit(rng, n_qubits, n_operations):
    """Any gate of the table, an arbitrary unitary or a fixed angle on random wires.

    Half of the angles are parameters as they are, the others have a factor and an offset.
    """
    operations, n_parameters = [], 0
    names = [name for name, gate in GATES.items() if gate.n_wires <= n_qubits]
    for _ in range(n_operations):
        name = rng.choice([*names, "Unitary"])
        if name == "Unitary":
            k = int(rng.integers(1, min(n_qubits, 2) + 1))
            matrix, _ = np.linalg.qr(rng.normal(size=(2**k, 2**k, 2)) @ [1, 1j])
            entries = tuple(tuple(complex(e) for e in row) for row in matrix)
            wires = rng.choice(n_qubits, k, replace=False)
            operations.append(Operation("Unitary", tuple(map(int, wires)), matrix=entries))
            continue
        gate = GATES[name]
        wires = tuple(map(int, rng.choice(n_qubits, gate.n_wires, replace=False)))
        if gate.n_parameters == 0:
            operations.append(Operation(name, wires))
        elif gate.n_parameters == 1 and rng.random() < 0.2:
            operations.append(Operation(name, wires, angle=float(rng.normal())))
        else:
            indices = tuple(range(n_parameters, n_parameters + gate.n_parameters))
            parameter = indices[0] if gate.n_parameters == 1 else indices
            scale = {}
            if rng.random() < 0.5:
                scale = {what: rng.normal(size=gate.n_parameters) for what in ("factor", "offset")}
            operations.append(Operation(name, wires, parameter=parameter, **scale))
            n_parameters += gate.n_parameters
    return Circuit(n_qubits, tuple(operations))


def rescaled(rng, encoding):
    """The same rotations by factor * feature + offset, every other one."""
    operations = [
        replace(operation, factor=rng.normal(), offset=rng.normal()) if i % 2 else operation
        for i, operation in enumerate(encoding.operations)
    ]
    return AngleEncoding(encoding.n_qubits, tuple(operations))


def with_theta(model, theta):
    return eqx.tree_at(lambda m: m.theta, model, jnp.asarray(theta, model.theta.dtype))


def published(n_qubits, encoding, method="auto"):
    """A published model function with its golden angles, inputs and outputs."""
    prefix = f"{n_qubits}_{encoding}_"
    model = paper_model(n_qubits, encoding, key=jax.random.key(0), method=method)
    model = with_theta(model, GOLDEN[prefix + "theta"])
    v = jnp.asarray(GOLDEN[prefix + "z"] + GOLDEN[prefix + "x"], model.theta.dtype)
    return model, v, GOLDEN[prefix + "expval"], GOLDEN[prefix + "jacobian"]


def jacobian_in_state_space(model, v):
    """The published Jacobian: of the upsampled output with respect to all of z."""
    zero = jnp.zeros(model.n_observables, v.dtype)
    return model.reinjection @ jax.jacfwd(lambda v: model(zero, v))(v)


@pytest.mark.parametrize(("n_qubits", "encoding"), PUBLISHED)
@pytest.mark.parametrize(
    ("double", "method"),
    [
        (True, "auto"),
        (False, "auto"),
        pytest.param(True, "statevector", marks=pytest.mark.slow),  # equals the others elsewhere
        pytest.param(False, "statevector", marks=pytest.mark.slow),
    ],
)
def test_published_model_functions_are_reproduced(n_qubits, encoding, method, double):
    with jax.enable_x64(double):
        model, v, expected, jacobian = published(n_qubits, encoding, method)
        zero = jnp.zeros(n_qubits, v.dtype)
        tolerance = 1e-10 if double else 1e-5  # the issue's own bounds
        values = jax.jit(jax.vmap(lambda v: model(zero, v)))(v)
        np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance)
        computed = jax.jit(lambda v: jacobian_in_state_space(model, v))(v[0])
        np.testing.assert_allclose(computed, jacobian[0], rtol=0, atol=tolerance)


@given(seed=st.integers(0, 10**6), n_qubits=st.integers(1, 4), max_wires=st.integers(1, 4))
@settings(max_examples=8)
def test_random_circuits_equal_dense_matrices(seed, n_qubits, max_wires):
    rng = np.random.default_rng(seed)
    circuit = random_circuit(rng, n_qubits, 12)
    theta = rng.normal(size=circuit.n_parameters)
    expected = oracle.circuit_unitary(circuit, theta)
    with jax.enable_x64(True):
        columns = jax.jit(lambda t: unitary_columns(circuit, t, 2**n_qubits, max_wires=max_wires))(
            jnp.asarray(theta)
        )
    np.testing.assert_allclose(columns, expected, atol=1e-12)


def test_fusing_keeps_the_order_of_operations_that_share_wires():
    circuit = random_circuit(np.random.default_rng(3), 5, 60)
    for max_wires in (1, 2, 3, 5):
        blocks = fuse(circuit, max_wires)
        assert all(len(block.wires) <= max(2, max_wires) for block in blocks)
        sources = [i for block in blocks for factor in block.factors for i in factor.source]
        assert sorted(sources) == list(range(circuit.n_parameters))
    assert len(fuse(circuit, 5)) == 1


@pytest.mark.parametrize(
    "strings", [("ZI", "IZ", "ZZ"), ("XI", "IY", "ZZ", "XY", "YX")], ids=["diagonal", "general"]
)
def test_quadratic_and_statevector_paths_agree_with_the_oracle(x64, strings):
    rng = np.random.default_rng(0)
    circuit = strongly_entangling(2, 2)
    theta = rng.normal(size=circuit.n_parameters)
    encoding = AmplitudeEncoding(2, 3)
    observables = MeasurementEnsemble(2, strings)
    x, m = rng.normal(size=3), rng.uniform(-1, 1, size=len(strings))
    reinjection = rng.normal(size=(3, len(strings)))
    v = np.append(x + reinjection @ m, 0)
    state = oracle.circuit_unitary(circuit, theta) @ (v / np.linalg.norm(v))
    expected = oracle.expectation_values(strings, state)
    for method in ("statevector", "quadratic"):
        model = QuantumModel(
            theta,
            circuit,
            encoding=encoding,
            observables=observables,
            reinjection=reinjection,
            method=method,
        )
        np.testing.assert_allclose(model(jnp.asarray(m), jnp.asarray(x)), expected, atol=1e-12)


@pytest.mark.slow
def test_both_quadratic_paths_and_their_derivatives_equal_the_statevector(x64):
    rng = np.random.default_rng(1)
    circuit = hardware_efficient(6, 1)
    theta = rng.normal(size=circuit.n_parameters)
    x, m = jnp.asarray(rng.normal(size=50)), jnp.asarray(rng.uniform(-1, 1, size=6))
    results, paths = [], []
    for method, d in (("statevector", 50), ("quadratic", 50)):
        model = QuantumModel(
            theta,
            circuit,
            encoding=AmplitudeEncoding(6, d),
            observables=z_strings(6, 1),
            method=method,
        )
        paths.append(evaluation_path(model))

        def value(theta, m, model=model):
            return with_theta(model, theta)(m, x)

        results.append(
            (value(model.theta, m), *jax.jit(jax.jacrev(value, argnums=(0, 1)))(model.theta, m))
        )
        if method == "quadratic":  # the other quadratic path, whatever the cost model prefers
            for prepare in (prepare_columns, prepare_forms):
                form = jax.jit(partial(prepare, model.measured))(model.theta, model.reinjection)
                value = jax.jit(lambda form: form.bind(x)(m))(form)
                np.testing.assert_allclose(value, results[0][0], atol=1e-12)
    assert paths[0] == "statevector" and paths[1] != "statevector"
    for a, b in zip(results[0], results[1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11)


@pytest.mark.parametrize(("n_qubits", "encoding"), PUBLISHED[:2])
def test_the_three_stages_give_the_number_of_the_plain_path(x64, n_qubits, encoding):
    model, v, *_ = published(n_qubits, encoding)
    plain = published(n_qubits, encoding, "statevector")[0]
    m = jnp.linspace(-0.9, 0.8, n_qubits)
    prepared = eqx.filter_jit(lambda model: model.prepare())(model)
    bound = eqx.filter_jit(lambda prepared, x: prepared.bind(x))(prepared, v[0])
    staged = eqx.filter_jit(lambda bound, m: bound(m))(bound, m)
    np.testing.assert_allclose(staged, plain(m, v[0]), atol=1e-12, rtol=0)


def test_data_reuploading_feeds_features_between_layers(x64):
    rng = np.random.default_rng(2)
    encoding = AngleEncoding.from_rotations(2, [("RY", 0, 0), ("RX", 1, 1)])
    layer = hardware_efficient(2, 1)
    circuit = reuploading(encoding, [layer, layer])
    theta, x, m = rng.normal(size=circuit.n_parameters), rng.normal(size=2), rng.normal(size=2)
    observables = xyz_of_every_wire(2)
    reinjection = rng.normal(size=(2, 6))
    m = rng.uniform(-1, 1, 6)
    v = x + reinjection @ m
    first = Circuit(2, encoding.operations)
    state = oracle.circuit_unitary(first, (), v)[:, 0]
    state = oracle.circuit_unitary(circuit, theta, v) @ state
    model = QuantumModel(
        theta, circuit, encoding=encoding, observables=observables, reinjection=reinjection
    )
    expected = oracle.expectation_values(observables.strings, state)
    np.testing.assert_allclose(model(jnp.asarray(m), jnp.asarray(x)), expected, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["quadratic", "statevector"])
def test_a_zero_input_to_amplitude_encoding_is_defined_and_reported(method):
    model = paper_model(key=jax.random.key(0), method=method)
    zero_m, zero_x = jnp.zeros(4), jnp.zeros(16)
    np.testing.assert_array_equal(model(zero_m, zero_x), 0)
    assert not model.is_defined(zero_m, zero_x)
    assert model.is_defined(zero_m, zero_x.at[3].set(1e-3))
    gradients = jax.jit(jax.jacrev(lambda t, m: with_theta(model, t)(m, zero_x), (0, 1)))
    for gradient in gradients(model.theta, zero_m):
        assert np.all(np.isfinite(gradient))


@pytest.mark.slow
def test_angles_that_are_not_trainable_get_zero_gradient():
    model = paper_model(key=jax.random.key(0), trainable="published")
    x = jax.random.normal(jax.random.key(1), (16,))
    loss = jax.jit(jax.grad(lambda t: jnp.sum(with_theta(model, t)(jnp.zeros(4), x) ** 2)))
    gradient = loss(model.theta)
    frozen = ~np.array(model.circuit.trainable)
    assert frozen.sum() == 4
    np.testing.assert_array_equal(gradient[frozen], 0)
    assert np.count_nonzero(gradient[~frozen]) > 20


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_expectation_values_stay_in_their_range(seed):
    key = jax.random.key(seed)
    model = paper_model(key=key)
    m = jax.random.uniform(key, (4,), minval=-1)
    values = _evaluate(model, m, 10 * jax.random.normal(key, (16,)))
    assert np.all(np.abs(values) <= 1 + 1e-6)


_evaluate = eqx.filter_jit(lambda model, m, x: model(m, x))


def test_states_stay_normalised(x64):
    circuit = strongly_entangling(3, 2)
    theta = jax.random.normal(jax.random.key(0), (circuit.n_parameters,))
    state = jax.jit(partial(run, circuit))(theta, jnp.eye(8, dtype=complex)[5])
    np.testing.assert_allclose(jnp.linalg.norm(state), 1, atol=1e-14)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"theta": np.zeros(3)}, r"theta has shape \(3,\).*39 parameters"),
        ({"reinjection": np.zeros((4, 4))}, r"reinjection has shape \(4, 4\).*\(16, 4\)"),
        ({"observables": z_strings(3, 1)}, r"observables acts on 3 qubits"),
        ({"method": "magic"}, r"method='magic' is not known: choose one of auto"),
    ],
)
def test_a_wrong_model_is_refused_with_what_to_do(changes, message):
    model = paper_model(key=jax.random.key(0))
    arguments = {"theta": model.theta, "observables": model.observables, **changes}
    theta = arguments.pop("theta")
    with pytest.raises(UserError, match=message):
        QuantumModel(theta, model.circuit, encoding=model.encoding, **arguments)


@pytest.mark.slow
def test_light_cones_equal_the_statevector_for_any_product_encoding(x64):
    rng = np.random.default_rng(4)
    one_axis = [("RY", 0, 0), ("RX", 1, 1), ("RZ", 2, 2), ("RX", 3, 3), ("RX", 3, 0)]
    three_axes = [("RX", 0, 0), ("RZ", 0, 1), ("RY", 2, 2), ("RZ", 2, 2), ("RY", 2, 3)]
    for rotations, observables in (
        (one_axis, z_strings(5, 2)),
        (three_axes, xyz_of_every_wire(5)),
    ):
        encoding = rescaled(rng, AngleEncoding.from_rotations(5, rotations))
        circuit = random_circuit(rng, 5, 14)
        theta, x = rng.normal(size=circuit.n_parameters), jnp.asarray(rng.normal(size=4))
        q = observables.n_observables
        m, reinjection = jnp.asarray(rng.uniform(-1, 1, q)), rng.normal(size=(4, q)) / 3
        results = []
        for method in ("statevector", "lightcone"):
            model = QuantumModel(
                theta,
                circuit,
                encoding=encoding,
                observables=observables,
                reinjection=reinjection,
                method=method,
            )

            def value(theta, m, model=model, x=x):
                return with_theta(model, theta)(m, x)

            derivatives = jax.jit(jax.jacrev(value, argnums=(0, 1)))(model.theta, m)
            results.append((value(model.theta, m), *derivatives))
        for a, b in zip(*results, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_the_light_cones_of_a_shallow_circuit_do_not_grow_with_the_register():
    encoding = AngleEncoding.from_rotations(40, [("RY", wire, wire) for wire in range(40)])
    measured = MeasuredCircuit(hardware_efficient(40, 1), encoding, z_of_every_wire(40))
    groups = cone_groups(measured)
    assert max(len(cone.wires) for group in groups for cone in group.cones) == 4
    assert len(groups) <= 6  # the two edges and the two parities: compiled once each
    assert lightcone_cost(measured) <= 40 * 3**4


def test_signs_of_two_halves_are_those_of_the_whole(monkeypatch, x64):
    ensemble = z_strings(6, 3)
    state = jax.random.normal(jax.random.key(0), (64, 3, 2)) @ jnp.array([1, 1j])
    whole = expectation_values(ensemble, state)
    monkeypatch.setattr(statevector, "_LARGEST_SIGN_TABLE", 0)
    np.testing.assert_allclose(expectation_values(ensemble, state), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("fed", [False, True])
def test_backwards_through_the_circuit_gives_the_derivatives_of_stored_states(
    monkeypatch, x64, fed
):
    # Of a batch, as the layer takes them: gradient by angles and features, and the penalty's, whose
    # second derivative differentiates the rule itself.
    n = 3
    encoding = AngleEncoding.from_rotations(n, [("RY", w, w) for w in range(n)])
    layer = hardware_efficient(n, 1)
    circuit = reuploading(encoding, [layer, layer]) if fed else layer
    theta = jnp.asarray(np.random.default_rng(0).normal(size=circuit.n_parameters))
    model = QuantumModel(
        theta,
        circuit,
        encoding=encoding,
        observables=z_of_every_wire(n),
        method="statevector",
    )
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, n)))
    m = jnp.asarray(np.random.default_rng(2).uniform(-1, 1, (3, n)))

    def loss(theta, x, m):
        form = with_theta(model, theta).prepare()

        def one(x, m):
            f = form.bind(x)
            return jnp.sum(f(m) ** 3) + jnp.sum(f.jacobian(m) ** 2)

        return jnp.sum(jax.vmap(one)(x, m))

    def derivatives():
        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(theta, x, m)

    stored = derivatives()
    monkeypatch.setattr(statevector, "_REVERSIBLE_SIZE", 1)
    assert statevector.is_large(2**n)
    backwards = derivatives()
    for a, b in zip(jax.tree.leaves(backwards), jax.tree.leaves(stored), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_memory_of_a_gradient_does_not_grow_with_the_depth_of_a_large_register():
    n = 18

    def states(layers):
        circuit = hardware_efficient(n, layers)
        model = QuantumModel(
            np.full(circuit.n_parameters, 0.1),
            circuit,
            encoding=AngleEncoding.from_rotations(n, [("RY", w, w) for w in range(n)]),
            observables=z_of_every_wire(n),
            method="statevector",
        )

        def value(theta):
            f = with_theta(model, theta).prepare().bind(jnp.full(n, 0.3))
            return jnp.sum(f(jnp.zeros(n)) ** 2)

        program = jax.jit(jax.grad(value)).lower(model.theta).compile()
        return program.memory_analysis().temp_size_in_bytes / 2 ** (n + 3)

    # Five more layers are some 23 blocks; what little is more are the gates' own matrices.
    assert states(6) < states(1) + 2
