"""The equilibrium as a PyTorch module, against torch's own gradient check and JAX's values."""

import copy
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qdeq
from qdeq.equilibrium import Equilibrium

torch = pytest.importorskip("torch")

from qdeq.interop.torch import EquilibriumLayer  # noqa: E402

TIGHT = {"solver": qdeq.Newton(1e-12, 1e-12), "max_steps": 60}


@pytest.fixture(scope="module")
def model():
    return qdeq.paper_model(key=jax.random.key(0))


@pytest.fixture(scope="module")
def layer(model):
    return EquilibriumLayer(model, **TIGHT)


def _x(n, dtype=torch.float32):
    return torch.rand(n, 16, dtype=dtype, generator=torch.Generator().manual_seed(0))


def test_values_are_those_of_jax(model, layer):
    x = _x(3)
    expected = jax.vmap(qdeq.QuantumEquilibrium(model, **TIGHT))(jnp.asarray(x.numpy()))
    with torch.no_grad():
        found = layer(x)
    # The same program but for its fusions, float32.
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert layer.stats.converged.shape == (3,) and layer.stats.steps.max() > 1


def test_angles_are_parameters_and_what_is_fixed_a_buffer(layer):
    assert [name for name, _ in layer.named_parameters()] == ["theta"]
    assert [name for name, _ in layer.named_buffers()] == ["state"]
    assert repr(layer) == "EquilibriumLayer(theta)"


@pytest.mark.slow
def test_torch_finds_the_gradients_right_in_float64(layer):
    double = copy.deepcopy(layer).double()
    x = _x(2, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(double, (x,), eps=1e-6, atol=1e-6)

    def of_angles(theta):
        return torch.func.functional_call(double, {"theta": theta}, (x.detach(),))

    assert torch.autograd.gradcheck(of_angles, (double.theta,), eps=1e-6, atol=1e-6)
    assert double(x).dtype == torch.float64 and layer.theta.dtype == torch.float32


@pytest.mark.slow
def test_a_training_loop_lowers_the_loss_and_moves_what_is_learned_alone(model):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(3, 16), EquilibriumLayer(model), torch.nn.Linear(4, 2)
    )
    x = torch.randn(64, 3)
    y = (x[:, 0] > 0).long()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.03)
    fixed = network[1].state.clone()
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert torch.equal(network[1].state, fixed)
    assert not np.allclose(network[1].theta.detach(), model.theta)
    trained = network[1].equilibrium()
    np.testing.assert_array_equal(trained.model.theta, network[1].theta.detach())


def test_state_copies_and_pickles_keep_the_parameters(layer):
    with torch.no_grad():
        expected = layer(_x(3))
        other = EquilibriumLayer(qdeq.paper_model(key=jax.random.key(1)), **TIGHT)
        other.load_state_dict(layer.state_dict())
        for copied in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert torch.equal(copied(_x(3)), expected)


@pytest.mark.slow
def test_a_tensor_that_is_changed_afterwards_changes_no_gradient(layer):
    x = _x(3).requires_grad_()
    expected = torch.autograd.grad(layer(x).sum(), x)[0]
    y = _x(3).requires_grad_()
    found = layer(y)
    with torch.no_grad():
        y.mul_(7)
    # torch cannot know what JAX has read: the copy that it reads is what the gradient is of.
    np.testing.assert_array_equal(torch.autograd.grad(found.sum(), y)[0], expected)


