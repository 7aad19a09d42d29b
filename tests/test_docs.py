"""The documentation: every Python block runs, and every public name has its place.

The blocks of a page run in order, in one namespace, as a reader would type them.
"""

import ast
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import pytest

import qdeq.equilibrium
from qdeq.cli import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Pages whose blocks a test cannot run.
LEFT_OUT = {"api/data.md": "loads data from the network and a folder of the reader's"}
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(
    name
    for name in (path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    if name not in LEFT_OUT and _BLOCK.search((DOCS / name).read_text(encoding="utf-8"))
)
PAGES.append("../README.md")
PACKAGES = ["circuits", "data", "devices", "equilibrium", "lowering", "models", "runs"]
PACKAGES += ["simulation", "studies", "training"]


@pytest.mark.slow  # compiles a dozen programs
@pytest.mark.parametrize("page", PAGES)
def test_every_code_block_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / page).read_text(encoding="utf-8")
    namespace = {"__name__": "__main__"}
    for block in _BLOCK.finditer(text):
        # Blank lines in front: a traceback then has the line numbers of the page.
        code = "\n" * text[: block.start(1)].count("\n") + block.group(1)
        exec(compile(code, page, "exec"), namespace)


@pytest.mark.parametrize("page", PAGES)
def test_every_code_block_parses(page):
    for block in _BLOCK.finditer((DOCS / page).read_text(encoding="utf-8")):
        ast.parse(block.group(1))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_has_an_entry_in_the_reference(package):
    source = (ROOT / "src" / "qdeq" / package / "__init__.py").read_text(encoding="utf-8")
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    names = {alias.asname for node in imports for alias in node.names if alias.asname}
    page = (DOCS / "api" / f"{package}.md").read_text(encoding="utf-8")
    listed = set(re.findall(rf"^::: qdeq\.{package}\.(\w+)$", page, re.MULTILINE))
    assert listed == names


def commands():
    """Every line `qdeq ...` of README and pages: its command and its options."""
    found = {}
    for path in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        if "results" in path.parts:
            continue
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^ *qdeq (.+)$", text, re.MULTILINE):
            words = shlex.split(line.split("  #")[0].split(" # ")[0], posix=True)
            options = {word.partition("=")[0] for word in words if re.match("--[a-z]", word)}
            found.setdefault(words[0], {}).update(dict.fromkeys(options, f"{path.name}: {line}"))
    return {name: options for name, options in found.items() if re.fullmatch("[a-z]+", name)}


@pytest.mark.slow  # builds the parser of every command
@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_of_the_pages_exists_with_its_options(name, capsys):
    assert main([name, "--help"]) == 0
    known = set(re.findall(r"--[a-z][a-z0-9-]*", capsys.readouterr().out))
    unknown = {option: line for option, line in commands()[name].items() if option not in known}
    assert not unknown


def test_the_reference_shows_the_signatures_that_python_sees():
    griffe = pytest.importorskip("griffe", reason="make docs installs it")
    extensions = griffe.load_extensions(str(DOCS / "_extensions" / "equinox_signatures.py"))
    package = griffe.load("qdeq", search_paths=[ROOT / "src"], extensions=extensions)
    for live in vars(qdeq.equilibrium).values():
        if not (isinstance(live, type) and issubclass(live, eqx.Module)):
            continue
        if not live.__module__.startswith("qdeq.") or inspect.isabstract(live):
            continue
        shown = package[f"{live.__module__.removeprefix('qdeq.')}.{live.__name__}"].parameters
        seen = inspect.signature(live).parameters
        assert [p.name for p in shown if p.name != "self"] == list(seen)
        required = {p.name for p in shown if p.default is None} - {"self"}
        assert required == {n for n, p in seen.items() if p.default is inspect.Parameter.empty}


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path):
    pytest.importorskip("mkdocstrings", reason="make docs installs it")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "examples/" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_no_page_installs_from_an_index_on_which_nothing_is():
    pages = [ROOT / "README.md", *(p for p in DOCS.rglob("*.md") if "results" not in p.parts)]
    found = [p.name for p in pages if re.search(r"pip install +.?qdeq", p.read_text("utf-8"))]
    assert not found
