"""The folders of the library import one way: a folder uses only those that stand before it."""

import ast
import importlib
from pathlib import Path

import pytest

import qdeq

ROOT = Path(qdeq.__file__).parent
FOLDERS = (
    "circuits",
    "lowering",
    "native",
    "simulation",
    "equilibrium",
    "models",
    "data",
    "training",
    "devices",
    "runs",
    "interop",
    "studies",
    "cli",
)
NOT_OF_THE_QUANTUM_SIDE = {"equilibrium": {"native"}, "native": set(), "data": set()}


def imported_folders(file: Path) -> set[str]:
    """The folders that a file imports anywhere in it, for type checking and in functions too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = [name.split(".") for name in names if name.startswith("qdeq.")]
    return {part[1] for part in parts} & set(FOLDERS)


def test_every_folder_has_its_place():
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found == set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_those_before_it(folder):
    allowed = {*FOLDERS[: FOLDERS.index(folder) + 1]}
    allowed = {*NOT_OF_THE_QUANTUM_SIDE.get(folder, allowed), folder}
    wrong = {
        str(file.relative_to(ROOT)): sorted(imported_folders(file) - allowed)
        for file in (ROOT / folder).rglob("*.py")
    }
    assert {file: found for file, found in wrong.items() if found} == {}


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("qdeq", "Equilibrium"),
        ("qdeq.devices", "SimulatorExecutor"),
        ("qdeq.runs", "load"),
        ("qdeq.training", "TrainConfig"),
    ],
)
def test_names_that_load_on_first_use_are_known_before(package, name):
    """To completion, which asks `dir`, and to `from package import *`."""
    module = importlib.import_module(package)
    assert name in module.__all__ and set(module.__all__) <= set(dir(module))
    assert all(hasattr(module, each) for each in module.__all__)


def test_the_picture_in_the_documentation_shows_the_same_folders():
    page = Path(__file__).parents[1] / "docs" / "architecture.md"
    picture = page.read_text(encoding="utf-8").split("```")
    drawn = next(part for part in picture if part.startswith("\ncircuits/")).split("\n")
    assert tuple(line.split("/")[0] for line in drawn if line) == FOLDERS


@pytest.mark.parametrize(
    "old_name, new_name",
    [
        ("execution.Executor", "devices.Executor"),
        ("execution.Program", "lowering.Program"),
        ("resources.Ledger", "devices.Ledger"),
        ("resources.run_cost", "runs.run_cost"),
        ("training.RunFolder", "runs.RunFolder"),
    ],
)
def test_names_of_the_first_version_lead_to_where_things_are_now(old_name, new_name):
    def find(name):
        module, attribute = name.split(".")
        return getattr(importlib.import_module(f"qdeq.{module}"), attribute)

    assert find(old_name) is find(new_name)
