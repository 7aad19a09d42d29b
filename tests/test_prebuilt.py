"""Which of a wheel's libraries is used: by processor, and by the interface that JAX speaks."""

import subprocess
from pathlib import Path

import jax
import pytest

from qdeq.native import library, prebuilt

OURS = prebuilt._spoken_here()
needs_compiler = pytest.mark.skipif(library._compiler() is None, reason="no C++ compiler")


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """Writes empty libraries of the given names where a wheel would put them."""
    monkeypatch.setattr(prebuilt, "FOLDER", tmp_path)
    monkeypatch.setattr(prebuilt, "_built_for", lambda file: OURS)

    def write(*names):
        for name in names:
            (tmp_path / f"{name}.so").touch()

    return write


def on(monkeypatch, machine, *able):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(prebuilt, "abilities", lambda: set(able))


V3, V4 = (prebuilt.VARIANTS["x86_64", f"x86-64-{level}"] for level in ("v3", "v4"))
X86 = ("float-x86-64-v3", "float-x86-64-v4")


@pytest.mark.parametrize(
    ("machine", "able", "chosen"),
    [
        ("x86_64", V4, "float-x86-64-v4"),
        ("x86_64", V3, "float-x86-64-v3"),
        ("x86_64", V4 - {"avx512dq"}, "float-x86-64-v3"),
        ("aarch64", {"asimd", "fp"}, "float-armv8-a"),
    ],
)
def test_the_best_that_the_processor_can_run_is_chosen(wheel, monkeypatch, machine, able, chosen):
    wheel(*X86, "float-armv8-a")
    on(monkeypatch, machine, *able)
    assert prebuilt.prebuilt("float").file.stem == chosen


@pytest.mark.parametrize(
    ("machine", "able"), [("x86_64", V3 - {"fma"}), ("aarch64", {"asimd"}), ("riscv64", V4)]
)
def test_a_processor_that_the_wheel_is_not_for_is_told_what_it_is_for(
    wheel, monkeypatch, machine, able
):
    wheel(*X86)
    on(monkeypatch, machine, *able)
    found = prebuilt.prebuilt("float")
    assert found.file is None and not found.failed
    assert "are for x86-64-v3, x86-64-v4" in found.why


def test_a_clone_brings_none(wheel):
    assert "brings no prebuilt ones" in prebuilt.prebuilt("float").why


@pytest.mark.parametrize(
    ("theirs", "fits"),
    [
        (OURS, True),
        ((OURS[0], OURS[1] - 1), True),
        ((OURS[0], OURS[1] + 1), False),
        ((OURS[0] + 1, 0), False),
        (None, False),
    ],
)
def test_libraries_for_another_interface_are_refused(wheel, monkeypatch, theirs, fits):
    wheel(*X86)
    on(monkeypatch, "x86_64", *V4)
    monkeypatch.setattr(prebuilt, "_built_for", lambda file: theirs)
    found = prebuilt.prebuilt("float")
    assert (found.file is not None, found.failed) == (fits, not fits)
    if not fits:
        assert f"JAX {jax.__version__} speaks {OURS[0]}.{OURS[1]}" in found.why


@needs_compiler
def test_a_library_says_which_interface_it_was_built_for(tmp_path):
    source, file = tmp_path / "one.c", tmp_path / "one.so"
    source.write_text("const int qdeq_ffi_version[2] = {7, 11};")
    subprocess.run([library._compiler(), "-xc", "-shared", "-fPIC", source, "-o", file], check=True)
    assert prebuilt._built_for(file) == (7, 11)
    other = tmp_path / "other.so"  # not the same file: it is mapped into this process
    other.write_bytes(b"no library")
    assert prebuilt._built_for(other) is None


def test_what_a_build_for_a_wheel_names_is_what_is_looked_for():
    text = (Path(__file__).parents[1] / "CMakeLists.txt").read_text(encoding="utf-8")
    for _, variant in prebuilt.VARIANTS:
        assert variant in text


@needs_compiler
def test_a_library_that_jax_refuses_is_told_once_and_one_is_built(monkeypatch, tmp_path):
    (tmp_path / "float.so").write_bytes(b"no library")
    broken = prebuilt.Prebuilt(tmp_path / "float.so", "prebuilt")
    monkeypatch.delenv("QDEQ_NATIVE", raising=False)
    monkeypatch.setattr(library, "prebuilt", lambda real: broken)
    built = library.Verdict(True, "built on this machine by c++")
    monkeypatch.setattr(library, "_build_and_load", lambda real, found: built)
    with pytest.warns(UserWarning, match=r"does not take the prebuilt ones.*built on this machine"):
        assert library._load.__wrapped__("float") == built
