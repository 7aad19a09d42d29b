"""Models with finite shots: the sampled model, `qdeq evaluate --shots`, `reproduce noise`."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_trainer import FakeTrainer

from qdeq.cli import main
from qdeq.equilibrium import Direct, Equilibrium, JacobianFree, KrasnoselskiiMann, Picard
from qdeq.errors import UserError
from qdeq.models import SampledModel, paper_model
from qdeq.runs import evaluate, session
from qdeq.runs import run as run_module
from qdeq.studies import reproduction, worker
from qdeq.studies.noise import NoiseStudy
from qdeq.studies.noise import points as noise_points
from qdeq.studies.noise import solvers as noise_solvers
from qdeq.studies.reproduction import reproduce
from qdeq.studies.study import choose_rows
from qdeq.training.config import TrainConfig
from qdeq.training.noisy import layer_for_shots


class Trainer(FakeTrainer):
    """Random models instead of trained ones."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run; its model is random."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "Trainer", Trainer)
        patch.setattr(session, "write_report", lambda *_, **__: [])  # a second per run
        run_module.train(TrainConfig(epochs=1), out=path)
    return path


@pytest.fixture
def fake(monkeypatch):
    """Nothing is trained, nothing is compiled but the measurement itself."""
    monkeypatch.setattr(session, "Trainer", Trainer)
    monkeypatch.setattr(session, "write_report", lambda *_, **__: [])


def test_a_sampled_model_is_unbiased_and_its_derivative_exact():
    model_key, x_key, key = jax.random.split(jax.random.key(0), 3)
    model = paper_model(key=model_key)
    sampled = SampledModel(model)
    m, x = jnp.full(4, 0.1), jax.random.uniform(x_key, (16,))

    @jax.jit
    def both(keys):
        draws = jax.vmap(lambda key: sampled(m, x, key=key, shots=100))(keys)
        slopes = jax.jacfwd(lambda m: sampled.bind(x)(m, key=key, shots=100))(m)
        return draws, slopes, model(m, x), jax.jacfwd(lambda m: model(m, x))(m)

    draws, slopes, exact, exact_slopes = both(jax.random.split(key, 2000))
    deviation = np.sqrt((1 - np.asarray(exact) ** 2) / 100)
    assert np.all(np.abs(draws.mean(axis=0) - exact) < 5 * deviation / np.sqrt(2000))
    np.testing.assert_allclose(draws.std(axis=0), deviation, rtol=0.1)
    np.testing.assert_allclose(slopes, exact_slopes, rtol=0, atol=1e-6)


def test_the_tolerance_of_a_layer_follows_the_shots():
    layer = layer_for_shots(Equilibrium(Picard(1e-5, 1e-5), JacobianFree()), 100, 4)
    assert isinstance(layer, Equilibrium) and isinstance(layer.solver, KrasnoselskiiMann)
    assert float(layer.solver.atol) == pytest.approx(np.sqrt(4 / 1000))
    picard = layer_for_shots(Equilibrium(), 100, 4, solver="picard")
    assert isinstance(picard, Equilibrium) and float(picard.solver.atol) == pytest.approx(0.4)
    assert picard.solver.rtol == 1e-5
    direct = layer_for_shots(Direct(3), 100, 4)
    assert isinstance(direct, Direct) and direct.layers == 3
    assert float(direct.atol) == pytest.approx(0.4)
    with pytest.raises(UserError, match="mode 'direct' has no solver"):
        layer_for_shots(Direct(3), 100, 4, solver="picard")


