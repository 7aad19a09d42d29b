"""`qdeq doctor` and `qdeq completion`: what a user asks when something is missing."""

import dataclasses
import json
import shutil
import subprocess
from importlib import metadata

import pytest

from qdeq.cli import main
from qdeq.cli.main import COMMANDS


def doctor(capsys):
    status = main(["doctor", "--json"])
    return status, json.loads(capsys.readouterr().out)


def pretend(monkeypatch, versions):
    """Let other versions be installed; None: not at all."""
    real = metadata.version

    def version(name):
        if name not in versions:
            return real(name)
        if versions[name] is None:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)


def test_a_sound_installation_has_no_problem(capsys):
    status, found = doctor(capsys)
    assert (status, found["problems"]) == (0, [])
    assert found["packages"]["jax"] == metadata.version("jax")
    assert found["devices"] and found["kernels"]
    assert main(["doctor"]) == 0
    assert "no problems found" in capsys.readouterr().out


def test_pennylane_beside_a_jax_without_its_functions_is_a_problem(monkeypatch, capsys):
    pretend(monkeypatch, {"pennylane": "0.45.1", "jax": "0.11.0"})
    status, found = doctor(capsys)
    (problem,) = found["problems"]
    assert status == 1
    assert "jax<0.11 and 0.11.0 is installed" in problem and "[pennylane]" in problem


def test_an_extra_that_is_missing_says_what_to_install_and_is_no_problem(monkeypatch, capsys):
    pretend(monkeypatch, {"pennylane": None, "jax": "0.11.0"})
    status, found = doctor(capsys)
    assert status == 0 and 'pip install ".[pennylane]"' in found["extras"]["pennylane"]


@pytest.mark.parametrize("package", ["equinox", "optax", "scipy"])
def test_a_package_that_is_too_old_is_a_problem(monkeypatch, capsys, package):
    pretend(monkeypatch, {package: "0.0.1"})
    status, found = doctor(capsys)
    assert status == 1 and any(package in problem for problem in found["problems"])


def test_a_cache_that_is_no_folder_is_a_problem(monkeypatch, capsys, tmp_path):
    # What is found out about kernels is kept for the whole process: leave that alone.
    monkeypatch.setattr("qdeq.native.availability", lambda: "used")
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("QDEQ_CACHE", str(tmp_path / "cache"))
    status, found = doctor(capsys)
    assert status == 1 and any("is not a folder" in problem for problem in found["problems"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_has_every_command_and_option(capsys, shell):
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert name in text
        for field in dataclasses.fields(command):
            dashed = field.name.replace("_", "-")
            assert dashed in text or "Positional" in str(field.type)
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize("loaded", ["", "autoload -Uz compinit && compinit -i"])
def test_zsh_takes_the_completion_with_and_without_its_own(capsys, loaded, tmp_path):
    assert main(["completion", "zsh"]) == 0
    (tmp_path / "qdeq.zsh").write_text(capsys.readouterr().out)
    program = f"{loaded}; source qdeq.zsh && [[ -n $_comps[qdeq] ]]"
    done = subprocess.run(
        ["zsh", "-f", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [("tra", "train"), ("train --sol", "--solver"), ("draw --upl", "--uploads")],
)
def test_fish_completes_commands_and_options(capsys, words, expected, tmp_path):
    assert main(["completion", "fish"]) == 0
    (tmp_path / "qdeq.fish").write_text(capsys.readouterr().out)
    program = f"source qdeq.fish; complete -C 'qdeq {words}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split() == [expected]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("d", {"draw", "doctor"}),
        ("train --sol", {"--solver"}),
        ("train --solver bro", {"broyden"}),
        ("draw --upl", {"--uploads"}),
    ],
)
def test_bash_completes_commands_options_and_values(capsys, words, expected):
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    count = len(words.split())
    program = f"{script}\nCOMP_WORDS=(qdeq {words}); COMP_CWORD={count}; _qdeq"
    program += "; echo ${COMPREPLY[@]}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected
