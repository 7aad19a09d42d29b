"""The documentation: every Python block runs, and every public name has its place.

The blocks of a page run in order, in one namespace, as a reader would type them.
"""

import ast
import re
from pathlib import Path

import pytest

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
