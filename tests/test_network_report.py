"""The page of a network shows what its solvers did, at every site, and needs nothing else."""

import base64
import json
import re

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from sites_page import network_on, page_of, searched

import qdeq
from qdeq.data import SeriesPreparation
from qdeq.equilibrium import Picard
from qdeq.equilibrium.networks import (
    Alone,
    Chain,
    EdgeInjection,
    Graph,
    Grid,
    NetworkEquilibrium,
    Wired,
    why_not,
)
from qdeq.equilibrium.networks.wired import Jacobian
from qdeq.errors import UserError
from qdeq.models import SampledModel
from qdeq.models.sequence_network import sequence_network
from qdeq.runs import network_search, write_network_report
from qdeq.runs.network_search import Drawn, gains_of, packed, searches, solvers_for

WIRINGS = [Alone(3), Chain(3), Chain(3, "both"), Chain(3, "both", ring=True), Grid(2, 3)]
WIRINGS += [Graph(3, [(0, 1), (0, 2)]), Graph(3, [(0, 1), (1, 0)])]


def unpacked(text):
    """As a browser reads it."""
    upper = np.frombuffer(base64.b64decode(text), "<u2").astype(np.uint32)
    return (upper << 16).view(np.float32)


@given(arrays(np.float32, st.integers(1, 20), elements=st.floats(width=32)))
def test_packed_numbers_keep_three_digits_whatever_their_size(numbers):
    found = unpacked(packed(numbers))
    ordinary = np.abs(numbers.astype(float))
    ordinary = (ordinary > 1e-37) & (ordinary < 3e38)
    # Seven bits of a fraction are kept, and the eighth rounded.
    np.testing.assert_allclose(found[ordinary], numbers[ordinary], rtol=2**-8)
    assert (np.isnan(found) == np.isnan(numbers)).all()
    assert (np.sign(found) == np.sign(numbers))[np.isinf(numbers) | ordinary].all()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_of_too_many_sites_real_ones_are_drawn_and_no_movement_is_lost(rows, columns, every):
    rng = np.random.default_rng(0)
    drawn = Drawn(rows, columns, every)
    states, moves = rng.normal(size=(2, rows * columns, 3)), rng.normal(size=(2, rows * columns))
    moves[0, 0] = np.nan
    shown, largest = drawn.chosen(states), drawn.largest(moves)
    assert shown.shape == (2, drawn.n, 3) and largest.shape == (2, drawn.n)
    lying, moving = states.reshape(2, rows, columns, 3), moves.reshape(2, rows, columns)
    for site in range(drawn.n):
        row, column = (every * k for k in divmod(site, drawn.shape[1]))
        np.testing.assert_array_equal(shown[:, site], lying[:, row, column])
        around = moving[:, row : row + every, column : column + every].reshape(2, -1)
        for sample in range(2):
            left = around[sample][~np.isnan(around[sample])]
            expected = left.max() if left.size else np.nan
            np.testing.assert_equal(largest[sample, site], expected)


@pytest.mark.parametrize("wiring", [Chain(9), Grid(5, 7)], ids=repr)
def test_a_page_that_would_be_too_large_draws_fewer_sites(wiring, monkeypatch):
    found = [searched(wiring)]
    monkeypatch.setattr(network_search, "MOST_NUMBERS", 250)
    fewer, drawn = network_search._within_a_page(found, Drawn.of(wiring))
    held = sum(
        part.size
        for path in fewer[0].paths.values()
        for part in (path.states, path.moves, fewer[0].equilibrium, fewer[0].gains)
    )
    steps = sum(len(path.residuals) for path in fewer[0].paths.values())
    assert 3 * drawn.n * (steps + 1) <= 250 and drawn.n > 1 and held > 0
    assert fewer[0].equilibrium.shape == (drawn.n, 2)


@pytest.mark.parametrize("wiring", WIRINGS, ids=repr)
def test_the_solvers_of_a_page_are_four_at_most_and_fit_the_wiring(wiring):
    names = solvers_for(wiring)
    assert len(names) <= 4  # there are as many colours
    for name in names:
        assert why_not(name, wiring) is None


def test_the_page_is_whole_and_allows_and_loads_nothing_but_itself():
    hostile = "</script><b>"
    text = page_of(Chain(5), [hostile, "another"])
    assert hostile not in text and "&lt;/script&gt;&lt;b&gt;" in text
    assert not re.search(r'(src|href)="(?!data:image/png)', text)
    assert "default-src &#x27;none&#x27;" in text or "default-src 'none'" in text
    assert text.count("<script") == 2 and " style=" not in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text).group(1))
    assert [search["label"] for search in data["searches"]] == [hostile, "another"]
    # Of every path the numbers of all steps, sites and components.
    for name, path in data["searches"][0]["paths"].items():
        steps = len(path["residuals"])
        assert len(unpacked(path["states"])) == steps * 5 * 2, name
        assert len(unpacked(path["moves"])) == steps * 5, name


