"""The magnet study: ground states against dense matrices, its measures, its rows and sentences."""

import importlib.util
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qdeq.equilibrium.networks import Chain
from qdeq.studies.magnet import data as magnet_data
from qdeq.studies.magnet.baselines import ridge_row, windows
from qdeq.studies.magnet.claims import ratio
from qdeq.studies.magnet.data import (
    bonds_of,
    chain_bonds,
    grid_bonds,
    hamiltonian,
    magnetisations,
    magnetisations_by_dmrg,
    random_fields,
    samples,
)
from qdeq.studies.magnet.figures import branch_point, field_of
from qdeq.studies.magnet.measures import normalised_error
from qdeq.studies.magnet.networks import (
    initial_network,
    mean_field,
    symmetric_answers,
    symmetries,
)
from qdeq.studies.magnet.study import TASKS, MagnetStudy
from qdeq.studies.magnet.training import train_row, training_samples
from qdeq.studies.results import Results
from qdeq.studies.study import Row

_X, _Z = np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0])


def _on(matrices, n):
    """A product of matrices, by site, with identities between."""
    product = np.eye(1)
    for site in range(n):
        product = np.kron(product, matrices.get(site, np.eye(2)))
    return product


def _dense(fields, g, bonds):
    n = len(fields)
    found = -sum(_on({i: _Z, j: _Z}, n) for i, j in bonds)
    return found - sum(g * _on({i: _X}, n) + fields[i] * _on({i: _Z}, n) for i in range(n))


@pytest.mark.parametrize("bonds", [chain_bonds(4), grid_bonds(2, 2)])
def test_the_hamiltonian_is_that_of_products_of_pauli_matrices(bonds):
    fields = np.array([0.3, -0.2, 0.05, 0.7])
    found = hamiltonian(fields, 0.8, bonds).toarray()
    # Sums of the same few numbers: rounding alone.
    np.testing.assert_allclose(found, _dense(fields, 0.8, bonds), atol=1e-14)


def test_magnetisations_are_those_of_the_dense_ground_state():
    fields = random_fields(3, (6,), seed=5)
    found = magnetisations(fields, 1.0, chain_bonds(6))
    for sample, answer in zip(fields, found, strict=True):
        vector = np.linalg.eigh(_dense(sample, 1.0, chain_bonds(6)))[1][:, 0]
        expected = [vector @ _on({i: _Z}, 6) @ vector for i in range(6)]
        # Lanczos' tolerance is 1e-10 of the energy; a state's error is about its root.
        np.testing.assert_allclose(answer, expected, atol=1e-6)


def test_turning_all_fields_turns_all_spins():
    fields = random_fields(2, (5,), seed=6)
    found = magnetisations(np.concatenate([fields, -fields]), 1.0, chain_bonds(5))
    np.testing.assert_allclose(found[2:], -found[:2], atol=1e-6)
    assert np.all(np.sign(magnetisations(np.full((1, 5), 0.1), 1.0, chain_bonds(5))) == 1)


@pytest.mark.slow  # half a minute: matrices of every bond, swept four times
def test_long_chains_are_solved_as_short_ones_are():
    pytest.importorskip("tenpy")
    fields = random_fields(2, (14,), seed=2)
    found = magnetisations_by_dmrg(fields, 1.0)
    # Both are stopped on their energy, to 1e-7 of it or less.
    np.testing.assert_allclose(found, magnetisations(fields, 1.0, chain_bonds(14)), atol=1e-4)


def test_samples_of_a_seed_are_the_same_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("QDEQ_CACHE", str(tmp_path / "cache"))
    first = samples(3, (4,), 1.0, seed=0)
    monkeypatch.setattr(magnet_data, "magnetisations", None)  # not computed again
    again = samples(3, (4,), 1.0, seed=0)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert np.all(random_fields(3, (4,), seed=1) != first[0])


def test_whoever_says_the_mean_has_error_one():
    targets = np.random.default_rng(0).normal(0.3, 2.0, (7, 5))
    assert normalised_error(np.full((7, 5), targets.mean()), targets) == pytest.approx(1)
    assert normalised_error(targets, targets) == 0
    doubled = normalised_error(3 * targets, 3 * targets + 1.2)
    assert doubled == pytest.approx(1.44 / (9 * targets.var()))  # no unit


def test_the_mean_field_is_self_consistent():
    g, fields = 3.0, 0.3 * np.random.default_rng(1).normal(size=6)
    network = mean_field((6,), g)
    # In this field repeated application shrinks what is missing by 2 / 3 each time at least.
    m = network.apply(jnp.asarray(fields / magnet_data.DEVIATION)[:, None], 100)
    m = np.asarray(network.outputs(m))[:, 0]
    felt = fields + np.concatenate([[0], m[:-1]]) + np.concatenate([m[1:], [0]])
    np.testing.assert_allclose(m, felt / np.hypot(felt, g), atol=1e-6)


