"""Wirings drawn, and networks priced, by the command line and by their objects."""

import json
import time
import tracemalloc

import pytest

from qdeq.circuits import MeasuredCircuit
from qdeq.cli import main
from qdeq.devices import estimate_network
from qdeq.equilibrium.networks import Alone, Chain, Graph, Grid
from qdeq.errors import UserError


@pytest.mark.parametrize(
    ("wiring", "lines"),
    [
        (Chain(1), ["0"]),
        (Chain(3), ["0 ─▶ 1 ─▶ 2"]),
        (Chain(3, "both"), ["0 ◀▶ 1 ◀▶ 2"]),
        (Chain(3, "both", ring=True), ["0 ◀▶ 1 ◀▶ 2", "╰─────────╯"]),
        (Grid(2, 2), ["0 ─ 1", "│   │", "2 ─ 3"]),
        (Grid(2, 2, 8), ["0 ─ 1", "│ ╳ │", "2 ─ 3"]),
        (Grid(1, 3), ["0 ─ 1 ─ 2"]),
        (Alone(2), ["0 ◀─ 0", "1 ◀─ 1"]),
        (Graph(3), ["0", "1", "2"]),
        (Graph(3, [(0, 1), (2, 1), (1, 1)], [0, 1, 1]), ["0", "1 ◀─ 0; 1, 2 (kind 1)", "2"]),
    ],
)
def test_wirings_as_text(wiring, lines):
    title, *found = wiring.draw().splitlines()
    assert found == lines
    sites, edges = wiring.n_sites, len(wiring.edges)
    assert title.startswith(f"{wiring!r}: {sites} site") and f" {edges} edge" in title


@pytest.mark.parametrize(
    "wiring", [Chain(10_000), Chain(500, "both", ring=True), Grid(2, 500), Graph(90, [])]
)
def test_large_wirings_keep_to_the_width(wiring):
    text = wiring.draw(max_width=60)
    assert max(map(len, text.splitlines()[1:])) <= 60
    assert "…" in text or isinstance(wiring, Graph)


@pytest.mark.parametrize(
    "wiring",
    [Alone(), Chain(4), Chain(3, "both", ring=True), Grid(2, 3, 8), Graph(2, [(0, 0), (0, 1)])],
)
def test_a_picture_has_every_edge(wiring):
    axes = wiring.draw_mpl().axes[0]
    arrows = [text for text in axes.texts if text.arrow_patch is not None]
    loops = [patch for patch in axes.patches if type(patch).__name__ == "Circle"]
    assert len(arrows) + len(loops) == len(wiring.edges)
    assert len(loops) == (wiring.edges.senders == wiring.edges.receivers).sum()


def test_edges_of_several_kinds_between_two_sites_lie_side_by_side_and_kinds_are_named():
    pairs, kinds = [(0, 1), (0, 1), (1, 1), (1, 1)], [0, 9999, 0, 10]
    axes = Graph(2, pairs, kinds).draw_mpl().axes[0]
    bends = {text.arrow_patch.get_connectionstyle().rad for text in axes.texts if text.arrow_patch}
    sizes = {patch.get_radius() for patch in axes.patches}
    assert len(bends) == len(sizes) == 2 and max(bends) < 0.5
    named = axes.get_legend().legend_handles
    assert [line.get_label() for line in named] == ["kind 0", "kind 10", "kind 9999"]
    assert len({line.get_color() for line in named}) == 3


@pytest.mark.parametrize(
    ("words", "wiring"),
    [
        ("--wiring chain --sites 5", Chain(5)),
        ("--wiring chain-both --sites 5", Chain(5, "both")),
        ("--wiring ring --sites 4", Chain(4, "both", ring=True)),
        ("--wiring grid --sites 2x3", Grid(2, 3)),
        ("--wiring grid-8 --sites 2x3", Grid(2, 3, 8)),
        ("--wiring alone --sites 2", Alone(2)),
        ("--wiring graph --edges 0-1,1-2,2-0:1", Graph(3, [(0, 1), (1, 2), (2, 0)], [0, 0, 1])),
        ("--wiring graph --edges 0-1 --sites 4", Graph(4, [(0, 1)])),
    ],
)
def test_qdeq_draw_draws_wirings(words, wiring, capsys):
    assert main(["draw", *words.split()]) == 0
    assert capsys.readouterr().out.splitlines() == wiring.draw().splitlines()


