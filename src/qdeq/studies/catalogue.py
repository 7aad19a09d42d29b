"""The studies by the names that `qdeq reproduce` knows; none is imported before it is asked for."""

import importlib
from typing import Any, get_args

from qdeq.errors import check_choice
from qdeq.names import NamedData
from qdeq.studies.study import Study

# The paper's data first; the digits stand for them where nothing can be downloaded.
_TABLES = sorted(get_args(NamedData), key=lambda name: name.startswith("digits"))

#: Module and class of every study, and the options that its name fixes.
STUDIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{name: ("paper", "PaperTable", {"data": name}) for name in _TABLES},
    "overlap": ("overlap", "OverlapStudy", {}),
    "circuits": ("circuits", "CircuitStudy", {}),
    "warmup": ("warmup", "WarmupStudy", {}),
    "recipe": ("recipe", "RecipeStudy", {}),
    "noise": ("noise", "NoiseStudy", {}),
    "depth": ("depth", "DepthStudy", {}),
    "implicit-methods": ("implicit_methods", "ImplicitMethodsStudy", {}),
    "parity": ("parity", "ParityStudy", {}),
    "magnet": ("magnet", "MagnetStudy", {}),
    "tables": ("tables", "TableStudy", {}),
    "series": ("series", "SeriesStudy", {}),
}


def study_type(name: str) -> tuple[type[Study], dict[str, Any]]:
    """The class of a study, and the options that its name fixes.

    Raises
    ------
    UserError
        For a name that no study has.
    """
    check_choice("study", name, STUDIES)
    module, class_name, fixed = STUDIES[name]
    return getattr(importlib.import_module(f"qdeq.studies.{module}"), class_name), fixed
