"""Studies of one circuit: depth, and ways to differentiate an equilibrium."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qdeq.equilibrium import AbstractAdjoint, Equilibrium, Newton
from qdeq.studies.depth import DEPTHS, DepthStudy
from qdeq.studies.implicit_methods.rows import (
    METHODS,
    BroydenBackward,
    Phantom,
    executions,
    train_row,
    with_method,
)
from qdeq.studies.implicit_methods.study import LABELS, ImplicitMethodsStudy
from qdeq.studies.results import Results


def test_depth_has_ten_numbers_of_applications_and_their_limit():
    every = DepthStudy(seeds=(0, 1)).rows()
    rows = [row for row in every if row.shown]
    assert [row.name for row in every if not row.shown] == ["cost", "cost"]
    amplitude = [row for row in rows if row.group == "amplitude"]
    assert [row.name for row in amplitude] == ["implicit", *(f"direct-{n}" for n in DEPTHS)]
    assert [row.training.layers for row in amplitude[1:]] == list(range(1, 11))
    assert len({row.key for row in rows}) == len(rows) == 22


def test_every_method_has_a_row_per_setting():
    rows = ImplicitMethodsStudy(seeds=(0,)).rows()
    assert set(LABELS) == set(METHODS)
    assert len({row.key for row in rows}) == len(rows) == 3 * (len(METHODS) + 4)
    assert {row.training.jacobian_weight for row in rows if row.group == "free"} == {0.0}


@pytest.mark.parametrize(
    ("adjoint", "expected"),
    [
        # w (I + D) of J = diag(j), D = w j + 1 - w.
        (Phantom(terms=2, weight=0.5), lambda j: 0.5 * (1 + 0.5 * j + 0.5)),
        (BroydenBackward(rtol=1e-6), lambda j: 1 / (1 - j)),
    ],
)
def test_an_approximation_is_the_one_it_is_named_after(adjoint: AbstractAdjoint, expected):
    slopes = jnp.array([0.3, -0.8])

    @jax.jit
    def sensitivity(b):
        layer = Equilibrium(Newton(1e-6, 1e-6), adjoint)
        return layer(lambda z: slopes * z + b, jnp.zeros(2)).value.sum()

    found = jax.grad(sensitivity)(jnp.array([0.5, 1.0]))
    # Two numbers, float32.
    np.testing.assert_allclose(found, expected(slopes), rtol=1e-5)


def test_unrolled_gradients_cost_a_gradient_per_application():
    (row,) = (r for r in ImplicitMethodsStudy(seeds=(0,)).rows() if r.key == "angle-exact")
    cost = {name: executions(with_method(row.training, name)) for name in METHODS}
    assert cost["jacobian-free"] == cost["shine"] < cost["exact"] == cost["neumann-5"]
    assert 4 * cost["exact"] < cost["unrolled-5"] < cost["unrolled-10"] / 1.9


@pytest.mark.slow
def test_a_method_is_trained_and_compared_with_the_exact_gradient(tmp_path):
    study = ImplicitMethodsStudy(data="digits-4", epochs=2, seeds=(0, 1))
    rows = {row.key: row for row in study.rows()}
    computed, points = {}, {}
    for key in ("amplitude-exact", "amplitude-jacobian-free"):
        computed[key] = train_row(rows[key], tmp_path / key, lambda _: None)
        points[key] = {"": computed[key]["seeds"]}
    exact, free = (points[key][""] for key in points)
    assert min(one["cosine_least"] for one in exact) > 0.9999
    assert 0.5 < max(one["cosine_first"] for one in free) < 0.9999
    shown = tuple(rows[key] for key in computed)
    results = Results(study, shown, computed, points)
    assert "Jacobian-free" in study.claims(results)[1]
    assert list(study.pictures(results, tmp_path)) == ["methods"]