def test_qdeq_draw_writes_a_picture_of_a_wiring(tmp_path, capsys):
    path = tmp_path / "ring.svg"
    assert main(["draw", "--wiring", "ring", "--out", str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(path) and "<svg" in path.read_text()


CELL = "--n-qubits 3 --encoding angle --ansatz hardware-efficient --shots 100"


def test_qdeq_resources_prices_a_network_as_estimate_network_does(capsys):
    words = f"resources {CELL} --wiring chain --sites 16 --steps 4 --batch-size 8"
    assert main([*words.split(), "--device-qubits", "127", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    observables = {"sites": 16, "observables": 3, "copies": 42}
    assert found["network"] == {"wiring": repr(Chain(16)), **observables}
    cell = MeasuredCircuit.named(3, "angle", ansatz="hardware-efficient")
    by = {entry["solver"] or entry["layers"]: entry for entry in found["costs"]}
    assert set(by) == {"sweep", "newton-scan", "picard", "anderson", 1, 2, 5, 10, 16}
    for name, options in (("sweep", {"solver": "sweep"}), (16, {"layers": 16})):
        cost = estimate_network(cell, Chain(16), copies=42, shots=100, **options)
        for said, expected in (
            (by[name]["inference"], cost.inference(8)),
            (by[name]["training_step"], cost.training_step(8)),
        ):
            assert said["executions"] == expected.executions
            assert said["submissions"] == expected.submissions and said["shots"] == expected.shots
    assert by["sweep"]["inference"]["submissions"] == 17  # a sweep, and its residual
    assert by["newton-scan"]["inference"]["submissions"] == 8


def test_qdeq_resources_shows_tables_of_networks(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for wiring in ("chain", "chain-both", "ring", "grid --sites 3x3", "graph --edges 0-1,1-0"):
        assert main(["resources", *CELL.split(), "--wiring", *wiring.split()]) == 0
        text = capsys.readouterr().out
        assert "direct(" in text and "Network: " in text
        assert ("sweep" in text) == (wiring == "chain")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("draw --wiring grid --sites 4", "--sites 4: a grid has rows and columns, such as 3x4"),
        ("draw --wiring chain --sites many", "--sites many: give a whole number"),
        ("draw --wiring chain --sites 0", "--sites 0: give a whole number of at least 1"),
        ("draw --wiring ring --sites 2", "--sites 2: give an integer that is at least 3"),
        ("draw --wiring grid --sites 0x3", "rows=0"),
        ("draw --wiring graph", "--wiring graph: it is given by its edges"),
        ("draw --wiring graph --edges 0>1", "'0>1' is no edge"),
        ("draw --wiring graph --edges 0-9 --sites 3", "sites are numbered from 0 to 2"),
        ("draw --wiring graph --edges 0-1,0-1", "twice"),
        ("draw --wiring chain --edges 0-1", "only --wiring graph is given by its edges"),
        ("draw --wiring line", "choose one of alone, chain"),
        ("draw --sites 3", "--sites without --wiring"),
        ("draw --wiring chain --encoding angle", "--encoding with --wiring"),
        ("draw run --wiring chain", "RUN with --wiring"),
        ("resources --sites 3", "--sites without --wiring"),
        ("resources --wiring chain --solver picard", "--solver picard with --wiring"),
        ("resources --wiring chain --device-qubits 1", "--device-qubits 1: the circuit has 4"),
        ("resources nowhere --wiring chain", "--wiring cannot be given with RUN"),
    ],
)
def test_mistakes_are_one_clear_line(words, message, capsys):
    assert main(words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


HUGE = [
    *((name, "999999999") for name in ("alone", "chain", "chain-both", "ring")),
    *((name, "999999x999999") for name in ("grid", "grid-8")),
    ("graph --edges 0-999999999", None),
]


@pytest.mark.parametrize(("wiring", "sites"), HUGE)
def test_wirings_too_large_to_draw_are_refused_in_one_line(wiring, sites, tmp_path, capsys):
    words = ["--wiring", *wiring.split(), *(["--sites", sites] if sites else [])]
    for out in ([], ["--out", str(tmp_path / "wiring.png")]):
        assert main(["draw", *words, *out]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "sites: at most 10,000 can be drawn" in line and (sites or "").split("x")[0] in line


@pytest.mark.parametrize(("wiring", "sites"), HUGE)
def test_huge_networks_are_priced_at_once_and_no_number_is_cut(wiring, sites, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    words = ["--wiring", *wiring.split(), *(["--sites", sites] if sites else [])]
    for more in ([], ["--layers", "1000000000"], ["--steps", "1000000000"]):
        tracemalloc.start()
        start = time.process_time()
        assert main(["resources", *CELL.split(), *words, *more, "--samples", "1000"]) == 0
        assert time.process_time() - start < 5  # it was minutes, or no memory was left
        assert tracemalloc.get_traced_memory()[1] < 1e8
        tracemalloc.stop()
        text = capsys.readouterr().out
        assert "…" not in text and max(map(len, text.splitlines())) <= 80


def test_the_price_of_a_chain_takes_no_longer_for_more_sites():
    cell = MeasuredCircuit.named(3, "angle", ansatz="hardware-efficient")
    start = time.process_time()
    cost = estimate_network(cell, Chain(10**6), solver="sweep")
    assert cost.inference(8).submissions == 10**6 + 1
    assert cost.inference(8).executions == cost.circuit.settings * 8 * 2 * 10**6
    assert estimate_network(cell, Chain(8), layers=10**9).inference(1).submissions == 10**9
    assert estimate_network(cell, Chain(8), solver="picard", steps=1e9).forward[0].times == 10**9
    assert time.process_time() - start < 1


@pytest.mark.parametrize("options", [{"layers": 2.5}, {"layers": True}, {"steps": "a"}])
def test_numbers_of_another_kind_are_refused(options):
    cell = MeasuredCircuit.named(3, "angle", ansatz="hardware-efficient")
    ((name, value),) = options.items()
    with pytest.raises(UserError, match=f"^{name}={value}|^{name}='{value}'"):
        estimate_network(cell, Chain(3), **options)
