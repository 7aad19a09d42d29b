"""Equilibrium, direct and deep models on noisy devices and with finite shots."""

from typing import TYPE_CHECKING

from qdeq._lazy import attach

if TYPE_CHECKING:
    from qdeq.studies.noise.study import NoiseStudy as NoiseStudy

__getattr__ = attach(__name__, {"NoiseStudy": "study"})
