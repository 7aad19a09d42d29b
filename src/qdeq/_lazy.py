"""Public names that are imported on first use (PEP 562), so that a light module of a package, such
as the configuration that the command line parses, does not load JAX through its `__init__`.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def attach(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package whose public names live in its sub-modules.

    `dir`, which completion asks, and `import *` are told these names as well.

    Parameters
    ----------
    package
        The package's `__name__`.
    homes
        Public name to the sub-module that defines it, or to a module elsewhere by its full name.
    """

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = homes[name]
        module = home if home.startswith("qdeq.") else f"{package}.{home}"
        return getattr(importlib.import_module(module), name)

    module = sys.modules[package]
    module.__dict__["__all__"] = sorted(homes)
    module.__dict__["__dir__"] = lambda: sorted({*vars(module), *homes})
    return __getattr__
