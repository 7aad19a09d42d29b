"""The benchmark compares like with like: its baselines solve the same equations as qdeq."""

import ast
import dataclasses
import functools
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import benchmarks
from benchmarks import network_grid, pennylane_model, scaling, suite, tables
from benchmarks.command import BenchmarkCommand
from benchmarks.compare import compare, regressions
from benchmarks.floors import step_floor
from benchmarks.groups import SEEDS, Bench
from benchmarks.inputs import make_inputs
from benchmarks.measurements import Curve, Entry, Floor, Measurement, Ratio, Results
from benchmarks.picture import draw
from benchmarks.programs import as_published
from benchmarks.published import SAME_WORK, Settings, loss
from benchmarks.timing import take_turns
from benchmarks.wide import wide_model
from qdeq.circuits import AmplitudeEncoding, paper_angle_encoding, paper_ansatz, z_of_every_wire
from qdeq.cli import main, run_command
from qdeq.equilibrium import Equilibrium, Newton
from qdeq.errors import UserError
from qdeq.models import Classifier, QuantumModel

# Tight solves of both: what is left is rounding in float64, and the 1e-10 of the stopping tests
# times the conditioning of I - J.
TIGHT = Settings(max_steps=40, tolerance=1e-10, every_sample=True, dropout=0.0, jacobian_weight=0.0)
LAYER = Equilibrium(solver=Newton(rtol=1e-11, atol=1e-11))


def small_model(encoding):
    """The paper's recipe with 6 random gates instead of 50: compiling is what the tests cost."""
    circuit = paper_ansatz(4, n_random=6)
    amplitude = encoding == "amplitude"
    return QuantumModel(
        jax.random.uniform(jax.random.key(33), (circuit.n_parameters,), minval=-3, maxval=3),
        circuit,
        encoding=AmplitudeEncoding(4, 16) if amplitude else paper_angle_encoding(4),
        observables=z_of_every_wire(4),
    )


def our_loss(classifier, x, y, start):
    def logits_of(x, start):
        return classifier.read_out(LAYER(classifier.model.prepare().bind(x), start).value)

    logits = jax.vmap(logits_of)(x, start)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def published_loss(classifier, x, y):
    return loss(as_published(classifier), x, y, jax.random.key(0), TIGHT)


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
@pytest.mark.slow
def test_plain_published_algorithm_has_our_equilibrium_and_our_gradient(encoding, x64):
    classifier = Classifier(small_model(encoding), 4, key=jax.random.key(4))
    inputs = make_inputs(3, 4)
    x, y = jnp.asarray(inputs.x, float), jnp.asarray(inputs.y)
    (theirs, solution), their_gradient = eqx.filter_jit(
        eqx.filter_value_and_grad(published_loss, has_aux=True)
    )(classifier, x, y)
    assert float(solution.residual.max()) < 1e-8
    # Ours starts from their equilibrium: with angles there can be several.
    m = solution.value[:, ::4]
    ours, our_gradient = eqx.filter_jit(eqx.filter_value_and_grad(our_loss))(classifier, x, y, m)
    np.testing.assert_allclose(theirs, ours, atol=1e-6)
    for part in (lambda g: g.model.theta, lambda g: g.head.weight, lambda g: g.head.bias):
        np.testing.assert_allclose(part(their_gradient), part(our_gradient), atol=1e-6)
    assert float(jnp.abs(our_gradient.model.theta).max()) > 1e-3  # not zero against zero


@pytest.mark.filterwarnings("ignore")  # PennyLane's own, about what it is built on
@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
def test_pennylane_function_is_our_function(encoding, x64):
    reason = pennylane_model.why_missing()
    if reason is not None:
        pytest.skip(reason)
    model = small_model(encoding)
    m, x = jnp.linspace(-0.5, 0.7, 4), jnp.asarray(make_inputs(1, 4).x[0], float)
    guest = pennylane_model.pennylane_model(model)
    np.testing.assert_allclose(guest(m, x), model(m, x), atol=1e-6)