@pytest.mark.slow
def test_evaluate_with_shots_averages_over_repeats(run, capsys):
    found = evaluate(run, noise="readout=0.02", shots=200, repeats=3)
    other = evaluate(run, noise="readout=0.02", shots=20_000, repeats=1, seed=1)
    assert (found.shots, found.repeats, found.noise) == (200, 3, "readout=0.02")
    assert np.sum(found.confusion_matrix) == 3 * found.n_samples
    assert found.deviation["accuracy"] > 0 and other.deviation == {}
    # The residual with infinitely many shots falls as their root, and the shots tell it on the
    # safe side.
    assert found.residual_mean / other.residual_mean == pytest.approx(10, rel=0.35)
    assert found.measured_residual_mean is not None
    assert 1 < found.measured_residual_mean / found.residual_mean < 2.5
    assert found.total_shots == pytest.approx(200 * found.circuit_executions, abs=200)

    words = ["evaluate", str(run), "--noise", "readout=0.02", "--shots", "200", "--repeats", "3"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)  # the same seed, the same shots
    assert told["accuracy"] == found.accuracy and told["residual_mean"] == found.residual_mean
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert f"{found.accuracy:.4f} ± {found.deviation['accuracy']:.4f}" in shown
    assert "200 per execution" in shown and "readout=0.02" in shown
    assert "krasnoselskii-mann" in shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--noise depolarising=2", "a probability lies between 0 and 1"),
        ("--noise decay=0.1", "--noise 'decay=0.1': 'decay' is not known"),
        ("--noise depolarising", "incomplete"),
        ("--shots 0", "--shots 0: give a whole number of at least 1"),
        ("--shots many", "--shots many: give a whole number"),
        ("--shots 10 --repeats 0", "--repeats 0: give a whole number of at least 1"),
        ("--repeats 3", "--repeats needs --shots"),
        ("--seed 3", "--seed needs --shots"),
        ("--shots 10 --solver bfgs", "choose one of picard"),
    ],
)
def test_bad_input_is_one_clear_line(run, capsys, options, words):
    assert main(["evaluate", str(run), *options.split()]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and words in lines[0] and "Traceback" not in lines[0]


STUDY = NoiseStudy(
    epochs=1, seeds=(0, 1), strengths=(0.0, 0.01), trained_at=0.01, shots=(50, 400), repeats=1
)


@pytest.fixture
def stub_points(monkeypatch):
    """Points without measurements; accuracy falls with noise, more so without equilibrium."""

    def exact(classifiers, noise, layer, trainer, seeds):
        loss = 0.1 * bool(noise) * (1 + isinstance(layer, Direct))
        numbers = {"residual": 1e-6, "converged": 1.0, "executions": 9.0}
        return [{"seed": s, "accuracy": 0.9 - loss - 0.01 * s, **numbers} for s in seeds]

    def sampled(classifiers, shots, layer, trainer, seeds, repeats):
        total = shots if isinstance(layer, Direct) else 8 * shots
        numbers = {"accuracy": 0.8, "residual": shots**-0.5, "shots_per_inference": total}
        return [{"seed": s, **numbers, "converged": 1.0, "executions": 1.0} for s in seeds]

    monkeypatch.setattr(noise_points, "_exact", exact)
    monkeypatch.setattr(noise_points, "_sampled", sampled)


@pytest.mark.slow
def test_the_comparison_under_noise_is_written_and_resumed(
    fake, stub_points, monkeypatch, tmp_path
):
    solved = []

    def solver_errors(run, **_):
        solved.append(run)
        errors = {"picard": [0.2, 0.06], "krasnoselskii-mann": [0.04, 0.01]}
        numbers = {"n_samples": 3, "steps": 30, "averaged": 22, "radius": 0.3}
        return {"shots": [100, 1000], "errors": errors, "floor": [0.2, 0.063], **numbers}

    monkeypatch.setattr(noise_solvers, "solver_errors", solver_errors)
    told = []
    call = {
        "rows": "implicit,direct-1",
        "command": "qdeq reproduce noise",
        "on_row": lambda *what: told.append(what[2].key),
        "launch": worker.compute,
    }
    results = reproduce(STUDY, tmp_path, **call)
    keys = [row.key for row in results.rows]
    assert keys == [f"{g}-{n}" for g in ("noiseless", "noisy") for n in ("implicit", "direct-1")]
    assert set(told) == {*keys, "angle-implicit"} and len(solved) == 2

    with (tmp_path / "results.csv").open(newline="") as file:
        rows = [record for record in csv.DictReader(file) if record["group"] == "noiseless"]
    assert {(r["row"], r["noise"], r["shots"]) for r in rows} == {
        (name, noise, shots)
        for name in ("implicit", "direct-1")
        for noise, shots in (("", ""), ("depolarising=0.01", ""), ("", "50"), ("", "400"))
    }
    assert len(rows) == 8  # a line per row and device
    assert all(r["n_seeds"] == "2" and 0 <= float(r["accuracy"]) <= 1 for r in rows)
    direct = next(r for r in rows if r["row"] == "direct-1" and r["noise"])
    assert direct["reference"] == "noiseless-implicit"
    assert float(direct["difference"]) == pytest.approx(-0.1) and direct["n_pairs"] == "2"
    assert (direct["depth"], direct["two_qubit_gates"]) == ("27", "17")
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["protocol"]["seeds"] == [0, 1] and len(content["rows"]) == 4
    assert set(content["solvers"]) == {"amplitude", "angle"}
    assert (tmp_path / "report.html").read_text().count("data:image/png;base64,") == 4
    page = (tmp_path / "table.md").read_text()
    assert "IMPLICIT keeps more accuracy than DIRECT 1, difference +0.1000" in page
    assert "50 shots per execution, trained without noise: IMPLICIT is not shown to" in page
    assert "about 400 shots per inference (50 and 400 per execution)" in page
    assert "qdeq reproduce noise" in page and "| krasnoselskii-mann | 4.00e-02 |" in page
    for name in ("accuracy", "residual", "shots", "solvers"):
        assert f"(figures/{name}.png)" in page
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1000

    told.clear()
    monkeypatch.setattr(reproduction, "draw_pictures", lambda *_: {})  # seconds each
    files = ("results.csv", "results.json")
    first = [(tmp_path / name).read_text() for name in files]
    reproduce(STUDY, tmp_path, **call)
    assert [(tmp_path / name).read_text() for name in files] == first
    assert told == [] and len(solved) == 2  # everything was kept

    # A point that is lost is measured again, alone.
    path = tmp_path / "points" / "noisy-direct-1.json"
    kept = json.loads(path.read_text())
    del kept["points"]["noise 0.01"]
    path.write_text(json.dumps(kept))
    reproduce(STUDY, tmp_path, **call)
    assert (tmp_path / "results.csv").read_text() == first[0]
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(first[1])
    assert told == ["noisy-direct-1"]


def test_a_row_that_fails_is_named_and_the_others_stand(fake, stub_points, monkeypatch, tmp_path):
    monkeypatch.setattr(reproduction, "draw_pictures", lambda *_: {})

    def fails(folder, on_progress):
        if folder.name == "noiseless-direct-1":
            return 1
        return worker.compute(folder, on_progress)

    rows = "noiseless-direct-1,noiseless-direct-5"
    results = reproduce(STUDY, tmp_path, rows=rows, launch=fails)
    assert not results.has("noiseless-direct-1") and results.has("noiseless-direct-5")
    assert (
        "DIRECT 1: failed. the process ended with status 1" in (tmp_path / "table.md").read_text()
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strengths": (0.1, 0.2)}, "ascending numbers that start at 0"),
        ({"strengths": (0.0, 0.02)}, "trained_at=0.01: choose one of"),
        ({"shots": ()}, "give numbers from 1 up"),
        ({"repeats": 0}, "give numbers from 1 up"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        NoiseStudy(**change)


def test_rows_are_those_of_both_trainings_and_a_deep_circuit():
    rows = STUDY.rows()
    configs = [row.training for row in rows]
    assert [row.name for row in rows[:6]] == [
        *("implicit", "warmup", "direct-1", "direct-5", "direct-10", "deep-5")
    ]
    assert {config.noise for config in configs[:6]} == {""}
    assert {config.noise for config in configs[6:12]} == {"depolarising=0.01"}
    deep = configs[5]
    assert (deep.ansatz, deep.ansatz_layers, deep.layers) == ("paper-repeated", 5, 1)
    # A model of the other encoding, for the comparison of solvers, is no row of the tables.
    assert [row.key for row in rows[12:]] == ["angle-implicit"] and not rows[12].shown
    chosen = choose_rows(rows, "noisy-direct-5")
    assert [row.key for row in chosen] == ["noisy-direct-5"]
    with pytest.raises(UserError, match="no row of this study"):
        choose_rows(rows, "direct-7")


def test_reproduce_noise_refuses_options_of_tables(capsys):
    assert main(["reproduce", "noise", "--warmup-epochs", "3"]) == 2
    assert "cannot be given with noise" in capsys.readouterr().err
    assert main(["reproduce", "noise", "--epochs", "0"]) == 2
    assert "--epochs 0: give a number of at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_points_are_measured_on_the_devices_that_they_name(fake, monkeypatch, tmp_path):
    monkeypatch.setattr(NoiseStudy, "more", lambda *_: {})
    rows = "noiseless-implicit,noiseless-direct-1,noisy-implicit"
    results = reproduce(STUDY, tmp_path, rows=rows, launch=worker.compute)
    exact = [STUDY.exact(strength).name for strength in STUDY.strengths]
    sampled = [STUDY.sampled(shots).name for shots in STUDY.shots]

    def mean(row, metric, device):
        return results.mean(f"noiseless-{row}", metric, device)[0]

    # The equilibrium of the noisy circuit is found as well as that of the perfect one.
    assert mean("implicit", "converged", exact[1]) > 0.9
    residuals = [mean("implicit", "residual", device) for device in sampled]
    assert residuals[1] / residuals[0] == pytest.approx(np.sqrt(50 / 400), rel=0.3)
    assert mean("direct-1", "shots_per_inference", sampled[0]) == 50
    assert mean("implicit", "shots_per_inference", sampled[0]) > 12 * 50
    perfect, noisy = (mean("direct-1", "residual", device) for device in exact)
    assert noisy != perfect


@pytest.mark.slow
def test_every_solver_falls_as_the_root_of_the_shots(run):
    found = noise_solvers.solver_errors(run)
    shots = np.log(found["shots"][:5])
    for name, errors in found["errors"].items():
        slope = np.polyfit(shots, np.log(errors[:5]), 1)[0]
        assert slope == pytest.approx(-0.5, abs=0.08), name
    ratio = np.array(found["errors"]["krasnoselskii-mann"]) / found["errors"]["picard"]
    assert np.all(ratio[:5] < 0.5)
