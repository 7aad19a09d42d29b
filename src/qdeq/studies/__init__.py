"""The paper's tables and figures as configurations, and their reports: `qdeq reproduce`."""

from typing import TYPE_CHECKING

from qdeq._lazy import attach

if TYPE_CHECKING:
    from qdeq.studies.noise_protocol import NoiseProtocol as NoiseProtocol
    from qdeq.studies.noise_reproduce import reproduce_noise as reproduce_noise
    from qdeq.studies.protocol import Protocol as Protocol
    from qdeq.studies.protocol import Row as Row
    from qdeq.studies.protocol import table_rows as table_rows
    from qdeq.studies.reproduce import reproduce_circuits as reproduce_circuits
    from qdeq.studies.reproduce import reproduce_overlap as reproduce_overlap
    from qdeq.studies.reproduce import reproduce_table as reproduce_table
    from qdeq.studies.reproduce import reproduce_warmup as reproduce_warmup
    from qdeq.studies.table import Table as Table

__getattr__ = attach(
    __name__,
    {
        "NoiseProtocol": "noise_protocol",
        "reproduce_noise": "noise_reproduce",
        "Protocol": "protocol",
        "Row": "protocol",
        "table_rows": "protocol",
        "reproduce_circuits": "reproduce",
        "reproduce_overlap": "reproduce",
        "reproduce_table": "reproduce",
        "reproduce_warmup": "reproduce",
        "Table": "table",
    },
)