@pytest.mark.parametrize("g", [0.3, 1.0, 1.9])
def test_mean_field_branches_end_where_their_field_turns(g):
    field, m = branch_point(g)
    felt = field + 2 * m
    assert m == pytest.approx(felt / math.hypot(felt, g))  # an equilibrium
    near = field_of(np.array([m - 1e-4, m + 1e-4]), g)
    assert np.all(near > field)  # the least field of the branch, so that it ends there
    assert field < 0 < m


@pytest.mark.slow
def test_circuits_and_tanh_units_have_about_as_many_parameters():
    cells = ("tanh", "circuit", "wide", "apart")
    networks = [initial_network(cell, (3,), 1.0, jax.random.key(0)) for cell in cells]
    tanh, *circuits = (network.n_parameters for network in networks)
    assert all(0.85 * tanh <= circuit <= tanh for circuit in circuits)
    assert networks[1].wiring == Chain(3, "both")


@pytest.mark.slow  # compiles a circuit
def test_qubits_apart_are_sines():
    network = initial_network("apart", (3,), 1.0, jax.random.key(0))
    v = jnp.linspace(-2, 2, 8)
    cell = network.cell.prepare()
    np.testing.assert_allclose(cell.bind(v)(jnp.zeros(8)), jnp.sin(v), atol=1e-6)


def test_a_window_has_the_fields_around_its_site():
    fields = np.arange(1.0, 6.0)[None]
    assert windows(fields, 2).shape == (1, 5, 5)
    assert windows(fields, 2)[0, 1].tolist() == [0, 1, 2, 3, 4]
    square = windows(np.arange(1.0, 10.0).reshape(1, 3, 3), 1)
    assert square.shape == (1, 3, 3, 9)
    assert square[0, 0, 1].tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("smaller", "larger"), [("3", "4"), ("2x2", "2x3")])
def test_ridge_is_exact_where_fields_are_weak_and_far_from_order(smaller, larger, tmp_path):
    options = {
        "g": 20.0,
        "sizes": [smaller, larger],
        "n_training": 60,
        "n_validation": 10,
        "tests": {larger: 10},
    }
    row = Row(group="magnet", name="ridge", label="", kind="", seeds=(0, 1), options=options)
    found = ridge_row(row, tmp_path, lambda _: None)["seeds"]
    # Then <Z> is linear in the fields; the least penalty is not quite 0.
    error = f"error_{larger}"
    assert found[0][error] == found[1][error] < 1e-3


def test_without_tenpy_the_rest_is_measured_and_the_row_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    options = {"g": 1.0, "sizes": ["4"], "n_training": 9, "n_validation": 5}
    options["tests"] = {"4": 5, "30": 2}
    row = Row(group="magnet", name="ridge", label="", kind="", options=options)
    found = ridge_row(row, tmp_path, lambda _: None)
    assert "error_4" in found["seeds"][0] and "error_30" not in found["seeds"][0]
    assert 'pip install "qdeq[magnet]"' in found["note"]


def test_training_samples_are_exact_ground_states_turned_or_mirrored():
    data = training_samples(12, ["2", "3", "4"], g=1.0)
    assert np.sum(data.mask, axis=1).tolist() == [2] * 4 + [3] * 4 + [4] * 4
    turned = data.turned()
    fields, targets = np.asarray(turned.fields, float), np.asarray(turned.targets)
    for x, y, there in zip(fields, targets, np.asarray(turned.mask), strict=True):
        assert np.all(x[~there] == 0) and np.all(y[~there] == 0)
        n = int(there.sum())
        exact = magnetisations(x[there][None] * magnet_data.DEVIATION, 1.0, chain_bonds(n))
        # Fields went through float32.
        np.testing.assert_allclose(y[there], exact[0], atol=1e-5)
    assert not np.array_equal(fields[:2], np.asarray(data.fields)[:2])


def test_rows_have_one_key_each_and_the_same_tests():
    rows = MagnetStudy(seeds=(0, 1)).rows()
    depths = ["direct-1", "direct-3", "direct-5", "direct-10"]
    names = ["equilibrium", *depths, "tanh", "rounds", "mean-field", "ridge"]
    by_group = {group: [row.name for row in rows if row.group == group] for group in TASKS}
    assert by_group["magnet"] == [*names, "wide", "apart", "one-size", "larger"]
    assert by_group["grid"] == names
    assert by_group["ordered"] == by_group["disordered"] == ["equilibrium", "direct-10", "tanh"]
    assert len({row.key for row in rows}) == len(rows)
    for row in rows:
        assert row.options["tests"] == TASKS[row.group].tests
        assert row.options["g"] == TASKS[row.group].g


@pytest.mark.parametrize("shape", [(5,), (2, 3), (3, 3)])
def test_symmetries_keep_who_hears_whom_and_are_undone(shape):
    sites = np.arange(math.prod(shape)).reshape(1, *shape)
    bonds = {frozenset(bond) for bond in bonds_of(shape)}
    found = []
    for there, back in symmetries(shape):
        turned = np.asarray(there(jnp.asarray(sites)))
        np.testing.assert_array_equal(back(turned), sites)
        names = turned.ravel()
        assert {frozenset((int(names[i]), int(names[j]))) for i, j in bonds_of(shape)} == bonds
        found.append(tuple(names))
    assert len(set(found)) == len(found)


