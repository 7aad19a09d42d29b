"""A network that finds how the spins of a disordered quantum magnet point."""

from typing import TYPE_CHECKING

from qdeq._lazy import attach

if TYPE_CHECKING:
    from qdeq.studies.magnet.study import MagnetStudy as MagnetStudy

__getattr__ = attach(__name__, {"MagnetStudy": "study"})
