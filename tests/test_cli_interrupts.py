"""Ctrl-C ends the command in one line whenever it comes: while packages load, data, compiling."""

import importlib
import os
import signal
import subprocess
import sys
import time

import pytest

# Where a process may be when it is interrupted: a text that it has printed, and seconds after it.
COMMAND = [sys.executable, "-m", "qdeq"]


@pytest.fixture(autouse=True)
def heard():
    """Ctrl-C is heard here, and by processes started here: a job in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(words, tmp_path, *, seconds, after=None):
    """Start the command, press Ctrl-C, and return its status and what it wrote."""
    environment = os.environ | {"QDEQ_CACHE": "off", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*COMMAND, *words],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    shown = ""
    if after is not None:
        assert process.stdout is not None
        for line in process.stdout:
            shown += line
            if after in line:
                break
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, shown + out, err


def check(status, err):
    assert status == 130, err
    assert "Traceback" not in err and "Error" not in err
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith(("qdeq: interrupted", "qdeq: stopped after")), (
        err
    )


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.4, 0.7, 1.0, 1.5])
def test_ctrl_c_while_packages_load_is_one_line(tmp_path, seconds):
    status, _, err = interrupted(["train", "--epochs", "1000000"], tmp_path, seconds=seconds)
    for _ in range(5):
        if "qdeq" in err:
            break
        seconds += 0.1  # Python itself was not up yet
        status, _, err = interrupted(["train", "--epochs", "1000000"], tmp_path, seconds=seconds)
    check(status, err)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "seconds"), [("loading data", 0.05), ("compiling", 0.3)])
def test_ctrl_c_while_data_load_and_programs_compile_is_one_line(tmp_path, stage, seconds):
    words = ["train", "--epochs", "1000000", "--out", "run"]
    status, _, err = interrupted(words, tmp_path, seconds=seconds, after=stage)
    check(status, err)


def test_ctrl_c_that_arrives_as_another_error_is_still_an_interrupt(monkeypatch, capsys):
    # As through a callback of a library that makes errors of its own of whatever it catches.
    from qdeq.cli import main
    from qdeq.cli.draw import DrawCommand

    def execute(self, given):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except KeyboardInterrupt:
            raise ImportError("half a module") from None

    monkeypatch.setattr(DrawCommand, "execute", execute)
    assert main(["draw"]) == 130
    assert capsys.readouterr().err == "qdeq: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_a_module_loads_waits_until_it_has(monkeypatch, tmp_path, capsys):
    # Packages swallow it there, and what NumPy's C interface cannot import it prints and renames.
    from qdeq.cli import main
    from qdeq.cli.draw import DrawCommand

    (tmp_path / "swallows.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(0.1)\n"
        "except BaseException:\n"
        "    raise AssertionError('it was interrupted here') from None\n"
    )

    def execute(self, given):
        importlib.import_module("swallows")
        time.sleep(5)
        raise AssertionError("it went on")

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(DrawCommand, "execute", execute)
    assert main(["draw"]) == 130
    assert capsys.readouterr().err == "qdeq: interrupted\n"
    assert "swallows" in sys.modules  # as a whole


def test_an_error_without_ctrl_c_is_not_called_an_interrupt(monkeypatch):
    from qdeq.cli import main
    from qdeq.cli.draw import DrawCommand

    def execute(self, given):
        raise ImportError("half a module")

    monkeypatch.setattr(DrawCommand, "execute", execute)
    with pytest.raises(ImportError, match="half a module"):
        main(["draw"])
