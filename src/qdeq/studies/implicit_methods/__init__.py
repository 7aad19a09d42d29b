"""Ways to differentiate the equilibrium, compared over a training."""

from typing import TYPE_CHECKING

from qdeq._lazy import attach

if TYPE_CHECKING:
    from qdeq.studies.implicit_methods.study import ImplicitMethodsStudy as ImplicitMethodsStudy

__getattr__ = attach(__name__, {"ImplicitMethodsStudy": "study"})
