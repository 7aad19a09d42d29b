"""The command line: one line and status 2 for a mistake, 130 for Ctrl-C, and never a traceback."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import docstring_parser
import pytest
from fake_trainer import FakeTrainer

from qdeq.cli import main
from qdeq.cli.arguments import parse
from qdeq.cli.draw import DrawCommand
from qdeq.cli.main import COMMANDS
from qdeq.cli.train import TrainCommand, config_of
from qdeq.runs import run as run_module
from qdeq.runs import session
from qdeq.runs.circuit import circuit_of
from qdeq.runs.run_folder import RunFolder
from qdeq.studies.catalogue import STUDIES
from qdeq.training.config import PRESETS, TrainConfig
from qdeq.training.options import ModelOptions


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Replace the compiled loop and work in an empty folder."""

    class Trainer(FakeTrainer):
        pass

    monkeypatch.setattr(session, "Trainer", Trainer)
    monkeypatch.setattr(session, "write_report", lambda *_, **__: [])  # a second per run
    monkeypatch.chdir(tmp_path)
    return Trainer


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run; tests must not change it."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "Trainer", FakeTrainer)
        run_module.train(TrainConfig(epochs=2), out=path)
    return path


@pytest.fixture
def run(finished, tmp_path):
    """A copy of a finished run that a test may damage, as `run` in the working folder."""
    import shutil

    shutil.copytree(finished, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def mistake(capsys, *argv):
    """Run a command that must fail; return its one line on stderr."""
    status = main(argv)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert status == 2
    assert len(lines) == 1 and lines[0].startswith("qdeq: error: "), captured.err
    assert "Traceback" not in captured.out
    return lines[0].removeprefix("qdeq: error: ")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("trian", "did you mean train"),
        ("train --epohcs 3", "did you mean --epochs"),
        ("train --epohcs=3", "did you mean --epochs"),
        ("train --lr 0.1", "did you mean --learning-rate"),
        ("train --epoch 3", "did you mean --epochs?"),
        ("train --qubits 5", "did you mean --n-qubits"),
        ("train --warmup 5", "did you mean --warmup-epochs or --warmup-layers"),
        ("train --batch 5", "did you mean --batch-size"),
        ("train --optimizer adam", "did you mean --optimiser"),
        ("draw --qubits 5", "did you mean --n-qubits"),
        ("eval run", "did you mean evaluate"),
        ("fit", "did you mean train"),
        ("plot", "did you mean draw"),
        ("reproduce mnist4", "did you mean mnist-4"),
        ("train -x", "not an option of qdeq train"),
        ("train extra", "one argument too many"),
        ("train --epochs", "--epochs needs a value"),
        ("train --out --json", "--out needs a value"),
        ("train --json=yes", "takes no value"),
        ("train --epochs many", "--epochs many: give a whole number"),
        ("train --epochs 1.5", "whole number"),
        ("train --epochs -3", "--epochs -3: give a number of at least 1"),
        ("train --learning-rate fast", "--learning-rate fast: give a number"),
        ("train --learning-rate nan", "finite number"),
        ("train --learning_rate=-1", "above 0"),
        ("train --data mnist", "choose one of digits-4, digits-10, mnist-4"),
        ("train --solver bfgs", "choose one of picard, anderson, broyden"),
        ("train --preset papr", "did you mean paper"),
        ("train --warmup-epochs 101", "only 100 epochs"),
        ("train --preset demo --mode direct", "--warmup-epochs"),
        ("train --n-features 15", "square"),
        ("train --data mnist-4 --data-dir nowhere", "--data-dir 'nowhere' does not exist"),
        ("train --out file/run", "cannot be written"),
        ("train --out occupied", "not empty"),
        ("train --resume nowhere", "no such folder"),
        ("train --resume occupied", "no config.json"),
        ("train --resume occupied --solver picard --seed 3", "--seed, --solver cannot be given"),
        ("evaluate", "needs RUN"),
        ("evaluate a b", "one argument too many"),
        ("evaluate nowhere", "no such folder"),
        ("evaluate a --split all", "choose one of test, valid, train"),
        ("draw --n-qubits 3", "at least 4"),
        ("draw --encoding phase", "choose one of amplitude, angle"),
        ("completion tcsh", "SHELL tcsh: choose one of bash, zsh, fish"),
        ("draw --out picture.doc", ".png"),
        ("draw --out nowhere/picture.png", "cannot be written"),
        ("draw nowhere", "no such folder"),
        ("draw run --encoding angle", "cannot be given with RUN"),
        ("report nowhere", "no such folder"),
    ],
)
def test_a_mistake_ends_with_one_line_that_says_what_to_do(fake, tmp_path, capsys, command, words):
    (tmp_path / "file").write_text("")
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "notes.txt").write_text("mine")
    assert words in mistake(capsys, *command.split())
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "occupied", "runs"}
    assert not list(tmp_path.glob("runs/*"))


