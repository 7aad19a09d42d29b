"""What lies in the cache folder is used only if nobody else could have put it there, and whole."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import pytest

from qdeq import _folders
from qdeq._folders import private_folder
from qdeq._kept import intact, keep
from qdeq.cli.compilation import keep_compiled_programs
from qdeq.data.cache import cached_arrays
from qdeq.errors import UserError
from qdeq.native import library
from qdeq.training.programs import kept_on_disk

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid"), reason="Windows has other permissions, which are not looked at"
)
as_root = pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() != 0, reason="only root can give files away"
)
needs_compiler = pytest.mark.skipif(library._compiler() is None, reason="no C++ compiler")

STRANGER = 12345


@pytest.fixture(autouse=True)
def unsaid():
    """Every test hears what is said once in a process."""
    _folders.say_once.cache_clear()


@pytest.fixture
def reachable(monkeypatch):
    """A folder that others can look into; `tmp_path` is closed to them, whatever lies in it."""
    monkeypatch.setattr("qdeq._folders._is_mine_alone", lambda group: False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        if not all(above.stat().st_mode & 0o011 for above in folder.parents):
            pytest.skip("the folder for temporary files is closed to others")
        yield folder


# --- folders ---------------------------------------------------------------------------------


def test_a_missing_folder_is_made_for_its_owner_alone(tmp_path):
    made = private_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE(made.stat().st_mode) == stat.S_IMODE(made.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o722, 0o1777])
@pytest.mark.parametrize("place", ["the folder", "the one above"])
def test_a_folder_that_others_can_write_is_refused(reachable, mode, place):
    folder = reachable / "a" / "b"
    folder.mkdir(parents=True)
    wide = folder if place == "the folder" else folder.parent
    wide.chmod(mode)
    if mode & stat.S_ISVTX and wide != folder:
        assert private_folder(folder) == folder  # like /tmp: what is in it stays its owner's
    else:
        with pytest.raises(PermissionError, match=f"others can write {wide} .*go-w"):
            private_folder(folder)


def test_a_group_of_the_user_alone_may_write(reachable, monkeypatch):
    reachable.chmod(0o775)
    monkeypatch.setattr("qdeq._folders._is_mine_alone", lambda group: True)
    assert private_folder(reachable) == reachable


def test_what_others_cannot_reach_they_cannot_write(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "closed" / "open").mkdir()
    (tmp_path / "closed" / "open").chmod(0o777)
    assert private_folder(tmp_path / "closed" / "open")


@as_root
@pytest.mark.parametrize("place", ["the folder", "the one above", "a link", "a link's target"])
def test_what_belongs_to_another_user_is_refused(tmp_path, place):
    folder = tmp_path / "above" / "cache"
    folder.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(folder)
    given = {
        "the folder": folder,
        "the one above": folder.parent,
        "a link": link,
        "a link's target": folder,
    }
    os.chown(given[place], STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(PermissionError, match="belongs to another user"):
        private_folder(link if "link" in place else folder)


def test_links_of_ones_own_are_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "disk")
    assert private_folder(tmp_path / "cache" / "native") == tmp_path / "disk" / "native"


# --- files -----------------------------------------------------------------------------------


def kept(folder, content=b"content" * 100):
    fresh = folder / "fresh"
    fresh.write_bytes(content)
    return keep(fresh, folder, "name", ".bin")


def test_a_kept_file_is_found_again(tmp_path):
    path = kept(tmp_path)
    assert intact(tmp_path, "name", ".bin") == path and path.read_bytes() == b"content" * 100
    assert list(tmp_path.iterdir()) == [path]
    assert intact(tmp_path, "nam", ".bin") is None and intact(tmp_path, "name", ".so") is None


@pytest.mark.parametrize("damage", ["truncated", "emptied", "one bit", "a folder", "link", "mode"])
def test_a_file_that_changed_is_left_out(tmp_path, damage, monkeypatch):
    monkeypatch.setattr("qdeq._folders._is_mine_alone", lambda group: False)
    path = kept(tmp_path)
    content = path.read_bytes()
    other = tmp_path / "other"
    match damage:
        case "truncated":
            path.write_bytes(content[:-1])
        case "emptied":
            path.write_bytes(b"")
        case "one bit":
            path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        case "a folder":
            path.unlink()
            path.mkdir()
        case "link":
            path.rename(other)
            path.symlink_to(other)
        case "mode":
            path.chmod(0o666)
    assert intact(tmp_path, "name", ".bin") is None


@as_root
def test_a_file_of_another_user_is_left_out(tmp_path):
    path = kept(tmp_path)
    os.chown(path, STRANGER, STRANGER)
    assert intact(tmp_path, "name", ".bin") is None


# --- kernels ---------------------------------------------------------------------------------

FAST = f"""#!{sys.executable}
import sys, time, pathlib
if "--version" in sys.argv:
    print("fake 1.0")
    sys.exit()
log = pathlib.Path(__file__).with_name("log")
with log.open("a") as file:
    file.write("x")
time.sleep(0.3)
pathlib.Path(sys.argv[sys.argv.index("-o") + 1]).write_bytes(b"library")
"""


def compiler(folder, text=FAST):
    """A program that takes a compiler's place: a real one takes seconds."""
    path = folder / "compiler"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("damage", [b"", b"lib", b"LIBRARY"])
def test_a_damaged_library_is_built_again(tmp_path, damage):
    fake = compiler(tmp_path)
    path = library._built(fake, tmp_path / "native", "float")
    path.write_bytes(damage)
    assert library._built(fake, tmp_path / "native", "float") == path
    assert path.read_bytes() == b"library"
    assert (tmp_path / "log").read_text() == "xx"


