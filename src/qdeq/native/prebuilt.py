"""Chooses among the libraries that a wheel brings: by processor, and by the interface to JAX.

They were compiled with one jaxlib's headers for a few instruction sets (`CMakeLists.txt` in the
project's root). Whether they fit is decided from files alone, before anything is registered.
"""

import ctypes
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import jax

FOLDER = Path(__file__).with_name("prebuilt")
_V3 = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}
# Machine and instruction set, as the compiler calls it: what /proc/cpuinfo must list. Best first.
VARIANTS = {
    ("x86_64", "x86-64-v4"): _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    ("x86_64", "x86-64-v3"): _V3,
    ("aarch64", "armv8-a"): {"asimd"},
}


@dataclass(frozen=True)
class Prebuilt:
    """The file that fits, and which it is; or none, and why.

    `failed` where a wheel brought one for this processor, and it cannot be used.
    """

    file: Path | None
    why: str
    failed: bool = False


def prebuilt(real: str) -> Prebuilt:
    """The best library for this machine of those that the wheel brought."""
    if not any(FOLDER.glob("*.so")):
        return Prebuilt(None, "this installation brings no prebuilt ones")
    machine, able = platform.machine(), abilities()
    for (kind, variant), needed in VARIANTS.items():
        file = FOLDER / f"{real}-{variant}.so"
        if kind == machine and needed <= able and file.exists():
            break
    else:
        sets = ", ".join(sorted({path.stem.partition("-")[2] for path in FOLDER.glob("*.so")}))
        return Prebuilt(None, f"the prebuilt ones are for {sets}, which this processor is not")
    theirs, ours = _built_for(file), _spoken_here()
    if theirs is None or ours is None or theirs[0] != ours[0] or theirs[1] > ours[1]:
        reason = (
            f"the prebuilt ones speak XLA's FFI {_text(theirs)}, and the installed JAX "
            f"{jax.__version__} speaks {_text(ours)}"
        )
        return Prebuilt(None, reason, failed=True)
    return Prebuilt(file, f"prebuilt for {variant}, the best of this wheel for this processor")


def abilities() -> set[str]:
    """Instruction sets that processor and operating system offer, in Linux' words."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    flags = (line for line in lines if line.startswith(("flags", "Features")))
    return set(next(flags, "").partition(":")[2].split())


def _built_for(file: Path) -> tuple[int, int] | None:
    """Major and minor version of XLA's FFI that a library was compiled with."""
    try:
        numbers = (ctypes.c_int32 * 2).in_dll(ctypes.CDLL(str(file)), "qdeq_ffi_version")
    except (OSError, ValueError):
        return None
    return numbers[0], numbers[1]


def _spoken_here() -> tuple[int, int] | None:
    """The version of the installed jaxlib: its headers say so, nothing in Python does."""
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h")
    try:
        text = header.read_text(encoding="utf-8")
    except OSError:
        return None
    found = [re.search(rf"define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR")]
    major, minor = (match and int(match[1]) for match in found)
    return None if major is None or minor is None else (major, minor)


def _text(version: tuple[int, int] | None) -> str:
    return "of an unknown version" if version is None else "{}.{}".format(*version)