def test_too_few_qubits_is_a_users_mistake(monkeypatch, tmp_path, capsys):
    # With the real loop, which refuses before it compiles.
    monkeypatch.chdir(tmp_path)
    line = mistake(capsys, "train", "--n-qubits", "3", "--out", "run")
    assert line.startswith("--n-qubits 3")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "command"),
    [
        ("model.safetensors", b"\x08", "evaluate run"),
        ("model.safetensors", None, "evaluate run"),
        ("config.json", b'{"data": "dig', "evaluate run"),
        ("config.json", b"{}", "train --resume run"),
        ("config.json", b"\xff\xfe", "draw run"),
        ("checkpoint/state.safetensors", b"", "train --resume run"),
        ("checkpoint/state.safetensors", None, "train --resume run"),
        ("metrics.jsonl", b"no json\n", "train --resume run"),
        ("metrics.jsonl", None, "report run"),
        ("summary.json", b"[1]", "report run"),
        ("summary.json", None, "report run"),
    ],
)
def test_a_damaged_run_folder_names_the_file(fake, run, capsys, name, content, command):
    path = run.path / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert name.rpartition("/")[2] in mistake(capsys, *command.split())


def test_ctrl_c_in_mid_epoch_ends_with_130_and_how_to_resume(fake, tmp_path, capsys):
    fake.interrupt_in_epoch = 2
    assert main(["train", "--epochs", "3", "--out", "run"]) == 130
    captured = capsys.readouterr()
    assert captured.err == "qdeq: stopped after epoch 1; `qdeq train --resume run` continues\n"
    fake.interrupt_in_epoch = None
    assert main(["train", "--resume", "run"]) == 0
    assert RunFolder(tmp_path / "run").read_summary().epochs == 3


def test_options_override_the_preset_wherever_they_stand():
    for argv in (["--preset", "demo", "--epochs", "9"], ["--epochs=9", "--preset=demo"]):
        with_warmup = [*argv, "--warmup-epochs", "2"]
        command, given = parse(TrainCommand, with_warmup, prog="qdeq train")
        assert config_of(command) == PRESETS["demo"].replace(epochs=9, warmup_epochs=2)
        assert given == {"preset", "epochs", "warmup_epochs"}


def test_a_runs_configuration_trains_the_same_once_more(fake, tmp_path):
    words = ["--preset", "demo", "--epochs", "3", "--warmup-epochs", "1", "--seed", "4"]
    assert main(["train", *words, "--out", "first", "--quiet"]) == 0
    assert main(["train", "--config", "first/config.json", "--out", "again", "--quiet"]) == 0
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    more = ["--config=first", "--seed", "5", "--out", "other", "--quiet"]
    assert main(["train", *more]) == 0
    first, other = RunFolder(tmp_path / "first"), RunFolder(tmp_path / "other")
    assert other.read_config() == first.read_config().replace(seed=5)


def test_the_configuration_of_many_seeds_has_them_all(fake, tmp_path):
    assert main(["train", "--epochs", "2", "--seeds", "3,1", "--out", "run", "--quiet"]) == 0
    assert main(["train", "--config", "run", "--out", "again", "--quiet"]) == 0
    assert RunFolder(tmp_path / "again").read_seeds() == [3, 1]
    assert main(["train", "--config", "run", "--seed", "1", "--out", "one", "--quiet"]) == 0
    one, seed = tmp_path / "one", tmp_path / "run" / "seed-1"
    assert (one / "config.json").read_bytes() == (seed / "config.json").read_bytes()