@as_root
def test_a_planted_library_is_not_loaded(tmp_path):
    fake = compiler(tmp_path)
    path = library._built(fake, tmp_path / "native", "float")
    os.chown(path, STRANGER, STRANGER)
    assert library._built(fake, tmp_path / "native", "float").stat().st_uid == 0
    assert (tmp_path / "log").read_text() == "xx"


def test_processes_that_start_together_build_once(tmp_path):
    fake = compiler(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        builds = [pool.submit(library._built, fake, tmp_path / "native", "float") for _ in "1234"]
    assert len({build.result() for build in builds}) == 1
    assert (tmp_path / "log").read_text() == "x"


def test_the_solvers_numbers_are_part_of_the_librarys_name(tmp_path, monkeypatch):
    fake = compiler(tmp_path)
    before = library._built(fake, tmp_path / "native", "float")
    flags = [flag.replace("FIRST_STEP=0.2", "FIRST_STEP=0.3") for flag in library.FLAGS]
    assert tuple(flags) != library.FLAGS
    monkeypatch.setattr(library, "FLAGS", tuple(flags))
    assert library._built(fake, tmp_path / "native", "float") != before


@pytest.mark.parametrize("form", ["{}", "{} -m64", "env A=b {}", "{} with a space"])
def test_a_compiler_may_have_options_and_stand_behind_another_program(tmp_path, monkeypatch, form):
    path = compiler(tmp_path)
    if "space" in form:
        path = shutil.copy(path, form.format(path))
        form = "{}"
    monkeypatch.setenv("CXX", form.format(path))
    command = library._compiler()
    assert command is not None
    found = library._built(command, tmp_path / "native", "float")
    assert found.read_bytes() == b"library"


def test_an_unknown_wish_for_kernels_is_a_mistake(monkeypatch):
    monkeypatch.setenv("QDEQ_NATIVE", "no")
    with pytest.raises(UserError, match=r"QDEQ_NATIVE='no': set it to off or build, or leave"):
        library._load.__wrapped__("float")


HANGS = """#!/bin/sh
case "$*" in *--version*) echo fake; exit;; esac
sleep 600
"""
FULL = """#!/bin/sh
case "$*" in *--version*) echo fake; exit;; esac
echo "fatal error: error writing to out.s: No space left on device" >&2
exit 1
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HANGS, "did not finish in 1 seconds"),
        (FULL, "No space left on device"),
        ("#!/bin/sh\nexit 3\n", "could not compile them: no message"),
        ("#!/bin/sh\necho nothing is written\n", "wrote no library"),
        ("no program\n", "Exec format error"),
    ],
)
def test_a_compiler_that_fails_is_told_of_once(tmp_path, monkeypatch, text, reason):
    monkeypatch.setenv("CXX", compiler(tmp_path, text))
    monkeypatch.setenv("QDEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("QDEQ_NATIVE", raising=False)
    monkeypatch.setattr(library, "COMPILE_SECONDS", 1)
    load = library._load.__wrapped__
    with pytest.warns(UserWarning, match=reason) as heard:
        assert reason in load("float").why
        assert reason in load("double").why
    assert len(heard) == 1
    assert not list((tmp_path / "cache" / "native").iterdir())


# --- everything that is kept -----------------------------------------------------------------


@pytest.fixture
def wide_cache(reachable, monkeypatch):
    """A cache folder that others can write, in place of the user's."""
    folder = reachable / "cache"
    for part in (folder, folder / "native", folder / "xla"):
        part.mkdir()
        part.chmod(0o777)
    (folder / "native" / "planted").touch()
    monkeypatch.setenv("QDEQ_CACHE", str(folder))
    return folder


@needs_compiler
def test_kernels_are_not_loaded_from_a_folder_that_others_can_write(wide_cache, monkeypatch):
    monkeypatch.delenv("QDEQ_NATIVE", raising=False)
    with pytest.warns(UserWarning, match="compiled kernels are not used.*others can write"):
        assert "others can write" in library._load.__wrapped__("float").why


def test_features_are_not_read_from_a_folder_that_others_can_write(wide_cache):
    with pytest.warns(UserWarning, match="features could not be kept.*others can write"):
        assert cached_arrays("name", {"a": 1}, lambda: {"x": 2}) == {"x": 2}
    with warnings.catch_warnings(action="error"):  # said once
        assert cached_arrays("name", {"a": 1}, lambda: {"x": 2}) == {"x": 2}
    assert not list(wide_cache.glob("*.npz"))


def test_programs_are_not_kept_where_others_can_write(wide_cache, monkeypatch):
    monkeypatch.delitem(sys.modules, "jax")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    with pytest.warns(UserWarning, match="compiled programs are not kept.*others can write"):
        keep_compiled_programs()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


@pytest.mark.parametrize("mode", [0o777, 0o700])
def test_programs_of_training_are_kept_in_a_folder_of_ones_own_alone(wide_cache, mode):
    assert jax.config.jax_compilation_cache_dir is None
    for folder in (wide_cache, wide_cache / "xla"):
        folder.chmod(mode)
    kept = None if mode == 0o777 else str(wide_cache / "xla")
    with kept_on_disk():
        assert jax.config.jax_compilation_cache_dir == kept


PROGRAM = """
from qdeq import native
print(native.availability())
"""


@needs_compiler
@pytest.mark.slow
def test_a_truncated_library_does_not_end_the_interpreter(tmp_path):
    def run():
        environment = {**os.environ, "QDEQ_CACHE": str(tmp_path), "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert run().startswith("used: built on this machine")
    (path,) = (tmp_path / "native").glob("*.so")
    os.truncate(path, path.stat().st_size // 2)
    assert run().startswith("used: built on this machine")