def test_the_search_can_be_read_without_scripts():
    text = page_of(Chain(5, "both"))
    for words in (
        "Newton (blocks), steps",
        "7 (not converged)",
        "spread over starts",
        "1.5e+00",
        "2, the first of 9",
        "needs JavaSc",
    ):
        assert words in text


@pytest.mark.parametrize(
    "layer",
    [
        NetworkEquilibrium(rtol=1e-3, atol=1e-6),
        NetworkEquilibrium(Picard(rtol=1e-3, atol=1e-6)),  # whose own count
    ],
)
def test_the_page_says_to_what_tolerances_its_solvers_go(layer):
    text = page_of(Chain(3), layer=layer)
    assert "|F(m) − m| &lt;= 1e-06 + 0.001 |F(m)|" in text and '"tolerance":0.001' in text


@pytest.mark.parametrize(
    "change, message",
    [
        ({"network": "chain"}, "give a qdeq.Network"),
        ({"x": np.ones(4)}, "real numbers (4, 1) of one sample or (B, 4, 1)"),
        ({"x": np.ones((2, 5, 1))}, "has 4 sites"),
        ({"x": np.ones((0, 4, 1))}, "shape (0, 4, 1)"),
        ({"x": np.ones((4, 1)) * 1j}, "complex"),
        ({"x": [["a"]] * 4}, "real numbers"),
        ({"x": [[1.0], [2.0, 3.0]]}, "real numbers"),
        ({"mask": np.ones(4)}, "a bool per site"),
        ({"mask": np.ones((2, 4), bool)}, "a bool per site"),
        ({"layer": "picard"}, "layer='picard': give a NetworkEquilibrium"),
        ({"labels": ["a", "b"]}, "labels: 2 for 1 samples"),
        ({"labels": "a"}, "labels='a': give a tuple of names, one of each sample"),
        ({"labels": 1}, "labels=1: give a tuple"),
        ({"path": 1}, "path=1: give a path"),
    ],
)
def test_wrong_arguments_are_one_line(change, message, tmp_path):
    values = {"network": network_on(Chain(4)), "x": np.ones((4, 1)), "path": tmp_path / "a.html"}
    with pytest.raises(UserError) as error:
        write_network_report(**(values | change))
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "a.html").exists()


def test_cells_that_are_measured_with_shots_are_refused(tmp_path):
    circuit = qdeq.hardware_efficient(1, 1)
    encoding = qdeq.AngleEncoding.from_rotations(1, [("RY", 0, 0)])
    cell = SampledModel(
        qdeq.QuantumModel(
            jnp.zeros(circuit.n_parameters),
            circuit,
            encoding=encoding,
            observables=qdeq.z_strings(1, 1),
        )
    )
    injection = EdgeInjection([[1.0]], [[0.5]])
    with pytest.raises(UserError, match="the circuits themselves"):
        network = qdeq.Network(cell, injection, Chain(2))
        write_network_report(network, np.ones((2, 1)), tmp_path / "a.html")


def test_a_direct_estimator_has_no_search_to_show(tmp_path):
    estimator = qdeq.QDEQSequenceClassifier(mode="direct", layers=3)
    estimator.network_, estimator._applied = None, 3  # as far as it asks, it is fitted
    with pytest.raises(UserError, match="mode='direct'"):
        estimator.write_report(np.ones((2, 4)), tmp_path / "a.html")


# By two kinds of edges from one site, by one kind from two, from itself and from one not there.
MANY = Graph(4, [(0, 1), (0, 1), (3, 1), (1, 1), (2, 1), (1, 0)], [0, 1, 0, 1, 2, 2])