def test_inputs_without_a_folder_have_the_statistics_of_mnist():
    inputs = make_inputs(512, 4)
    assert inputs.x.shape == (512, 16) and set(inputs.y) == {0, 1, 2, 3}
    # Pooled MNIST-4 has mean 0.23 and deviation 0.75; digits are drawn with a bolder pen.
    assert abs(inputs.x.mean() - 0.2) < 0.3 and 0.4 < inputs.x.std() < 1.1
    assert "built in" in inputs.source
    assert inputs.dataset().n_features == 16


def measured(median, minimum=None, spread=0.02):
    return Measurement(median, median if minimum is None else minimum, spread, samples=9)


def results(**medians):
    rows = tuple(
        Entry(
            key,
            f"work of {key}",
            target=1e-3,
            reached=median,
            ratios=(Ratio("something", 60.0, 50.0),),
            floor=Floor(4.2e6, 1e5, 4e-5),
            measurements={"qdeq implicit": measured(median), "published": measured(median * 60)},
            note="what the reader should know",
        )
        for key, median in medians.items()
    )
    ratio = Entry("direct", "against direct(1)", unit="x", target=1.3, reached=1.2)
    curve = Curve("qubits", "number of qubits", (2, 4), {"qdeq implicit": (1e-3, None)})
    machine = {
        "processor": "cpu",
        "device": "cpu",
        "threads": 2,
        "matmul_gflops": 50.0,
        "memory_gbytes_per_second": 10.0,
        "versions": {"jax": "0.10"},
    }
    return Results(machine, "digits", "quick", 1.0, (*rows, ratio), (curve,))


def test_results_survive_json():
    written = results(step=5e-4)
    assert Results.from_json(written.to_json()) == written


def test_json_schema_is_what_scripts_rely_on():
    content = json.loads(results(step=5e-4).to_json())
    assert content["schema"] == 1
    assert set(content) == {f.name for f in dataclasses.fields(Results)}
    assert {"key", "work", "unit", "target", "reached", "ratios", "floor", "measurements"} <= set(
        content["rows"][0]
    )
    assert {"median", "minimum", "spread", "samples"} <= set(
        content["rows"][0]["measurements"]["qdeq implicit"]
    )


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 0}', '{"schema": 1}'])
def test_other_files_are_refused_in_one_sentence(text):
    with pytest.raises(UserError, match=r"old\.json"):
        Results.from_json(text, source="old.json")


def test_a_row_is_met_only_with_all_its_ratios():
    (row, *_) = results(step=5e-4).rows
    assert row.met
    assert not dataclasses.replace(row, reached=2e-3).met
    assert not dataclasses.replace(row, ratios=(Ratio("something", 40.0, 50.0),)).met
    assert dataclasses.replace(row, target=None, ratios=()).met is None
    unsolved = dataclasses.replace(measured(5e-4), solved_fraction=0.9)
    assert not dataclasses.replace(row, measurements={"qdeq implicit": unsolved}).met


def test_compare_flags_what_noise_does_not_explain():
    old, new = results(step=5e-4, seeds=1e-4), results(step=8e-4, seeds=1.1e-4)
    changes = compare(old, new)
    verdicts = {(c.key, c.program): c.verdict for c in changes}
    assert verdicts["step", "qdeq implicit"] == "slower"
    assert verdicts["seeds", "qdeq implicit"] == "same"
    assert verdicts["direct", ""] == "same"
    # The baseline became slower as well: that is told, but qdeq is not blamed for it.
    assert verdicts["step", "published"] == "slower"
    assert [(c.key, c.program) for c in regressions(changes)] == [("step", "qdeq implicit")]
    assert {c.verdict for c in compare(new, old)} == {"faster", "same"}


def test_compare_does_not_trust_a_median_whose_minimum_stayed():
    old = results(step=5e-4)
    busy = dataclasses.replace(
        old.rows[0], measurements={"qdeq implicit": measured(9e-4, minimum=5e-4)}
    )
    new = dataclasses.replace(old, rows=(busy,))
    assert regressions(compare(old, new)) == []


def test_programs_take_turns():
    calls = []
    timings = take_turns(
        {name: lambda name=name: calls.append(name) for name in "ab"}, seconds=0.01
    )
    assert set(timings) == {"a", "b"}
    assert timings["a"].minimum <= timings["a"].median
    timed = "".join(calls).lstrip("a").lstrip("b")  # without the first calls
    assert timed.find("b") < timed.rfind("a")