@pytest.mark.slow
def test_symmetric_answers_turn_with_their_samples():
    network = initial_network("tanh", (2, 2), 0.4, jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (3, 2, 2))
    answers, converged = symmetric_answers(network, x, None)
    assert converged.all()
    for there, _ in symmetries((2, 2)):
        turned = symmetric_answers(network, -there(x), None)[0]
        # Sums of the same answers in another order, each to the solver's tolerance.
        np.testing.assert_allclose(turned, -there(answers), atol=1e-4)


def _made_up(errors):
    """Results in which every row has given errors at every size, by seed."""
    study = MagnetStudy(seeds=tuple(range(4)))
    rows = tuple(row for row in study.rows() if row.key in errors)
    points = {}
    for row in rows:
        numbers = [
            {f"error_{size}": error for size in TASKS["magnet"].tests} for error in errors[row.key]
        ]
        for seed, found in enumerate(numbers):
            found["seed"] = seed
            if row.name == "equilibrium":
                found |= {"spread": 1e-5, "converged_fraction": 1.0}
                found |= {"starts_converged": 1.0, "growth": 0.9}
        points[row.key] = {"": numbers}
    computed = {row.key: {"status": "done", "reason": None} for row in rows}
    return Results(study, rows, computed, points)


def test_a_ratio_is_a_geometric_mean_over_pairs():
    results = _made_up(
        {"magnet-equilibrium": [1.0, 2.0, 4.0, 8.0], "magnet-direct-1": [2.0, 4.0, 8.0, 16.0]}
    )
    found = ratio(results, "magnet-equilibrium", "magnet-direct-1", "error_14")
    assert (found.difference, found.low, found.high, found.n) == pytest.approx((0.5, 0.5, 0.5, 4))
    single = _made_up({"magnet-equilibrium": [1.0], "magnet-direct-1": [3.0]})
    found = ratio(single, "magnet-equilibrium", "magnet-direct-1", "error_14")
    assert math.isnan(found.low) and found.difference == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("ours", "deep", "words"),
    [
        ([0.009, 0.008, 0.008, 0.009], [0.03, 0.04, 0.03, 0.04], "were asked for (met)"),
        ([0.009, 0.008, 0.008, 0.009], [0.01, 0.012, 0.01, 0.011], "were asked for (missed)"),
        ([0.001, 0.5, 0.001, 0.5], [0.5, 0.5, 0.5, 0.5], "were asked for (missed)"),
    ],
)
def test_sentences_say_what_the_numbers_do(ours, deep, words):
    errors = {"magnet-equilibrium": ours, "magnet-direct-1": [0.9] * 4, "magnet-direct-10": deep}
    results = _made_up(errors)
    found = results.study.claims(results)
    (sentence,) = (s for s in found if "64 spins" in s and "applications" in s)
    assert words in sentence and "direct(10)" in sentence
    assert ("(met, by 4 seeds" in found[0]) == (max(ours) <= 0.01)
    assert "100.0% of the test equilibria converged" in found[-1]
    assert results.study.grids(results)[1].body[0][1] == "direct(1)"


@pytest.mark.slow  # compiles a training program each
@pytest.mark.parametrize(
    ("cell", "layers", "sizes", "tests"),
    [
        ("circuit", None, ["3", "4", "5"], {"5": 50, "7": 20}),
        ("circuit", 1, ["3", "4", "5"], {"5": 50, "7": 20}),
        ("tanh", None, ["2x2", "2x3"], {"2x3": 50, "3x3": 20}),
    ],
)
def test_a_row_is_trained_and_measured(cell, layers, sizes, tests, tmp_path):
    amounts = {"steps": 150, "batch": 16, "n_training": 300, "n_validation": 50}
    options = {
        **amounts,
        "sizes": sizes,
        "cell": cell,
        "layers": layers,
        "g": 2.5 if cell == "tanh" else 1.0,
        "tests": tests,
    }
    row = Row(group="magnet", name="small", label="", kind="", seeds=(0,), options=options)
    told = []
    found = train_row(row, tmp_path, told.append)
    (numbers,) = found["seeds"]
    assert told[-1]["epoch"] == told[-1]["epochs"] == 1
    assert len(found["profile"]["answers"]) == len(found["profile"]["exact"])
    trained = next(iter(tests))
    if layers is None:
        # After so few steps a sample may be left over, turned one of its four ways.
        assert numbers["converged_fraction"] > 0.95 and numbers["spread"] < 1e-2
        assert numbers[f"error_{trained}"] < 0.3
    else:  # a site that hears nobody cannot know where its neighbours point
        assert 0.3 < numbers[f"error_{trained}"] < 1.2
