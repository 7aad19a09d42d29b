"""The estimators' defaults on tables, against depth and classical models."""

from typing import TYPE_CHECKING

from qdeq._lazy import attach

if TYPE_CHECKING:
    from qdeq.studies.tables.study import TableStudy as TableStudy

__getattr__ = attach(__name__, {"TableStudy": "study"})
