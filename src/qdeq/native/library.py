"""Builds the shared library with the system's C++ compiler, keeps it, and registers it with JAX.

The compiler sees this machine's processor and the installed jaxlib's headers, so the file is named
after both; it lies in the user's cache folder. Nothing here raises: without a compiler the library
is not available, and `availability()` says why.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from qdeq._folders import cache_folder

FOLDER = Path(__file__).with_name("cpp")
SOURCE = FOLDER / "kernels.cpp"
FLAGS = ("-O2", "-march=native", "-fno-math-errno", "-std=c++17", "-fPIC", "-shared", "-w")
KERNELS = (
    "qdeq_invert",
    *(
        f"qdeq_{w}_{k}"
        for w in ("broyden", "evaluate", "pull_back")
        for k in ("rational", "product")
    ),
)
COMPILE_SECONDS = 120  # more than a slow machine takes
_REALS = {"float32": "float", "float64": "double"}


def serves(dtype: Any) -> bool:
    """Whether there are kernels for JAX's default backend and this type; builds them if need be."""
    real = _REALS.get(jnp.dtype(dtype).name)
    return real is not None and jax.default_backend() == "cpu" and _load(real) is None


def availability() -> str:
    """One sentence for people: that the kernels are used, or why not."""
    if jax.default_backend() != "cpu":
        return f"not used: they are for CPUs, and JAX runs on {jax.default_backend()}"
    return _load(_REALS[jnp.result_type(float).name]) or "used"


def target(name: str, dtype: Any) -> str:
    """What a kernel is called in JAX, such as `qdeq_invert_float`."""
    return f"{name}_{_REALS[jnp.dtype(dtype).name]}"


@functools.cache
def _load(real: str) -> str | None:
    """Build, load and register; the reason where that is not possible."""
    if os.environ.get("QDEQ_NATIVE", "").lower() in ("0", "off"):
        return "not used: the environment variable QDEQ_NATIVE switches them off"
    folder = cache_folder()
    if folder is None:
        return "not used: QDEQ_CACHE=off leaves no place to keep them"
    compiler = _compiler()
    if compiler is None:
        return "not used: there is no C++ compiler (c++, g++, clang++ or $CXX)"
    try:
        library = ctypes.cdll.LoadLibrary(str(_built(compiler, folder / "native", real)))
        for name in KERNELS:
            handler = jax.ffi.pycapsule(getattr(library, name))
            jax.ffi.register_ffi_target(f"{name}_{real}", handler, platform="cpu")
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line]
        return f"not used: {compiler} could not compile them: {(lines or ['no message'])[0]}"
    except (OSError, subprocess.TimeoutExpired, AttributeError) as error:
        return f"not used: {error}"
    return None


def _compiler() -> str | None:
    named = os.environ.get("CXX")
    for name in (named,) if named else ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return found
    return None


def _built(compiler: str, folder: Path, real: str) -> Path:
    """The library's file, compiled if this source, compiler and machine have none yet."""
    told = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=True, timeout=COMPILE_SECONDS
    ).stdout
    sources = (path.read_text(encoding="utf-8") for path in sorted(FOLDER.iterdir()))
    parts = (*sources, told, *FLAGS, version("jaxlib"), _processor())
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    path = folder / f"{real}-{name}.so"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fresh = Path(scratch) / path.name
        options = [*FLAGS, f"-DQDEQ_REAL={real}", f"-I{jax.ffi.include_dir()}"]
        subprocess.run(
            [compiler, *options, str(SOURCE), "-o", str(fresh)],
            capture_output=True,
            text=True,
            check=True,
            timeout=COMPILE_SECONDS,
        )
        fresh.replace(path)  # at once: another process may be building the same file
    return path


def _processor() -> str:
    """What `-march=native` looks at: home folders are shared between unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor() + platform.machine()