def test_leading_axes_are_kept_and_no_sample_is_no_answer(layer):
    x = _x(6)
    with torch.no_grad():
        whole = layer(x)
        np.testing.assert_allclose(layer(x.reshape(2, 3, 16)), whole.reshape(2, 3, 4), atol=1e-6)
        np.testing.assert_allclose(layer(x[0]), whole[0], atol=1e-6)
    empty = layer(x[:0])
    assert empty.shape == (0, 4)
    empty.sum().backward()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 5), r"shape \(3, 5\): give \(..., 16\)"),
        (torch.zeros(3, 16, dtype=torch.float64), "theta torch.float32"),
        (torch.zeros(3, 16, dtype=torch.int64), "dtype torch.int64"),
        (np.zeros((3, 16)), "give a torch.Tensor"),
        (torch.zeros(3, 16).to_sparse(), r"layout torch.sparse_coo: give x.to_dense\(\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_one_line(layer, x, message):
    with pytest.raises(qdeq.UserError, match=message):
        layer(x)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((7,), {}, "7 has no equilibrium"),
        ((jnp.tanh,), {}, "shape: give"),
        ((jnp.tanh,), {"shape": 0}, "shape=0: give a whole number above 0"),
        ((jnp.tanh,), {"shape": True}, "shape=True: give a whole number above 0"),
        (
            (torch.nn.Linear(2, 2),),
            {"shape": 2},
            "^Linear, a module of PyTorch, has no equilibrium",
        ),
        (
            (jnp.tanh,),
            {"shape": 2, "parameters": torch.ones(2, dtype=torch.bfloat16)},
            "parameters holds .* which JAX cannot take .*: give float32 or float64",
        ),
        ((jnp.tanh,), {"shape": 2, "solvr": 1}, "solvr"),
        (
            (
                qdeq.Network(
                    lambda v, x: jnp.tanh(v),
                    qdeq.EdgeInjection([[1.0]], [[0.5]]),
                    qdeq.Chain(2),
                    n_outputs=3,
                    key=jax.random.key(0),
                ),
            ),
            {},
            r"Network\(n_outputs=3\): .* a torch.nn.Linear behind",
        ),
        ((jnp.tanh,), {"shape": 2, "layer": Equilibrium(), "max_steps": 2}, "max_steps beside"),
    ],
)
def test_what_has_no_equilibrium_is_refused_in_one_line(arguments, options, message):
    with pytest.raises(qdeq.UserError, match=message):
        EquilibriumLayer(*arguments, **options)


def test_a_model_has_its_own_shape_and_an_equilibrium_its_own_options(model):
    with pytest.raises(qdeq.UserError, match="shape and parameters beside a QuantumModel"):
        EquilibriumLayer(model, shape=4)
    with pytest.raises(qdeq.UserError, match="max_steps beside a QuantumEquilibrium"):
        EquilibriumLayer(qdeq.QuantumEquilibrium(model), max_steps=4)


def test_any_jax_function_is_a_layer_with_its_parameters():
    weights = {"w": torch.tensor([[0.1, 0.4], [-0.3, 0.2]]), "b": np.float32([0.5, -0.5])}
    layer = EquilibriumLayer(
        lambda z, x, p: jnp.tanh(p["w"] @ z + p["b"] + x), shape=2, parameters=weights, **TIGHT
    ).double()
    assert sorted(name for name, _ in layer.named_parameters()) == ["b", "w"]
    x = torch.tensor([[0.3, -1.0], [2.0, 0.0]], dtype=torch.float64)
    z = layer(x)

    # It is a fixed point, and its gradient that of torch through many applications.
    def applied():
        state = torch.zeros(2, 2, dtype=torch.float64)
        for _ in range(100):
            state = torch.tanh(state @ layer.w.T + layer.b + x)
        return state

    np.testing.assert_allclose(z.detach(), applied().detach(), atol=1e-10)
    found = torch.autograd.grad(z.square().sum(), [layer.w, layer.b])
    expected = torch.autograd.grad(applied().square().sum(), [layer.w, layer.b])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_a_parameter_keeps_the_digits_of_its_tensor():
    third = torch.tensor([1 / 3], dtype=torch.float64)
    layer = EquilibriumLayer(lambda z, x, p: p["w"] * z + x, shape=1, parameters={"w": third})
    assert layer.w.dtype == torch.float64 and layer.w.item() == third.item()
    assert layer(torch.ones(1, 1, dtype=torch.float64)).item() == pytest.approx(1.5, abs=1e-4)


def test_a_parameter_may_be_called_as_a_part_of_the_layer_is():
    weights = {"stats": np.float32([0.5]), "training": np.float32([0.1]), "0": np.float32([0.2])}
    layer = EquilibriumLayer(
        lambda z, x, p: p["stats"] * jnp.tanh(z) + p["training"] * x + p["0"],
        shape=1,
        parameters=weights,
    )
    layer(torch.ones(2, 1)).sum().backward()
    assert len(list(layer.parameters())) == 3 and layer.stats.converged.all()
    assert all(p.grad.abs() > 0 for p in layer.parameters())


