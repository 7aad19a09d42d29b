"""`qdeq doctor`: what is installed, what runs the mathematics, and what does not go together."""

import json
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import qdeq
from qdeq._folders import cache_folder, private_folder
from qdeq.cli.console import make_console, print_rows

_PACKAGES = ("jax", "jaxlib", "equinox", "optimistix", "lineax", "optax", "numpy", "scikit-learn")

# Why a version is asked for, where the number alone says little.
_REASONS = {
    ("pennylane", "jax"): "PennyLane 0.45 calls what JAX 0.11 removed, so no QNode can be compiled",
}


@dataclass(frozen=True)
class Health:
    """What `qdeq doctor --json` prints.

    `extras` says of each what is installed, or what to run; `problems` what does not work and what
    to do, `notes` what could work better.
    """

    qdeq: str
    python: str
    platform: str
    packages: dict[str, str]
    devices: list[str]
    kernels: str
    cache: dict[str, int]
    cache_folder: str | None
    extras: dict[str, str]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DoctorCommand:
    """Say what is installed, which devices and kernels are used, and what does not go together."""

    json: bool = False
    """Print it as one line of JSON."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> None:
        return None

    def execute(self, given: frozenset[str]) -> None:
        found = examine()
        if self.json:
            print(json.dumps(asdict(found)))
        else:
            _show(found)
        if found.problems:
            raise SystemExit(1)


def examine() -> Health:
    """Look at this installation and this machine; compiles the kernels where they are missing."""
    import jax

    from qdeq import native

    problems, notes = [], []
    extras, unfit = _extras()
    problems += unfit
    folder, sizes, trouble = _cache()
    problems += trouble
    with warnings.catch_warnings():  # what it warns of is said below
        warnings.simplefilter("ignore", UserWarning)
        kernels = native.availability()
    if "could not compile" in kernels or "did not finish" in kernels:
        problems.append(f"compiled kernels are {kernels}; QDEQ_NATIVE=off does without")
    elif "no C++ compiler" in kernels:
        notes.append(
            "a C++ compiler (Debian and Ubuntu: apt install g++) makes CPUs up to four "
            "times as fast"
        )
    if jax.default_backend() == "cpu" and shutil.which("nvidia-smi"):
        notes.append(
            "JAX runs on the CPU and nvidia-smi is there: pip install 'jax[cuda13]' lets it use "
            "the GPU"
        )
    return Health(
        qdeq=qdeq.__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        platform=f"{platform.platform()}, {os.cpu_count()} cores",
        packages={name: _version(name) or "missing" for name in _PACKAGES},
        devices=[f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        kernels=kernels,
        cache=sizes,
        cache_folder=None if folder is None else str(folder),
        extras=extras,
        problems=problems,
        notes=notes,
    )


def _extras() -> tuple[dict[str, str], list[str]]:
    """Of each extra what is installed or how it would be, and versions that do not fit."""
    requirements = [Requirement(text) for text in metadata.requires("qdeq") or []]
    names = sorted(metadata.metadata("qdeq").get_all("Provides-Extra") or [])
    core = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    problems = list(_unfit("qdeq", core, "pip install . in a copy of the project"))
    shown = {}
    for name in names:
        command = f'pip install ".[{name}]" in a copy of the project'
        own = [r for r in requirements if r not in core]
        own = [r for r in own if r.marker is not None and r.marker.evaluate({"extra": name})]
        new = [r for r in own if r.name not in {c.name for c in core}]
        lacking = [r.name for r in new if _version(r.name) is None]
        if lacking:
            shown[name] = f"not installed: {command}"
            continue
        shown[name] = ", ".join(f"{r.name} {_version(r.name)}" for r in new)
        unfit = list(_unfit(name, own, command))
        problems += unfit
        if unfit:
            shown[name] += " (see below)"
    return shown, problems


def _unfit(name: str, requirements: list[Requirement], command: str) -> Iterator[str]:
    for requirement in requirements:
        version = _version(requirement.name)
        if version is None:
            yield f"{requirement.name} is not installed: {command}"
        elif not requirement.specifier.contains(version, prereleases=True):
            reason = _REASONS.get((name, requirement.name))
            yield (
                f"{name} needs {requirement.name}{requirement.specifier} and {version} is "
                f"installed{f' ({reason})' if reason else ''}: {command}"
            )


def _cache() -> tuple[Path | None, dict[str, int], list[str]]:
    """The folder, the bytes in each of its folders, and why it cannot be used."""
    folder = cache_folder()
    if folder is None:
        return None, {}, []
    try:
        folder = private_folder(folder)
    except OSError as error:
        return folder, {}, [f"nothing is kept between runs: {error}; or set QDEQ_CACHE"]
    sizes = {}
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        sizes[part.name] = sum(p.stat().st_size for p in part.rglob("*") if p.is_file())
    return folder, sizes, []


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _show(found: Health) -> None:
    console = make_console()
    kept = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in found.cache.items())
    rows = {
        "Python": found.python,
        "platform": found.platform,
        "packages": ", ".join(f"{name} {version}" for name, version in found.packages.items()),
        "devices": ", ".join(found.devices),
        "compiled kernels": found.kernels,
        "cache": f"{found.cache_folder} ({kept or 'empty'})" if found.cache_folder else "off",
        **{f"extra {name}": text for name, text in found.extras.items()},
    }
    print_rows(console, rows, title=f"qdeq {found.qdeq}")
    console.print()
    for note in found.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    for problem in found.problems:
        console.print(f"problem: {problem}", markup=False, soft_wrap=True)
    if not found.problems:
        console.print("no problems found")
