"""A network of cells that counts, at equilibrium and at any depth."""

from typing import TYPE_CHECKING

from qdeq._lazy import attach

if TYPE_CHECKING:
    from qdeq.studies.parity.study import ParityStudy as ParityStudy

__getattr__ = attach(__name__, {"ParityStudy": "study"})
