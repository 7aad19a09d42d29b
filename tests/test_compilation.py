"""The command keeps compiled programs between runs, importing the library does not."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from qdeq.cli.compilation import keep_compiled_programs
import qdeq
assert "jax" not in sys.modules
if sys.argv[1] == "command":
    keep_compiled_programs()
import jax
print(jax.config.jax_compilation_cache_dir)
jax.jit(lambda x: x + 1)(1.0).block_until_ready()
"""


def cache_dir(words, **environment):
    """What a fresh process has as JAX's cache folder, after compiling something."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "QDEQ_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, words],
        capture_output=True,
        text=True,
        env={**clean, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_command_keeps_programs_in_the_users_cache_folder(tmp_path):
    found = cache_dir("command", XDG_CACHE_HOME=str(tmp_path))
    assert found == str(tmp_path / "qdeq" / "xla")
    assert any((tmp_path / "qdeq" / "xla").iterdir())


def test_the_folder_can_be_moved_or_switched_off(tmp_path):
    assert cache_dir("command", QDEQ_CACHE=str(tmp_path / "a")) == str(tmp_path / "a" / "xla")
    assert cache_dir("command", QDEQ_CACHE="off", XDG_CACHE_HOME=str(tmp_path)) == "None"


def test_importing_the_library_switches_nothing_on(tmp_path):
    assert cache_dir("import", XDG_CACHE_HOME=str(tmp_path)) == "None"


@pytest.mark.parametrize("size", [0, 100])
def test_a_half_written_program_is_compiled_again_and_kept(tmp_path, size):
    folder = tmp_path / "xla"
    cache_dir("command", QDEQ_CACHE=str(tmp_path))
    whole = {path: path.stat().st_size for path in folder.glob("*-cache")}
    assert whole
    for path in whole:
        os.truncate(path, size)
    cache_dir("command", QDEQ_CACHE=str(tmp_path))
    # The time it took to compile is part of it.
    assert all(path.stat().st_size > whole[path] / 2 for path in whole)
