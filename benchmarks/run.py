"""`qdeq benchmark` from a checkout: python benchmarks/run.py [options]."""

import sys

from qdeq.cli import main

if __name__ == "__main__":
    sys.exit(main(["benchmark", *sys.argv[1:]]))
