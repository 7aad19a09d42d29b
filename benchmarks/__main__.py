"""From a clone's root: `python -m benchmarks [options]`, or `make benchmark ARGS="[options]"`."""

import sys

from benchmarks.command import BenchmarkCommand
from qdeq.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command(BenchmarkCommand, sys.argv[1:], prog="python -m benchmarks"))
