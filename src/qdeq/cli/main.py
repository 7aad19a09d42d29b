"""The entry point: which sub-commands exist, and how mistakes and interrupts end the process."""

import _thread
import contextlib
import dataclasses
import errno
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

import qdeq
from qdeq._console import plain_where_needed
from qdeq.cli.arguments import Command, closest, option_of, parse
from qdeq.cli.certify import CertifyCommand
from qdeq.cli.compare import CompareCommand
from qdeq.cli.compilation import keep_compiled_programs
from qdeq.cli.completion import CompletionCommand
from qdeq.cli.doctor import DoctorCommand
from qdeq.cli.draw import DrawCommand
from qdeq.cli.evaluate import EvaluateCommand
from qdeq.cli.export import ExportCommand
from qdeq.cli.predict import PredictCommand
from qdeq.cli.report import ReportCommand
from qdeq.cli.reproduce import ReproduceCommand
from qdeq.cli.resources import ResourcesCommand
from qdeq.cli.sweep import SweepCommand
from qdeq.cli.train import TrainCommand
from qdeq.errors import UserError

COMMANDS: dict[str, type[Command]] = {
    "train": TrainCommand,
    "sweep": SweepCommand,
    "evaluate": EvaluateCommand,
    "compare": CompareCommand,
    "certify": CertifyCommand,
    "predict": PredictCommand,
    "reproduce": ReproduceCommand,
    "resources": ResourcesCommand,
    "draw": DrawCommand,
    "report": ReportCommand,
    "export": ExportCommand,
    "doctor": DoctorCommand,
    "completion": CompletionCommand,
}

# Commands of earlier versions, and where what they did has gone.
_MOVED = {
    "benchmark": "the speed suite is not in the package any more: in a clone of the repository, "
    'run make benchmark (options as in make benchmark ARGS="--full")',
}
_MISTAKE, _INTERRUPTED = 2, 130
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SECONDS_OF_SILENCE = 2.5  # loading Python and packages comes before
_SHOW_THEIR_OWN = ("qdeq train", "qdeq reproduce")


@plain_where_needed()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the `qdeq` command.

    Parameters
    ----------
    argv
        The words after `qdeq`; those of the process if None.

    Returns
    -------
    int
        Exit status: 0, 2 after a user's mistake (one line on stderr says what to do), 130 after
        Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "--version"):
        version = bool(words) and words[0] == "--version"
        try:
            print(f"qdeq {qdeq.__version__}" if version else _usage(), flush=True)
        except OSError as error:
            return _unwritten(error)
        return 0
    name = words[0]
    if name not in COMMANDS:
        return _mistake(
            _MOVED.get(name)
            or f"{name} is not a command: choose one of {', '.join(COMMANDS)}"
            f"{closest(name, COMMANDS)}"
        )
    return run_command(COMMANDS[name], words[1:], prog=f"qdeq {name}")


@plain_where_needed()
def run_command(command: type[Command], words: Sequence[str], *, prog: str) -> int:
    """Run one command, and end it as every command ends.

    Parameters
    ----------
    command
        The dataclass of its options.
    words
        What the user typed after its name.
    prog
        The name, for help and messages.

    Returns
    -------
    int
        Exit status, as that of `main`.
    """
    with _interrupts() as interrupts, _warnings_in_one_line():
        try:
            return _run(command, words, prog)
        except KeyboardInterrupt as interrupt:
            print(f"qdeq: {str(interrupt) or 'interrupted'}", file=sys.stderr)
            return _INTERRUPTED
        except Exception:
            if not interrupts:
                raise
            # Ctrl-C within somebody else's import or callback may arrive as another error.
            print("qdeq: interrupted", file=sys.stderr)
            return _INTERRUPTED


def _run(command: type[Command], words: Sequence[str], prog: str) -> int:
    try:
        arguments, given = parse(command, words, prog=prog)
        keep_compiled_programs()
        with _sign_of_life(prog, getattr(arguments, "quiet", False)):
            arguments.execute(given)
        print(end="", flush=True)  # here, where a reader that has gone is nobody's mistake
        return 0
    except UserError as error:
        return _mistake(_in_words_of(command, str(error)))
    except SystemExit as stop:  # tyro, after --help; Rich, where nobody reads any more
        unread = isinstance(stop.__context__, BrokenPipeError)
        return stop.code if isinstance(stop.code, int) and not unread else 0
    except OSError as error:
        return _unwritten(error)


