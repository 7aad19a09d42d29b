"""The process of the `qdeq` command, also as `python -m qdeq`; imports nothing before it listens.

Ctrl-C while Python still loads the packages, a second or two, ends as it ends later: in one line.
"""

import contextlib
import os
import signal
import sys
import threading
from typing import NoReturn

_INTERRUPTED = 130


def main() -> int:
    """Run the command; 130 after Ctrl-C, whenever it comes."""
    if threading.current_thread() is not threading.main_thread():  # no handlers there
        from qdeq.cli import main as command

        return command()
    before = signal.signal(signal.SIGINT, _leave)  # nothing is to be put away yet
    from qdeq.cli import main as command

    signal.signal(signal.SIGINT, before)
    status = command()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left is JAX's own leaving
    if status == _INTERRUPTED:
        _end()
    return status


def _leave(*_: object) -> NoReturn:
    os.write(2, b"qdeq: interrupted\n")
    os._exit(_INTERRUPTED)


def _end() -> NoReturn:
    """Leave at once: the command has put away what there was.

    Python would wait for threads, which packages that were interrupted half loaded may never end,
    and end by the signal itself where Ctrl-C came inside of an `exec`, as of dataclasses.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
