"""The `qdeq` command."""

from qdeq.cli.main import main as main
