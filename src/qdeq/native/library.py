"""Finds or builds the shared library of kernels, and registers it with JAX.

A wheel may bring it (`prebuilt.py`). Otherwise the system's C++ compiler builds it at first use: it
sees this machine's processor and the installed jaxlib's headers, so the file is named after both;
it lies in the user's cache folder, where nobody else can write, and is loaded if it reads back as
it was written. Nothing here raises but for a setting that is none: without a compiler the library
is not available, and `availability()` says why; a warning does, once, where there is one and
something failed.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from qdeq._folders import cache_folder, private_folder, say_once
from qdeq._kept import intact, keep
from qdeq.errors import UserError
from qdeq.native.constants import FLAGS as PORTABLE_FLAGS
from qdeq.native.prebuilt import Prebuilt, prebuilt

FOLDER = Path(__file__).with_name("cpp")
SOURCE = FOLDER / "kernels.cpp"
FLAGS = ("-march=native", "-shared", *PORTABLE_FLAGS)
KERNELS = (
    "qdeq_chain",
    "qdeq_invert",
    "qdeq_pull_back_product_moved",
    *(
        f"qdeq_{w}_{k}"
        for w in ("broyden", "evaluate", "pull_back")
        for k in ("rational", "product")
    ),
)
COMPILE_SECONDS = 120  # more than a slow machine takes
ANSWER_SECONDS = 20  # for `--version`
# Of systems, of libraries that are none, and XLA's of what was built for versions it has given up.
_REFUSALS = (OSError, AttributeError, ValueError, RuntimeError)
_REALS = {"float32": "float", "float64": "double"}


@dataclass(frozen=True)
class Verdict:
    """Whether a library is loaded, and which or why not."""

    used: bool
    why: str

    def __str__(self) -> str:
        return f"{'used' if self.used else 'not used'}: {self.why}"


def serves(dtype: Any) -> bool:
    """Whether there are kernels for JAX's default backend and this type; builds them if need be."""
    real = _REALS.get(jnp.dtype(dtype).name)
    return real is not None and jax.default_backend() == "cpu" and _load(real).used


def availability() -> str:
    """One sentence for people: `used: ...` and which library it is, or `not used: ...` and why."""
    if jax.default_backend() != "cpu":
        return f"not used: they are for CPUs, and JAX runs on {jax.default_backend()}"
    return str(_load(_REALS[jnp.result_type(float).name]))


def target(name: str, dtype: Any) -> str:
    """What a kernel is called in JAX, such as `qdeq_invert_float`; it is there from then on.

    Operands of several types are computed with in the larger one, and not all of them were asked
    whether they are served.
    """
    real = _REALS[jnp.dtype(dtype).name]
    _load(real)
    return f"{name}_{real}"


@functools.cache
def _load(real: str) -> Verdict:
    """Load and register what a wheel brought, else what is built here."""
    wish = os.environ.get("QDEQ_NATIVE", "").lower()
    if wish not in ("", "0", "off", "1", "on", "build"):
        raise UserError(f"QDEQ_NATIVE={wish!r}: set it to off or build, or leave it out")
    if wish in ("0", "off"):
        return Verdict(False, "the environment variable QDEQ_NATIVE switches them off")
    if wish == "build":
        found = Prebuilt(None, "QDEQ_NATIVE=build asks for a build on this machine")
    else:
        found = prebuilt(real)
    if found.file is not None:
        try:
            _register(found.file, real)
        except _REFUSALS as error:
            reason = f"JAX does not take the prebuilt ones ({_first_line(error)})"
            found = Prebuilt(None, reason, failed=True)
        else:
            return Verdict(True, found.why)
    verdict = _build_and_load(real, found)
    if found.failed:
        say_once(f"compiled kernels: {found.why}; {verdict}. QDEQ_NATIVE=off silences this.")
    return verdict


def _build_and_load(real: str, found: Prebuilt) -> Verdict:
    """Build, load and register; `found` says why no prebuilt library will do."""
    folder = cache_folder()
    if folder is None:
        off = os.environ.get("QDEQ_CACHE") == "off"
        reason = "QDEQ_CACHE=off" if off else "no home folder"
        return Verdict(False, f"{reason} leaves no place to keep them; {found.why}")
    compiler = _compiler()
    if compiler is None:
        missing = "there is no C++ compiler (c++, g++, clang++ or $CXX)"
        return Verdict(False, f"{missing}; {found.why}")
    try:
        _register(_built(compiler, folder / "native", real), real)
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line.lower()]
        reason = f"{compiler} could not compile them: {(lines or ['no message'])[0]}"
    except subprocess.TimeoutExpired as error:
        reason = f"{compiler} did not finish in {error.timeout:.0f} seconds"
    except _REFUSALS as error:
        reason = _first_line(error)
    else:
        return Verdict(True, f"built on this machine by {compiler}; {found.why}")
    say_once(
        f"compiled kernels are not used, and JAX does their work, slower: {reason}. "
        "QDEQ_NATIVE=off silences this."
    )
    return Verdict(False, reason)


def _register(file: Path, real: str) -> None:
    library = ctypes.cdll.LoadLibrary(str(file))
    # All of them or none: JAX takes no second library's under the same names.
    handlers = {name: jax.ffi.pycapsule(getattr(library, name)) for name in KERNELS}
    for name, handler in handlers.items():
        jax.ffi.register_ffi_target(f"{name}_{real}", handler, platform="cpu")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _compiler() -> str | None:
    """The command that compiles, as a shell has it."""
    named = os.environ.get("CXX")
    # A program, or one with options, or behind another one, such as "ccache g++".
    commands = [[named], named.split()] if named else [["c++"], ["g++"], ["clang++"]]
    for program, *options in filter(None, commands):
        if found := shutil.which(program):
            return shlex.join([found, *options])
    return None


def _built(compiler: str, folder: Path, real: str) -> Path:
    """The library's file, compiled if this source, compiler and machine have none yet."""
    folder = private_folder(folder)
    command = shlex.split(compiler)
    told = _run([*command, "--version"], ANSWER_SECONDS)
    sources = (path.read_text(encoding="utf-8") for path in sorted(FOLDER.iterdir()))
    parts = (*sources, told, *command[1:], *FLAGS, version("jaxlib"), _processor())
    stem = f"{real}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]}"
    if found := intact(folder, stem, ".so"):
        return found
    with _alone_in(folder), tempfile.TemporaryDirectory(dir=folder) as scratch:
        if found := intact(folder, stem, ".so"):  # another process was building it
            return found
        fresh = Path(scratch) / "kernels.so"
        options = [*FLAGS, f"-DQDEQ_REAL={real}", f"-I{jax.ffi.include_dir()}"]
        _run([*command, *options, str(SOURCE), "-o", str(fresh)], COMPILE_SECONDS)
        if not fresh.exists():
            raise OSError(f"{compiler} wrote no library")
        return keep(fresh, folder, stem, ".so")


def _run(command: list[str], seconds: float) -> str:
    """What a command prints; a time limit that holds for the processes it starts as well."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, messages = process.communicate(timeout=seconds)
        except BaseException:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output, messages)
    return output


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait while another process builds here: a sweep's processes start at once.

    No longer than a build takes, and not at all where folders cannot be locked: two builds side by
    side do no harm.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        end = time.monotonic() + COMPILE_SECONDS
        while time.monotonic() < end:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
        yield
    finally:
        os.close(handle)


def _processor() -> str:
    """What `-march=native` looks at: home folders are shared between unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor() + platform.machine()