def test_tables_and_picture_show_every_row(tmp_path):
    found = results(step=5e-4, seeds=2e-3)
    text = tables.markdown(found)
    assert text.count("| work of") == 2 and "60x less than something (target 50x)" in text
    assert "- step: what the reader should know" in text
    assert "| number of qubits | 2 | 4 |" in text and "| qdeq implicit | 1 ms | – |" in text
    assert len(tables.terminal_table(found).rows) == 3
    draw(found, tmp_path / "results.png")
    draw(dataclasses.replace(found, rows=()), tmp_path / "curves.png")
    draw(dataclasses.replace(found, rows=(), curves=()), tmp_path / "nothing.png")
    for path in tmp_path.glob("*.png"):
        assert path.stat().st_size > 1000


def test_floors_grow_with_the_work():
    few, many = (step_floor(small_model("amplitude"), batch, 8, 4) for batch in (16, 256))
    assert 0 < few.operations < many.operations < 1e8
    wide = step_floor(wide_model(2, jax.random.key(0), n_qubits=12), 32, 8, 10)
    assert wide.operations > 0 and wide.seconds > 0


@pytest.mark.parametrize("n_qubits", scaling.QUBITS)
def test_the_published_algorithm_has_every_size_of_the_curves(n_qubits):
    bench = Bench(seconds=0.0, alternatives="few", data_dir=None, stage=print)
    trainer, state = scaling.starting_point(bench, n_qubits, 1, 4)
    train = trainer.dataset.train
    plain = as_published(state.classifier)
    shape, _ = eqx.filter_eval_shape(loss, plain, train.x, train.y, jax.random.key(0), SAME_WORK)
    assert shape.shape == ()


def test_an_interrupted_run_leaves_what_it_has_measured(tmp_path, monkeypatch, capsys):
    def interrupted(bench):
        raise KeyboardInterrupt

    first = results(step=5e-4).rows
    monkeypatch.setattr(suite, "GROUPS", {"import": lambda bench: first, "seeds": interrupted})
    out = tmp_path / "out"
    words = ["--only", "import,seeds", "--out", str(out)]
    assert run_command(BenchmarkCommand, words, prog="python -m benchmarks") == 130
    assert str(out) in capsys.readouterr().err
    assert Results.read(out / "results.json").rows == first
    assert "| work of step |" in (out / "table.md").read_text(encoding="utf-8")


def test_plans_name_known_groups():
    assert suite.Plan("quick").groups == ("import", "step-4-amplitude", "seeds")
    assert suite.Plan(only=("wide-2", "import")).groups == ("import", "wide-2")
    curves = [name for name in suite.Plan("full").groups if name.startswith("scaling-")]
    assert len(curves) == 4 and not set(curves) & set(suite.Plan().groups)
    assert suite.Plan(only=("scaling-seeds",)).groups == ("scaling-seeds",)
    assert SEEDS == 32
    with pytest.raises(UserError, match="step-4-amplitude"):
        suite.Plan(only=("step-5",))


def test_the_suite_imports_nothing_private():
    private = []
    for path in Path(benchmarks.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [*str(node.module).split("."), *(alias.name for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [part for alias in node.names for part in alias.name.split(".")]
            else:
                continue
            private += [(path.name, name) for name in names if name.startswith("_")]
    assert private == []


def test_the_command_line_says_where_the_suite_went(capsys):
    assert main(["benchmark", "--quick"]) == 2
    told = capsys.readouterr().err
    assert "make benchmark" in told and told.count("\n") == 1


def test_the_table_of_networks_says_times_ratios_and_who_solved_nothing():
    small, large = network_grid.cases((10, 10**7), (2,), (1,)), network_grid.Case("both", 10, 2, 1)
    assert [case.sites for case in small] == [10, 10]  # the others would not fit in memory
    line = functools.partial(network_grid.Line, large, "solve")
    lines = [
        line("equilibrium", 2.0, 1.5, 1.0),
        line("direct(10)", 1.0, 0.9, None),
        line("qdeq.Equilibrium, Broyden and GMRES", 30.0, 29.0, 0.25),
    ]
    row = network_grid.table(lines, "two cores").splitlines()[-1]
    assert row == "| both ways | 10 | 2 | 1 | solve | 2.00 ms | 0.5x | – | 15x (25% solved) |"
