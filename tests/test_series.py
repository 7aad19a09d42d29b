"""Series: state carried over between windows, and how a series becomes windows."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import qdeq
from qdeq.data import SeriesPreparation, series_windows
from qdeq.equilibrium.networks import Chain, EdgeInjection, Graph, NetworkEquilibrium, Wired

SOLVERS = ["sweep", "newton-scan", "picard-newton"]


class Cell(eqx.Module):
    """Mixes what it hears, with a parameter."""

    mix: jax.Array

    def __call__(self, v, x):
        return jnp.tanh(self.mix @ v)


def network_of(n):
    rng = np.random.default_rng(0)
    injection = EdgeInjection.random(1, 3, 2, 2, key=jax.random.key(0), gain=0.9)
    return Wired(Cell(jnp.asarray(rng.normal(size=(2, 3)))), injection, Chain(n))


def test_a_half_that_hears_the_state_before_it_is_the_half_of_the_whole(x64):
    rng = np.random.default_rng(1)
    z, x = jnp.asarray(rng.normal(size=(2, 12, 2)))
    whole = network_of(12)
    half = Wired(whole.cell, whole.injection, Chain(7), z[4])
    np.testing.assert_allclose(half(z[5:], x[5:]), whole(z, x)[5:], atol=1e-14)
    silent = Wired(whole.cell, whole.injection, Chain(7))
    assert np.abs(silent(z[5:], x[5:])[0] - half(z[5:], x[5:])[0]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_halves_with_the_state_carried_over_are_the_whole_and_so_are_gradients(solver, x64):
    layer = NetworkEquilibrium(solver, rtol=1e-12, atol=1e-12)
    whole = network_of(12)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(12, 2)))
    first = jnp.asarray([0.3, -0.2])  # heard by the very first site

    def at_once(network, x, first):
        network = Wired(network.cell, network.injection, Chain(12), first)
        z = layer(network, x).value
        return jnp.sum(jnp.sin(z)), z

    def in_windows(network, x, before):
        states = []
        for begin, n in ((0, 5), (5, 7)):
            window = Wired(network.cell, network.injection, Chain(n), before)
            states.append(layer(window, x[begin : begin + n]).value)
            before = states[-1][-1]
        z = jnp.concatenate(states)
        return jnp.sum(jnp.sin(z)), z

    @eqx.filter_jit
    def both(network, x, first):
        def of(make):
            slopes = eqx.filter_value_and_grad(lambda a: make(*a), has_aux=True)
            return slopes((network, x, first))

        return of(at_once), of(in_windows)

    one, parts = both(whole, x, first)
    np.testing.assert_allclose(parts[0][1], one[0][1], atol=1e-10)
    for a, b in zip(jax.tree.leaves(parts[1]), jax.tree.leaves(one[1]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
    # The first state matters, and its slope is that of central differences.
    move = jnp.asarray([1e-5, -2e-5])
    up, down = (both(whole, x, first + s * move)[0][0][0] for s in (1, -1))
    assert abs(up - down) / 2 == pytest.approx(abs(float(one[1][2] @ move)), rel=1e-5)
    assert abs(one[1][2] @ move) > 1e-7


@pytest.mark.slow
def test_a_batch_of_circuits_hears_a_state_per_sample(x64):
    circuit = qdeq.hardware_efficient(2, 1)
    encoding = qdeq.AngleEncoding.from_rotations(2, [("RY", 0, 0), ("RY", 1, 1)])
    theta = np.linspace(-1, 2, circuit.n_parameters)
    cell = qdeq.QuantumModel(theta, circuit, encoding=encoding, observables=qdeq.z_strings(2, 2))
    injection = EdgeInjection.random(1, 2, 1, 3, key=jax.random.key(0), gain=0.9)
    network = qdeq.Network(cell, injection, Chain(6))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 6, 1)))
    layer = NetworkEquilibrium(rtol=1e-12, atol=1e-12)

    @jax.jit
    def all_at_once(x):
        whole = jax.vmap(lambda x: network.solve(x, layer=layer).value)(x)
        half = network.on(Chain(3))
        one = jax.vmap(lambda x: half.solve(x, layer=layer).value)(x[:, :3])
        two = jax.vmap(lambda x, m: half.solve(x, layer=layer, before=m).value)(
            x[:, 3:], one[:, -1]
        )
        applied = jax.vmap(lambda x, m: half.apply(x, 3, before=m))(x[:, 3:], one[:, -1])
        return whole, jnp.concatenate([one, two], axis=1), applied

    whole, parts, applied = all_at_once(x)
    np.testing.assert_allclose(parts, whole, atol=1e-11)
    np.testing.assert_allclose(applied, whole[:, 3:], atol=1e-11)


@pytest.mark.slow
def test_a_long_chain_hears_the_state_before_it_too():
    # 300 sites are solved from likely states, which have to know of it as well.
    network, x = network_of(300), jnp.zeros((300, 2))
    before = jnp.asarray([0.9, -0.9], x.dtype)
    network = jax.tree.map(lambda a: a.astype(x.dtype), network)
    solve = eqx.filter_jit(
        lambda layer, before: layer(
            Wired(network.cell, network.injection, network.wiring, before), x
        )
    )
    found, expected = (solve(NetworkEquilibrium(s), before) for s in ("newton-scan", "sweep"))
    np.testing.assert_allclose(found.value, expected.value, atol=1e-4)
    assert np.abs(expected.value[0]).max() > 0.03


@pytest.mark.parametrize("solver", ["sweep", pytest.param("newton-scan", marks=pytest.mark.slow)])
def test_a_state_before_is_heard_by_the_first_site_that_there_is(solver):
    short, x, layer = network_of(3), jnp.zeros((5, 2)), NetworkEquilibrium(solver)
    before, mask = jnp.asarray([0.9, -0.9], x.dtype), jnp.arange(5) >= 2  # filled up in front
    short, padded = (
        Wired(short.cell, jax.tree.map(lambda a: a.astype(x.dtype), short.injection), chain, before)
        for chain in (Chain(3), Chain(5))
    )
    found, alone = layer(padded, x, mask=mask).value, layer(short, x[2:]).value
    np.testing.assert_allclose(found[2:], alone, atol=1e-6)
    assert np.abs(alone[0]).max() > 0.03


@pytest.mark.parametrize(
    ("wiring", "before", "message"),
    [
        (Chain(5, "both"), np.zeros(2), "only a causal chain"),
        (Graph(5, [(0, 1)], causal=True), np.zeros(2), "only a causal chain"),
        (Chain(5), np.zeros(3), r"of shape \(3,\): give one state of 2 numbers"),
        (Chain(5), 0.0, "before is float"),
        (Chain(5), np.array(["a", "b"]), "before is <U1: give real numbers"),
    ],
)
def test_a_state_before_that_nothing_hears_is_refused_in_one_line(wiring, before, message):
    injection = EdgeInjection.random(wiring, 3, 2, 2, key=jax.random.key(0))
    with pytest.raises(qdeq.UserError, match=message):
        Wired(lambda v, x: v[:2], injection, wiring, before)


def test_windows_and_targets_are_rows_of_the_series():
    series = np.random.default_rng(0).normal(size=(60, 3))
    found = series_windows(series, 4, [1, 5], targets=[2, 0], stride=2)
    scaled = (series - series[:36].mean(axis=0)) / series[:36].std(axis=0)
    parts = (found.train, 0, 36), (found.valid, 36, 48), (found.test, 48, 60)
    for part, begin, end in parts:
        assert part.x.shape[1:] == (4, 3) and part.y.shape[1:] == (2, 2)
        lasts = [int(np.argmin(np.abs(scaled - x[-1]).sum(axis=1))) for x in part.x]
        # All windows whose targets lie in the part, and no other.
        assert lasts == [t for t in range(3, 55, 2) if begin <= t + 1 and t + 5 < end]
        for last, x, y in zip(lasts, part.x, part.y, strict=True):
            np.testing.assert_allclose(x, scaled[last - 3 : last + 1], atol=1e-6)
            np.testing.assert_allclose(
                found.restored(y), series[[last + 1, last + 5]][:, [2, 0]], atol=1e-5
            )


def test_what_comes_later_changes_nothing_before():
    series = np.random.default_rng(0).normal(size=50)
    series[[3, 31]] = np.nan
    changed = series.copy()
    changed[40:] = 1e6 * changed[40:] + 7  # the test part
    one, two = series_windows(series, 5), series_windows(changed, 5)
    assert one.preparation == two.preparation
    for name in ("train", "valid"):
        np.testing.assert_array_equal(getattr(one, name).x, getattr(two, name).x)
        np.testing.assert_array_equal(getattr(one, name).y, getattr(two, name).y)


def test_gaps_are_filled_from_the_past_and_marked():
    series = np.array([[np.nan, 1.0], [2.0, 2.0], [np.nan, 3.0], [4.0, 4.0]])
    preparation = SeriesPreparation.fit([series])
    found = preparation.features(series)
    assert preparation.marked == (0,) and preparation.n_features == 3
    # Before its first number a channel is its mean, which is 0 on its scale.
    np.testing.assert_allclose(found[:, 0], [0, -1, -1, 1])
    np.testing.assert_array_equal(found[:, 2], [1, 0, 1, 0])
    windows = series_windows(np.r_[np.arange(20.0), np.nan, np.arange(19.0)], 3)
    assert len(windows.train) == 24 - 3 - 1  # no window is asked for the gap
    np.testing.assert_array_equal(windows.train.x[..., 1].max(axis=1)[-5:], [0, 0, 1, 1, 1])


def test_a_channel_that_does_not_move_and_one_of_another_size_are_scaled():
    rows = np.arange(40.0)
    series = np.stack([np.full(40, 1e300), 1e-200 * rows, 1e200 * rows], axis=1)
    found = series_windows(series, 3).train.x
    assert np.isfinite(found).all() and not found[..., 0].any()
    np.testing.assert_allclose(found[..., 1], found[..., 2], atol=1e-5)


@pytest.mark.parametrize(
    ("series", "settings", "message"),
    [
        (np.zeros((30, 2, 2)), {}, r"shape \(30, 2, 2\)"),
        (np.zeros(0), {}, r"shape \(0, 1\)"),
        (["a", "b"], {}, "give real numbers"),
        (pd.Series(np.arange(30.0))[::-1], {}, r"28 comes after 29 in its index \(row 1\)"),
        ([1.0, np.inf] * 20, {}, "row 1, channel 0 is inf"),
        (np.full((30, 2), np.nan), {}, "channel 0 holds no number"),
        (np.r_[np.full(20, np.nan), np.zeros(10)], {}, "channel 0 holds no number in the 18 rows"),
        (np.r_[np.arange(20.0), np.full(10, 1e300)], {}, "row 20, channel 0 is 1e[+]300"),
        (np.zeros(30), {"length": 0}, "length=0"),
        (np.zeros(30), {"length": True}, "length=True"),
        (np.zeros(30), {"length": 2.5}, "length=2.5"),
        (np.zeros(30), {"length": 25}, "training part"),
        (np.zeros(30), {"horizons": 0}, "horizons=0"),
        (np.zeros(30), {"horizons": [2, 1]}, "rising order"),
        (np.zeros(30), {"horizons": []}, r"horizons=\[\]"),
        (np.zeros(30), {"horizons": [1, 10]}, "validation part"),
        (np.zeros(30), {"stride": -1}, "stride=-1"),
        (np.zeros(30), {"targets": 1}, "targets=1: give channels from 0 to 0"),
        (np.zeros(30), {"valid_fraction": 0}, "valid_fraction=0"),
        (np.zeros(30), {"valid_fraction": 0.5, "test_fraction": 0.5}, "nothing to train on"),
        (np.zeros(2), {"length": 1}, "2 rows"),
    ],
)
def test_what_makes_no_windows_is_refused_in_one_line(series, settings, message):
    with pytest.raises(qdeq.UserError, match=message):
        series_windows(series, **{"length": 3, **settings})
