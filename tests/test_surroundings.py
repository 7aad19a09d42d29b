"""Where the package runs: consoles without Unicode, readers that go, no home folder, any locale."""

import ast
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import qdeq
from qdeq import _folders
from qdeq._console import PLAIN, can_print, plain_where_needed
from qdeq._folders import cache_folder
from qdeq.circuits import (
    AmplitudeEncoding,
    Circuit,
    Operation,
    hardware_efficient,
    paper_ansatz,
    z_of_every_wire,
    z_strings,
)
from qdeq.cli import main
from qdeq.cli.main import COMMANDS
from qdeq.data import load

SOURCE = Path(qdeq.__file__).parent
POOR = ["ascii", "cp1252", "latin-1", "cp437", "shift_jis", "koi8-r"]


class Console:
    """Standard output or error of another encoding; `text` is what was written."""

    def __init__(self, encoding: str, errors: str = "strict"):
        self.stream = io.TextIOWrapper(io.BytesIO(), encoding, errors, write_through=True)

    @property
    def text(self) -> str:
        return self.stream.buffer.getvalue().decode(self.stream.encoding)  # pyright: ignore


def use_consoles(monkeypatch, encoding: str = "ascii") -> tuple[Console, Console]:
    """Called by the test itself: pytest puts streams of its own in place after the fixtures."""
    out, error = Console(encoding), Console(encoding, "backslashreplace")
    monkeypatch.setattr(sys, "stdout", out.stream)
    monkeypatch.setattr(sys, "stderr", error.stream)
    return out, error


# --- drawings ----------------------------------------------------------------------------------

DRAWN = [
    paper_ansatz(4).draw(encoding=AmplitudeEncoding(4, 16), observables=z_of_every_wire(4)),
    hardware_efficient(5, 2).draw(observables=z_strings(5, 2)),
]


@pytest.mark.parametrize("encoding", POOR)
def test_a_drawing_is_ascii_where_the_console_cannot_show_more(monkeypatch, encoding):
    half = Operation("RY", (0,), parameter=0, factor=-0.5, offset=np.pi)
    circuit = Circuit(3, (half, Operation("CNOT", (0, 2)), Operation("SWAP", (1, 2))))
    before = circuit.draw(max_width=40)
    monkeypatch.setattr(sys, "stdout", Console(encoding).stream)
    for max_width in (20, 40, 100):
        text = circuit.draw(max_width=max_width)
        text.encode(encoding)
        assert text.isascii()
        for row in text.split("\n\n"):
            assert len({len(line) for line in row.split("\n")}) == 1
    assert circuit.draw().split("\n") == [
        "0: --RY(-theta0/2+pi)-.*----|",
        "1: -------------------|--.x-|",
        "2: -------------------'+-'x-|",
    ]
    monkeypatch.setattr(sys, "stdout", Console("utf-8").stream)
    assert circuit.draw(max_width=40) == before


