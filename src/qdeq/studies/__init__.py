"""The paper's tables and figures, and other studies, as rows and numbers: `qdeq reproduce`."""

from typing import TYPE_CHECKING

from qdeq._lazy import attach

if TYPE_CHECKING:
    from qdeq.studies.magnet import MagnetStudy as MagnetStudy
    from qdeq.studies.noise import NoiseStudy as NoiseStudy
    from qdeq.studies.paper import PaperTable as PaperTable
    from qdeq.studies.parity import ParityStudy as ParityStudy
    from qdeq.studies.reproduction import reproduce as reproduce
    from qdeq.studies.results import Grid as Grid
    from qdeq.studies.results import Results as Results
    from qdeq.studies.study import Device as Device
    from qdeq.studies.study import Metric as Metric
    from qdeq.studies.study import Row as Row
    from qdeq.studies.study import Study as Study
    from qdeq.studies.warmup import WarmupStudy as WarmupStudy

__getattr__ = attach(
    __name__,
    {
        "MagnetStudy": "magnet",
        "NoiseStudy": "noise",
        "PaperTable": "paper",
        "ParityStudy": "parity",
        "reproduce": "reproduction",
        "Grid": "results",
        "Results": "results",
        "Device": "study",
        "Metric": "study",
        "Row": "study",
        "Study": "study",
        "WarmupStudy": "warmup",
    },
)
