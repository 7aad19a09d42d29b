"""`python -m qdeq` is the `qdeq` command."""

import sys

from qdeq.cli import main

sys.exit(main())