@pytest.mark.parametrize("seeds", ["3", "[3]", '"3"', '"3:4"'])
def test_seeds_in_a_toml_file_are_a_number_a_list_or_what_the_words_have(fake, tmp_path, seeds):
    (tmp_path / "my.toml").write_text(f"epochs = 1\nseeds = {seeds}\n")
    assert main(["train", "--config", "my.toml", "--out", "run", "--quiet"]) == 0
    assert RunFolder(tmp_path / "run").read_seeds() == [3]


# What `qdeq train` takes and no configuration holds.
ASIDE = ("preset", "out", "resume", "track", "json", "quiet", "config", "devices")


def test_a_toml_file_has_options_which_words_override(fake, tmp_path):
    (tmp_path / "my.toml").write_text('epochs = 3\nlearning-rate = 0.1\nsolver = "newton"\n')
    assert main(["train", "--config", "my.toml", "--epochs", "2", "--out", "run", "--quiet"]) == 0
    expected = TrainConfig(epochs=2, learning_rate=0.1, solver="newton")
    assert RunFolder(tmp_path / "run").read_config() == expected


def test_a_file_of_another_kind_is_not_called_damaged(fake, tmp_path, capsys):
    (tmp_path / "my.yaml").write_text("epochs: 2\n")
    assert "is of no kind that is read" in mistake(capsys, "train", "--config", "my.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("lr = 0.1", "did you mean learning-rate"),
        ("epochs = 0", "--epochs 0: give a number of at least 1"),
        ('epochs = "many"', "give a whole number"),
        ("epochs = [1]", "give a whole number"),
        ("epochs", "is not TOML"),
        ("batch-size = 8\nbatch_size = 9", "batch_size is there twice"),
        ("epochs = 99999999999999999999", "at most 2**31 - 1"),
        *((f"seeds = {v}", "seeds=") for v in ("true", "1.5", "-1", "[]", "[1.5]", "{ a = 1 }")),
        ("seeds = 99999999999", "below 2**32"),
        *((f'{key} = "demo"', f"{key} is given on the command line (--{key})") for key in ASIDE),
        ('process-id = "1"', "(--process-id)"),
        (None, "cannot be read"),
    ],
)
def test_a_file_with_a_mistake_is_one_line(fake, tmp_path, capsys, content, words):
    if content is not None:
        (tmp_path / "my.toml").write_text(content)
    assert words in mistake(capsys, "train", "--config", "my.toml")


def test_without_options_the_defaults_are_the_papers():
    command, given = parse(TrainCommand, [], prog="qdeq train")
    assert config_of(command) == TrainConfig() and given == frozenset()


def test_json_is_the_only_line_on_stdout(fake, capsys):
    assert main(["train", "--epochs", "2", "--out", "run", "--json"]) == 0
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    assert json.loads(line)["run"] == "run"
    assert "run folder" in captured.err