@pytest.mark.parametrize("value", [1, True, np.arange(2), torch.ones(2, dtype=torch.int64)])
def test_a_parameter_that_cannot_be_learned_is_refused(value):
    with pytest.raises(qdeq.UserError, match="is no floating-point number and cannot be learned"):
        EquilibriumLayer(lambda z, x, p: p["w"] * z, shape=2, parameters={"w": value})


def test_an_equinox_module_brings_its_own_parameters():
    class Cell(eqx.Module):
        linear: eqx.nn.Linear

        def __call__(self, z, x):
            return jnp.tanh(0.3 * self.linear(z) + x)

    layer = EquilibriumLayer(Cell(eqx.nn.Linear(2, 2, key=jax.random.key(0))), shape=2)
    layer(torch.ones(3, 2)).sum().backward()
    assert {name: tuple(p.grad.shape) for name, p in layer.named_parameters()} == {
        "weight": (2, 2),
        "bias": (2,),
    }


@pytest.mark.slow
def test_a_network_of_cells_is_a_layer():
    circuit = qdeq.hardware_efficient(2, 2)
    cell = qdeq.QuantumModel(
        jnp.linspace(-1, 1, 8),
        circuit,
        encoding=qdeq.AngleEncoding.from_rotations(2, [("RY", 0, 0), ("RY", 1, 1)]),
        observables=qdeq.z_strings(2, 2),
    )
    injection = qdeq.EdgeInjection.random(qdeq.Chain(5), 2, 1, 3, key=jax.random.key(0))
    network = qdeq.Network(cell, injection, qdeq.Chain(5))
    layer = EquilibriumLayer(network)
    x = torch.ones(4, 5, 1)
    m = layer(x)
    np.testing.assert_allclose(m[0].detach(), network.solve(jnp.ones((5, 1))).value, atol=1e-6)
    m.sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in layer.parameters())
    with pytest.raises(qdeq.UserError, match=r"give \(..., 5, 1\)"):
        layer(torch.ones(4, 6, 1))


@pytest.mark.slow
def test_a_compiled_module_goes_around_the_layer(model):
    layer = EquilibriumLayer(model)
    whole = torch.nn.Sequential(layer, torch.nn.Linear(model.n_observables, 2))
    x = torch.ones(3, model.n_features)
    found = torch.compile(whole, backend="eager")(x)
    assert torch.equal(found, whole(x))
    found.sum().backward()
    assert layer.theta.grad.isfinite().all()


@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.jacrev])
def test_transforms_of_functions_are_refused_in_one_line(layer, transform):
    x = torch.ones(2, layer._features[-1])
    with pytest.raises(qdeq.UserError, match=r"torch\.func's transforms") as error:
        transform(layer)(x)
    assert "\n" not in str(error.value)


def test_a_parameter_of_another_shape_is_refused_and_not_repeated(model):
    layer = EquilibriumLayer(model)
    layer.theta = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(qdeq.UserError, match=r"theta has the shape \(1,\): it has to be \(39,\)"):
        layer(_x(2))


# Of torch's own, when it loads its rules for forward derivatives.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_other_ways_of_differentiating_are_refused_in_one_line(layer):
    x = _x(2).requires_grad_()
    with pytest.raises(qdeq.UserError, match="several cotangents at once"):
        torch.autograd.grad(layer(x), x, torch.ones(3, 2, 4), is_grads_batched=True)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x.detach(), x.detach())
        with pytest.raises(qdeq.UserError, match="forward-mode derivatives do not reach"):
            layer(dual)


def test_second_derivatives_are_refused_and_not_taken_for_zero():
    layer = EquilibriumLayer(qdeq.paper_model(key=jax.random.key(0))).double()
    x = torch.rand(2, 16, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    (once,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (plain,) = torch.autograd.grad(layer(x).sum(), x)
    torch.testing.assert_close(once.detach(), plain)
    with pytest.raises(qdeq.UserError, match="a second derivative through EquilibriumLayer"):
        (once**2).sum().backward()
    with pytest.raises(qdeq.UserError, match="a second derivative through EquilibriumLayer"):
        torch.autograd.functional.hessian(lambda x: layer(x).sum(), x.detach())