@contextlib.contextmanager
def _sign_of_life(prog: str, quiet: bool) -> Iterator[None]:
    """Say on stderr that a command is at work which has shown nothing for some seconds."""
    done = threading.Event()

    def speak() -> None:
        started, wait = time.monotonic(), _SECONDS_OF_SILENCE
        while not done.wait(wait):
            seconds = time.monotonic() - started
            print(f"{prog}: at work for {seconds:.0f} s ...", file=sys.stderr, flush=True)
            wait = 10 * _SECONDS_OF_SILENCE

    if quiet or prog in _SHOW_THEIR_OWN:
        yield
        return
    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        done.set()
        speaker.join()


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Our own warnings are for people: without the place in the code, once each."""
    before, told = warnings.showwarning, set()

    def show(message: Any, category: Any, *place: Any, **more: Any) -> None:
        if category is not UserWarning:
            before(message, category, *place, **more)
        elif str(message) not in told:
            told.add(str(message))
            print(f"qdeq: warning: {message}", file=sys.stderr)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """A list that is not empty any more once Ctrl-C was pressed, which nothing swallows."""
    seen: list[int] = []
    timers: list[threading.Timer] = []
    here = threading.get_ident()

    def interrupt(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if _imports(frame):
            once_more()
            return
        raise KeyboardInterrupt

    def once_more() -> None:
        timers.append(threading.Timer(0.02, press_again))
        timers[-1].daemon = True
        timers[-1].start()

    def press_again() -> None:
        # A true signal also ends a wait; Windows can send none to a thread.
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(here, signal.SIGINT)
        else:
            _thread.interrupt_main()

    def lost(error: Any) -> None:
        # It came within a callback of the garbage collector, JAX has one, or a `__del__`, out of
        # which Python lets nothing through: once more, as soon as that is left.
        if error.exc_type is not KeyboardInterrupt:
            before(error)
            return
        once_more()

    # Python allows handlers in the main thread alone, and a handler of somebody else's stays.
    listens = threading.current_thread() is threading.main_thread()
    if not (listens and signal.getsignal(signal.SIGINT) is signal.default_int_handler):
        yield seen
        return
    before, sys.unraisablehook = sys.unraisablehook, lost
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield seen
    finally:
        for timer in timers:
            timer.cancel()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = before


def _imports(frame: FrameType | None) -> bool:
    """Whether the command loads a module: some swallow interrupts, or rename them."""
    while frame is not None and frame.f_code is not _run.__code__:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _unwritten(error: OSError) -> int:
    """End where nobody reads standard output any more, `qdeq draw | head`, or a disk is full."""
    if isinstance(error, BrokenPipeError):
        _drop_output()
        return 0
    if error.errno not in _FULL:
        raise error
    _drop_output()
    where = f"{error.filename}: " if error.filename else ""
    return _mistake(
        f"{where}{error.strerror}: what was written is not whole; make room, or write to another "
        "place, and run the command again"
    )


def _drop_output() -> None:
    """What is left in the buffer goes nowhere when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _mistake(message: str) -> int:
    print(f"qdeq: error: {message}", file=sys.stderr)
    return _MISTAKE


def _usage() -> str:
    lines = [
        "usage: qdeq COMMAND [options]",
        "",
        "Quantum deep equilibrium models: train a circuit through its own fixed point.",
        "",
    ]
    for name, command in COMMANDS.items():
        lines.append(f"  {name:<10} {(command.__doc__ or '').splitlines()[0]}")
    lines += ["", "`qdeq COMMAND --help` lists a command's options; `qdeq --version` the version."]
    return "\n".join(lines)


def _in_words_of(command: type[Command], message: str) -> str:
    """Put a message on one line and name the option where the library names the field."""
    message = " ".join(message.split())
    match = re.match(r"([a-z_]+)=", message)
    if match and dataclasses.is_dataclass(command):
        names = {field.name for field in dataclasses.fields(command)} - {"run", "runs"}
        if match[1] in names:
            return f"{option_of(match[1])} {message[match.end() :]}"
    return message