def test_the_default_run_folder_is_in_runs(fake, tmp_path):
    assert main(["train", "--epochs", "2", "--quiet"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("digits-4-implicit-")


def test_a_log_file_gets_few_lines(fake, capsys):
    assert main(["train", "--epochs", "100", "--out", "run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 10 <= sum(line.startswith("epoch ") for line in lines) <= 12
    assert lines[-1].split() == ["run", "folder", "run"]


@pytest.mark.parametrize(
    "words",
    ["evaluate a", "predict a b", "export a", "resources", "certify a", "draw", "sweep --out a"],
)
def test_a_command_that_takes_its_time_shows_that_it_is_at_work(monkeypatch, capsys, words):
    name, *rest = words.split()
    module = sys.modules["qdeq.cli.main"]
    monkeypatch.setattr(module, "_SECONDS_OF_SILENCE", 0.05)
    monkeypatch.setattr(module.COMMANDS[name], "execute", lambda *_: time.sleep(0.3))
    assert main([name, *rest]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == f"qdeq {name}: at work for 0 s ...\n"


def test_quiet_prints_nothing(fake, capsys):
    assert main(["train", "--epochs", "2", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_evaluate_prints_a_table_or_json(fake, run, capsys):
    assert main(["evaluate", "run"]) == 0
    assert "accuracy" in capsys.readouterr().out
    assert main(["evaluate", "run", "--split", "valid", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["split"] == "valid" and sum(map(sum, result["confusion_matrix"])) > 0


def test_draw_prints_the_circuit_and_writes_pictures(fake, run, tmp_path, capsys):
    assert main(["draw", "run"]) == 0
    of_run = capsys.readouterr().out
    assert main(["draw"]) == 0
    assert capsys.readouterr().out == of_run
    assert "CRX" in of_run or "RX" in of_run
    assert main(["draw", "--encoding", "angle", "--out", "circuit.png"]) == 0
    assert (tmp_path / "circuit.png").read_bytes().startswith(b"\x89PNG")


def test_draw_has_every_option_of_the_model_that_train_has(capsys):
    options = {field.name for field in dataclasses.fields(ModelOptions)} | {"n_features"}
    assert options <= {field.name for field in dataclasses.fields(TrainCommand)}
    assert options <= {field.name for field in dataclasses.fields(DrawCommand)}


@pytest.mark.parametrize(
    "options",
    [
        "--encoding table --rotations 3 --uploads 2",
        "--encoding angle --ansatz hardware-efficient --ansatz-layers 2",
        "--ansatz strongly-entangling --observables z-strings",
        "--observables xyz --n-qubits 5 --n-features 25",
        "--noise depolarising=0.01,readout=0.02 --trainable published",
        "--method statevector --head affine --max-contraction 0.9",
    ],
)
def test_draw_shows_the_circuit_that_train_makes_of_the_same_options(capsys, monkeypatch, options):
    monkeypatch.setenv("COLUMNS", "100")  # whatever the terminal of whoever tests has
    words = options.split()
    command, _ = parse(TrainCommand, words, prog="qdeq train")
    expected = circuit_of(config_of(command)).draw(max_width=100)
    assert main(["draw", *words]) == 0
    drawn, _, noise = capsys.readouterr().out.partition("\nnoise: ")
    assert drawn.strip() == expected.strip()
    assert noise.strip() == command.noise


@pytest.mark.slow
def test_report_writes_pictures_and_page_again(fake, run, capsys):
    run.report_path.unlink()
    assert main(["report", "run"]) == 0
    *pictures, page = capsys.readouterr().out.splitlines()
    assert page == "run/report.html" and run.report_path.exists()
    assert sorted(pictures) == sorted(f"run/figures/{p.name}" for p in run.figures_path.iterdir())


@pytest.mark.parametrize("command", ["train", "evaluate", "draw", "report"])
def test_every_command_has_help(capsys, command):
    assert main([command, "--help"]) == 0
    assert f"usage: qdeq {command}" in capsys.readouterr().out
    assert main(["--help"]) == 0
    assert f"  {command} " in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_breaks_its_lines_where_the_terminal_ends(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "2000")
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    fields = {field.name for field in dataclasses.fields(COMMANDS[name])}
    described = [
        " ".join(param.description.split())
        for owner in COMMANDS[name].__mro__[:-1]
        for param in docstring_parser.parse_from_object(owner).params
        if param.arg_name in fields and param.description
    ]
    assert described and not [one for one in described if one not in text]


def test_help_ends_in_a_terminal_of_five_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "5")
    assert main(["export", "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines()[3:])) == 40
    assert os.environ["COLUMNS"] == "5"


def test_every_study_is_named_where_it_is_looked_for(capsys):
    assert main(["reproduce", "--help"]) == 0
    page = Path(__file__).parents[1] / "docs/reproduce.md"
    documented = page.read_text(encoding="utf-8")
    for text in (capsys.readouterr().out, documented):
        assert not [name for name in STUDIES if not re.search(rf"\b{name}\b", text)]


def test_help_and_version_do_not_import_jax():
    # In a process of its own: this one has imported JAX long ago.
    program = (
        "import sys; from qdeq.cli import main; "
        "assert main(['--version']) == 0; assert main(['train', '--help']) == 0; "
        "assert main(['train', '--epochs', '0']) == 2; "
        "slow = {'jax', 'matplotlib', 'sklearn'} & set(sys.modules); assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("qdeq ")


def test_python_m_qdeq_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "qdeq", "train", "--epochs", "x"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "qdeq: error: --epochs x: give a whole number\n"
