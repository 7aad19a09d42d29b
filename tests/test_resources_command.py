"""`qdeq resources`: tables and JSON of predictions, of finished runs, and mistakes in one line."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from qdeq.circuits import MeasuredCircuit
from qdeq.cli import main
from qdeq.cli.resources_tables import duration
from qdeq.devices import estimate
from qdeq.runs.cost import run_cost
from qdeq.runs.report import executions
from qdeq.runs.run_folder import RunFolder
from qdeq.runs.summary import Summary
from qdeq.training.config import TrainConfig


def output(capsys, *argv):
    assert main(["resources", *argv]) == 0
    return capsys.readouterr().out


@pytest.fixture
def finished(tmp_path):
    """A run folder of 2 epochs, of 1000 evaluations at 9 steps each."""
    folder = RunFolder.create(tmp_path / "finished")
    config = TrainConfig(epochs=2, warmup_epochs=1, encoding="angle", jacobian_weight=0)
    folder.write_config(config)
    for epoch, phase in ((1, "direct"), (2, "implicit")):
        counted = {"solver_steps_mean": 9.0, "circuit_executions": 1000}
        folder.append_metrics({"epoch": epoch, "phase": phase, **counted})
    values: dict = {f.name: f.type() for f in fields(Summary) if f.type in (int, float, str)}
    values |= {"versions": {}, "classes": [], "confusion_matrix": [], "residual_trace": []}
    values |= {"epochs": 2, "solver_steps_mean": 9.0, "n_qubits": 4, "n_features": 16, "seed": 0}
    folder.write_summary(Summary(**values))
    return folder.path


def test_every_solver_and_adjoint_stands_next_to_direct(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = output(capsys, "--samples", "1000", "--budget-executions", "100000")
    for name in ("krasnoselskii-mann", "levenberg-marquardt", "neumann", "shine", "direct(10)"):
        assert name in text
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert "trapped-ion" in output(capsys, "--device", "trapped-ion")


def test_json_is_one_line_of_what_estimate_says(capsys):
    words = "--encoding angle --solver picard --adjoint neumann --steps 7.5 --shots 100"
    line = output(capsys, *words.split(), "--batch-size", "8", "--json")
    found = json.loads(line)
    assert line.count("\n") == 1
    first, *direct = found["costs"]
    assert [entry["layers"] for entry in direct] == [1, 2, 5, 10]
    cost = estimate(MeasuredCircuit.named(4, "angle"), solver="picard", steps=7.5, shots=100)
    step = cost.training_step(8)
    assert first["training_step"]["executions"] == step.executions == 8 * (7.5 + 33 + 81)
    assert first["training_step"]["by_purpose"] == step.by_purpose
    assert found["circuit"]["encoding_shifts"] == 32
    assert found["device"]["reset"] == 2.5e-4


def test_a_budget_says_how_much_fits(capsys):
    words = "--encoding angle --layers 1 --batch-size 10 --shots 1 --budget-executions 8199 --json"
    *_, entry = json.loads(output(capsys, *words.split()))["costs"]
    # 10 x (1 + 81) circuits a step; inference comes in batches.
    assert entry["training_steps_in_budget"] == 9
    assert entry["samples_in_budget"] == 8190
    timing = "one_qubit_gate=0,two_qubit_gate=0,readout=1,reset=0,submission=5"
    words = f"--encoding angle --layers 2 --batch-size 10 --shots 1 --device {timing} --json"
    *_, entry = json.loads(output(capsys, *words.split(), "--budget-seconds", "100"))["costs"]
    assert entry["inference"]["seconds"] == 2 * (5 + 10)
    assert entry["samples_in_budget"] == 30


def test_mitigation_has_a_column_where_there_is_some(capsys):
    assert "mitigation" not in output(capsys)
    text = output(capsys, "--scale-factors", "1,3,5", "--batch-size", "1", "--layers", "1")
    row = text[text.rindex("direct(1)") :].splitlines()[0].split()
    assert row[1:6] == ["1", "0", "81", "164", "246"]


def test_spsa_needs_few_circuits_for_the_angles(capsys):
    words = "--gradient spsa --perturbations 4 --solver broyden --adjoint implicit --batch-size 1"
    first = json.loads(output(capsys, *words.split(), "--steps", "5", "--json"))["costs"][0]
    assert first["training_step"]["by_purpose"] == {
        "forward": 5,
        "input gradient": 31,
        "parameter gradient": 9,
    }


def test_a_run_says_what_it_would_have_cost(capsys, finished):
    found = json.loads(output(capsys, str(finished), "--shots", "10", "--json"))
    # 1000 evaluations at 9 steps are 111 samples; the warm-up epoch is one of direct(9) here.
    assert found["solves"]["executions"] == 9 * 111 + 1000
    assert found["gradients"]["executions"] == 111 * (9 * 81 + 8 * 33) + 111 * (33 + 81)
    assert found["training"]["shots"] == 10 * found["training"]["executions"]
    assert found["inference_of_1000"]["executions"] == 9000
    text = output(capsys, str(finished))
    assert f"{found['training']['executions']:,} executions" in text
    assert "Jacobian penalty" not in text


def test_the_penalty_of_a_run_is_counted_apart(finished):
    history = [{"phase": "implicit", "solver_steps_mean": 8.0, "circuit_executions": 80}]
    measured = MeasuredCircuit.named(4, "angle")
    cost = run_cost(measured, TrainConfig(encoding="angle"), history, shots=10)
    assert cost.training.executions == 10 * (8 + 33 + 81)
    assert cost.penalty.executions == 10 * 32 * 80 and cost.penalty.shots == 10 * 10 * 32 * 80
    summary = RunFolder.open(finished).read_summary()
    text = "".join(executions(TrainConfig(encoding="angle"), summary, history))
    for number in ("80", "1,140", f"{10 * 32 * 80:,}"):  # forward, gradients, the penalty's
        assert f"<td>predicted</td><td>{number}</td>" in text
    no_prediction = TrainConfig(solver="newton", adjoint="unrolled")
    assert "predicted" not in "".join(executions(no_prediction, summary, history))


def test_an_epoch_without_numbers_costs_nothing():
    history = [{"phase": "implicit", "solver_steps_mean": None, "circuit_executions": 80}]
    cost = run_cost(MeasuredCircuit.named(4, "angle"), TrainConfig(), history)
    assert cost.training.executions == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--n-qubits 3", "--n-qubits 3: amplitude encoding of 9 features needs at least 4"),
        ("--n-qubits 0", "--n-qubits 0: give a number of at least 1"),
        ("--encoding angle --n-features 5", "--n-features 5: angle encoding on 4 qubits reads 16"),
        ("--shots 0", "--shots 0"),
        ("--steps 0.5", "--steps 0.5"),
        ("--steps nan", "--steps nan"),
        ("--samples 0", "--samples 0"),
        ("--scale-factors 1;3", "--scale-factors '1;3': give numbers"),
        ("--scale-factors 0", "at least 1"),
        ("--device photonic", "choose one of superconducting"),
        ("--device superconducting,reset=soon", "number of seconds"),
        ("--solver newton --adjoint shine", "set solver to 'broyden'"),
        ("--layers 0", "--layers 0"),
        ("--budget-executions 0", "budget of 0 executions"),
        ("--budget-seconds nan", "budget of nan seconds"),
        ("nowhere", "no such folder"),
        ("nowhere --solver picard", "--solver cannot be given with RUN"),
    ],
)
def test_mistakes_are_one_line(capsys, words, message):
    assert main(["resources", *words.split()]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert message in line and captured.out == ""


_CONSOLE = re.compile(r"^```console\n\$ qdeq resources (.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorials" / "what-will-it-cost.md"


@pytest.mark.parametrize("shown", _CONSOLE.findall(TUTORIAL.read_text(encoding="utf-8")))
def test_the_tutorial_shows_what_is_printed(capsys, monkeypatch, shown):
    words, text = shown
    monkeypatch.setenv("COLUMNS", "80")
    printed = [line.rstrip() for line in output(capsys, *words.split()).strip().splitlines()]
    assert printed == text.splitlines()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (2e-5, "20 µs"), (0.0123, "12.3 ms"), (119, "119 s"), (86_400 * 1234, "1,234 d")],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text