@pytest.mark.parametrize("wiring", [MANY, Alone(3), Chain(4, "both")], ids=repr)
def test_a_gain_is_the_norm_of_the_derivative_by_all_that_a_site_hears(wiring):
    rng, n = np.random.default_rng(0), wiring.n_sites
    slopes, messages = rng.normal(size=(n, 2, 3)), rng.normal(size=(wiring.n_kinds, 3, 2))
    jacobian = Jacobian(jnp.asarray(slopes), jnp.asarray(messages), wiring)
    present = np.arange(n) != 2
    whole = np.where(present[:, None], np.asarray(jacobian.matrix()).reshape(n, 2, n, 2), 0)
    expected = [np.linalg.norm(rows.reshape(2, -1), 2) for rows in whole]
    found = gains_of(np.asarray(jacobian.blocks()), wiring, present)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_every_path_ends_at_the_solution_of_the_layer():
    wiring, n = Grid(2, 3), 6
    injection = EdgeInjection.random(wiring, 2, 1, 2, key=jax.random.key(0), gain=0.3)
    network = Wired(lambda v, x: jnp.tanh(v), injection, wiring)
    x = np.random.default_rng(0).normal(size=(2, n, 1)).astype(np.float32)
    mask = np.ones((2, n), bool)
    mask[1, -1] = False
    layer = NetworkEquilibrium()
    found, _ = searches(network, x, mask, layer=layer, labels=["0", "1"])
    for search, features, present in zip(found, x, mask, strict=True):
        solution = layer(network, features, mask=present)
        expected = np.where(present[:, None], solution.value, np.nan)
        assert search.converged and search.steps == solution.stats.steps
        np.testing.assert_allclose(search.equilibrium, expected, rtol=1e-5, atol=1e-6)
        for name, path in search.paths.items():
            assert path.converged, name
            # Both are within the tolerances, and changes do not grow here.
            np.testing.assert_allclose(path.states[-1], expected, atol=1e-4)
            assert path.distance < 1e-4
        picard = search.paths["picard"]
        z = np.zeros((n, 2), np.float32)
        for states, moves in zip(picard.states, picard.moves, strict=True):
            np.testing.assert_allclose(states[present], z[present], atol=1e-6)
            new = np.asarray(network(jnp.asarray(z), features, present))
            moved = np.linalg.norm(new - z, axis=1)
            np.testing.assert_allclose(moves[present], moved[present], atol=1e-6)
            z = new

        def flat(z, features=features, present=present):
            return network(z.reshape(n, 2), features, present).reshape(-1)

        whole = np.asarray(jax.jacfwd(flat)(solution.value.reshape(-1))).reshape(n, 2, n, 2)
        whole = np.where(present[:, None], whole, 0)  # what is not there does not change
        gains = np.array([np.linalg.norm(rows.reshape(2, -1), 2) for rows in whole])
        np.testing.assert_allclose(search.gains[present], gains[present], rtol=1e-3)
        radius = np.abs(np.linalg.eigvals(whole.reshape(2 * n, 2 * n).astype(float))).max()
        assert search.growth == pytest.approx(radius, rel=0.1)  # which is an estimate
        assert search.spread < 1e-4


@pytest.mark.slow
def test_a_network_of_several_equilibria_is_said_to_have_them():
    # Two units that agree: by hand m = tanh(2 m) = +-0.9575 and 0, of which 0 is not stable.
    wiring = Graph(2, [(0, 1), (1, 0)])
    injection = EdgeInjection([[1.0]], [[2.0]])
    network = Wired(lambda v, x: jnp.tanh(v), injection, wiring)
    x = np.array([[[1e-3]] * 2], np.float32)
    layer = NetworkEquilibrium("picard", max_steps=100)
    (search,), _ = searches(network, x, None, layer=layer, labels=["0"])
    assert search.converged and search.equilibrium[0, 0] == pytest.approx(0.9575, abs=1e-3)
    assert 1 < search.spread < 2.01


@pytest.mark.slow
def test_a_fitted_estimator_writes_the_page_of_its_sequences(tmp_path):
    rng = np.random.default_rng(0)
    x = [rng.normal(size=length) for length in [6, 4] * 6]
    estimator = qdeq.QDEQSequenceClassifier()
    # Fitted, but for the time that it takes.
    estimator.classes_ = np.array(["down", "up"])
    estimator.preparation_ = SeriesPreparation.fit([one[:, None] for one in x], name="X")
    estimator.network_ = sequence_network(1, 2, key=jax.random.key(0), n_qubits=1)
    estimator._applied = estimator._steps = None  # an equilibrium, of sequences without names
    text = estimator.write_report(x, tmp_path / "pages" / "a.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text).group(1))
    assert len(data["searches"]) == 8 and data["numbers"] == ["X0", "Y0", "Z0"]
    said = estimator.predict(x)
    labels = [search["label"] for search in data["searches"]]
    assert labels == [f"sequence {k}: predicted {said[k]}" for k in range(8)]
    # The second sequence has four sites, and the picture six.
    end = unpacked(data["searches"][1]["equilibrium"]).reshape(6, 3)
    assert np.isnan(end[4:]).all() and np.isfinite(end[:4]).all()
