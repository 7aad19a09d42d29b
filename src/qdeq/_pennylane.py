"""The one place where PennyLane is imported, and which versions of it and of JAX go together.

Everything that needs PennyLane asks `load()` for the module, so that a missing extra or a pair of
versions that cannot work is one clear sentence.
"""

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import Any

import jax

from qdeq.errors import UserError

# PennyLane 0.45 still calls `jax.core.is_concrete`, which JAX 0.11 removed: eager calls of a QNode
# work there and `jax.jit` of one fails deep inside PennyLane.
_FIRST_JAX_WITHOUT_JIT = (0, 11)


def load() -> Any:
    """The module `pennylane`.

    Raises
    ------
    UserError
        If it is not installed, or is another version than the extra asks for.
    """
    try:
        import pennylane as qml
    except ImportError as error:
        raise UserError("PennyLane is not installed: install qdeq[pennylane]") from error
    if _version(qml.__version__) != (0, 45):
        raise UserError(
            f"PennyLane {qml.__version__} is installed and this release works with 0.45: "
            "install qdeq[pennylane], which pins pennylane>=0.45,<0.46"
        )
    return qml


def check_jax() -> None:
    """Raise `UserError` where the installed JAX cannot compile a program with a QNode in it."""
    if _version(jax.__version__) >= _FIRST_JAX_WITHOUT_JIT:
        raise UserError(
            f"JAX {jax.__version__} cannot compile a QNode of PennyLane 0.45, which calls "
            "functions that JAX 0.11 removed: install qdeq[pennylane], which pins jax<0.11"
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what PennyLane's tracing warns of and the user can do nothing about.

    JAX deprecations inside PennyLane, and complex128 that becomes complex64 while x64 is off.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"jax\.core\.", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="Explicitly requested dtype")
        yield


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
