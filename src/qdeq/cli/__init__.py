"""The `qdeq` command."""

from qdeq.cli.main import main as main
from qdeq.cli.main import run_command as run_command
