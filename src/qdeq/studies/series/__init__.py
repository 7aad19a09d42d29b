"""A chain of circuits that forecasts, beside recurrent networks and linear models."""

from typing import TYPE_CHECKING

from qdeq._lazy import attach

if TYPE_CHECKING:
    from qdeq.studies.series.study import SeriesStudy as SeriesStudy

__getattr__ = attach(__name__, {"SeriesStudy": "study"})