def test_without_standard_output_a_drawing_is_what_it_was(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert (
        paper_ansatz(4).draw(encoding=AmplitudeEncoding(4, 16), observables=z_of_every_wire(4))
        == (DRAWN[0])
    )
    assert can_print("●")


def test_every_stand_in_of_a_drawing_is_one_character():
    assert all(len(stand_in) == 1 for stand_in in PLAIN.values())
    assert all(text.translate(PLAIN).replace("θ", "t").isascii() for text in DRAWN)


# --- the command -------------------------------------------------------------------------------


def characters_of_the_source() -> str:
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    return "".join(sorted({character for character in text if not character.isascii()}))


@pytest.mark.parametrize("encoding", POOR)
def test_whatever_the_package_prints_is_shown_somehow(monkeypatch, encoding):
    consoles = use_consoles(monkeypatch, encoding)
    special = characters_of_the_source()
    assert "±" in special and "─" in special
    with plain_where_needed():
        print(special + "\N{SNOWMAN}")
        print(special, file=sys.stderr)
    assert "\\u2603" in consoles[0].text
    assert sys.stdout.errors == "strict" and sys.stderr.errors == "backslashreplace"


def test_file_names_that_are_not_text_survive_a_poor_console(monkeypatch):
    out = Console("ascii", "surrogateescape")
    monkeypatch.setattr(sys, "stdout", out.stream)
    with plain_where_needed():
        print(os.fsdecode(b"caf\xe9") + " ±", end="")
    assert out.stream.buffer.getvalue() == b"caf\xe9 +/-"  # pyright: ignore


def test_who_asked_for_question_marks_gets_them(monkeypatch):
    out = Console("ascii", "replace")
    monkeypatch.setattr(sys, "stdout", out.stream)
    with plain_where_needed():
        print("±", end="")
    assert out.text == "?"


@pytest.mark.parametrize("words", [["draw"], ["--help"], *([name, "--help"] for name in COMMANDS)])
def test_commands_print_on_an_ascii_console(words, monkeypatch):
    consoles = use_consoles(monkeypatch)
    monkeypatch.setenv("QDEQ_CACHE", "off")
    assert main(words) == 0
    assert consoles[0].text.isascii() and len(consoles[0].text) > 100


def test_mistakes_are_one_line_on_an_ascii_console(monkeypatch):
    consoles = use_consoles(monkeypatch)
    monkeypatch.setenv("QDEQ_CACHE", "off")
    assert main(["draw", "--encoding", "phäse ±"]) == 2
    assert consoles[1].text.count("\n") == 1 and "ph\\xe4se +/-" in consoles[1].text


@pytest.mark.parametrize("columns", ["0", "1", "5", "20", "many", "-3"])
def test_terminals_of_any_width_will_do(capsys, monkeypatch, columns):
    monkeypatch.setenv("QDEQ_CACHE", "off")
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["draw"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("0: ─") and "\x1b" not in out
    assert max(map(len, out.splitlines())) <= (24 if columns in ("1", "5", "20") else 100)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [["--version"], ["draw", "--help"]])
def test_output_that_cannot_be_written_is_one_line(words):
    command = [sys.executable, "-m", "qdeq", *words]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 2 and len(lines) == 1
    assert lines[0].startswith("qdeq: error: No space left on device: what was written")


def read_nothing(*words: str) -> tuple[int, bytes]:
    command = [sys.executable, "-m", "qdeq", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with process.stderr as messages:
        error = messages.read()
    # On a busy machine a command says that it is at work.
    said = [line for line in error.splitlines() if b": at work for" not in line]
    return process.wait(), b"\n".join(said)


@pytest.mark.skipif(os.name != "posix", reason="pipes of other systems end otherwise")
def test_a_reader_that_goes_ends_the_command_in_silence():
    assert read_nothing("--help") == (0, b"")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="pipes of other systems end otherwise")
@pytest.mark.parametrize("words", [["draw"], ["resources"], ["train", "--help"]])
def test_a_reader_that_goes_ends_every_command_in_silence(words):
    assert read_nothing(*words) == (0, b"")


# --- folders -----------------------------------------------------------------------------------


@pytest.fixture
def no_home(monkeypatch):
    """A user without HOME and without an entry in the list of users, as in many containers."""
    pwd = pytest.importorskip("pwd", reason="no list of users on Windows")

    def unknown(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("HOME", "XDG_CACHE_HOME", "QDEQ_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    _folders.say_once.cache_clear()
    yield monkeypatch
    _folders.say_once.cache_clear()


def test_without_a_home_folder_nothing_is_kept_and_it_is_said_once(no_home):
    with pytest.warns(UserWarning, match="no home folder .* set QDEQ_CACHE") as caught:
        assert cache_folder() is None
        assert cache_folder() is None
        assert load("digits-4").n_features == 16
    assert len(caught) == 1


@pytest.mark.parametrize("home", ["somewhere", ".", "~"])
def test_a_home_folder_that_is_no_absolute_path_is_none(no_home, home):
    no_home.setenv("HOME", home)
    with pytest.warns(UserWarning, match="no home folder"):
        assert cache_folder() is None


def test_a_folder_that_is_named_needs_no_home(no_home, tmp_path):
    no_home.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "qdeq"
    no_home.setenv("QDEQ_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    no_home.setenv("QDEQ_CACHE", "off")
    assert cache_folder() is None
    no_home.setenv("QDEQ_CACHE", "~/mine")
    with pytest.raises(qdeq.UserError, match="QDEQ_CACHE='~/mine'"):
        cache_folder()


def test_a_relative_xdg_folder_is_ignored(monkeypatch, tmp_path):
    monkeypatch.delenv("QDEQ_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/cache")
    assert cache_folder() == tmp_path / ".cache" / "qdeq"


@pytest.mark.parametrize("kind", ["file", "link to nothing", "link to itself"])
def test_a_home_that_cannot_hold_a_cache_is_said_once_and_does_no_harm(monkeypatch, tmp_path, kind):
    monkeypatch.delenv("QDEQ_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    home = tmp_path / "home"
    if kind == "file":
        home.touch()
    else:
        home.symlink_to(home if kind == "link to itself" else "/proc/nothing")
    monkeypatch.setenv("HOME", str(home))
    with pytest.warns(UserWarning, match="features could not be kept") as caught:
        assert load("digits-4").n_features == load("digits-4").n_features == 16
    assert len(caught) == 1


# --- locales -----------------------------------------------------------------------------------


def is_text_without_encoding(call: ast.Call) -> bool:
    """Whether a call opens a text whose encoding the user's locale decides."""
    options = {keyword.arg for keyword in call.keywords}
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name in ("read_text", "write_text"):
        return "encoding" not in options
    if name in ("run", "Popen", "check_output"):
        return "text" in options and "encoding" not in options
    if name != "open" or "encoding" in options:
        return False
    builtin = isinstance(call.func, ast.Name)
    mode = call.args[1:2] if builtin else call.args[:1]
    if not mode:
        return True
    return isinstance(mode[0], ast.Constant) and "b" not in str(mode[0].value)


def test_no_file_is_read_or_written_in_the_encoding_of_the_locale():
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and is_text_without_encoding(node):
                found.append(f"{path.relative_to(SOURCE)}:{node.lineno}")
    assert found == []


def test_numbers_have_points_under_every_locale():
    import locale

    before = locale.setlocale(locale.LC_ALL)
    for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "C"):
        try:
            locale.setlocale(locale.LC_ALL, name)
        except locale.Error:  # not installed
            continue
        try:
            with warnings.catch_warnings():
                assert "RX(0.5)" in Circuit(1, (Operation("RX", (0,), angle=0.5),)).draw()
        finally:
            locale.setlocale(locale.LC_ALL, before)
