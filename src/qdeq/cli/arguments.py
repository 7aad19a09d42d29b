"""From words on the command line to a command's dataclass, with one-line errors.

tyro builds the parser and the help text from the dataclass. Its error messages are boxes of several
lines, so the words are checked here first, against the same dataclass.
"""

import contextlib
import dataclasses
import difflib
import io
import os
import re
import shutil
import typing
from collections.abc import Iterable, Iterator, Sequence
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeVar

import docstring_parser
import tyro

from qdeq.errors import UserError
from qdeq.training.checked import plain_type


class Command(Protocol):
    """A sub-command: a frozen dataclass whose fields are its options and arguments."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> Any:
        """Return an instance whose values are used where `argv` gives none, or None."""
        ...

    def execute(self, given: frozenset[str]) -> None:
        """Do it; `given` names the fields that the user set."""
        ...


CommandType = TypeVar("CommandType", bound=Command)


def parse(
    command: type[CommandType], argv: Sequence[str], *, prog: str
) -> tuple[CommandType, frozenset[str]]:
    """Build a command from the words after its name.

    Returns
    -------
    command, given
        The instance, and the names of the fields that the user set.

    Raises
    ------
    UserError
        For an unknown option or value, a missing value, or too many or too few arguments.
    SystemExit
        With status 0, after printing the help text that was asked for.
    """
    given = _check(command, argv, prog)
    if not {"-h", "--help"}.isdisjoint(argv):
        _make_help_readable(command)
    default = command.defaults(argv)
    # Boxes by tyro would be a second message; what reaches it is what `_check` does not know of.
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), _wide_enough_for_help():
            arguments = tyro.cli(
                command,
                prog=prog,
                args=list(argv),
                default=tyro.MISSING_NONPROP if default is None else default,
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        words = re.sub(r"[^\x20-\x7e]+", " ", complaint.getvalue())
        raise UserError(f"{' '.join(words.split())}") from None
    return arguments, given


def _make_help_readable(command: type) -> None:
    """Let the help text break where the terminal ends, and nowhere else.

    tyro would also break where lines of the source end, as it takes the indentation of a field's
    docstring for that of an example.
    """
    fields = {field.name: field for field in dataclasses.fields(command)}
    for owner in reversed(command.__mro__[:-1]):  # the base classes first
        for described in docstring_parser.parse_from_object(owner).params:
            field = fields.get(described.arg_name)
            if field is not None and described.description is not None:
                text = " ".join(described.description.split())
                field.metadata = MappingProxyType({**field.metadata, "help": text})


@contextlib.contextmanager
def _wide_enough_for_help() -> Iterator[None]:
    """At least 40 columns: with fewer tyro writes a letter a line, and with 5 it never ends."""
    before = os.environ.get("COLUMNS")
    if shutil.get_terminal_size().columns < 40:
        os.environ["COLUMNS"] = "40"
    try:
        yield
    finally:
        if before is not None:
            os.environ["COLUMNS"] = before
        else:
            os.environ.pop("COLUMNS", None)


# What other tools call an option or a command of ours, where neither spelling nor initials tell.
_CALLED_ELSEWHERE = {
    "step-size": "learning-rate",
    "alpha": "learning-rate",
    "iterations": "epochs",
    "max-iter": "max-steps",
    "wires": "n-qubits",
    "circuit": "ansatz",
    "model": "ansatz",
    "measurements": "observables",
    "label": "target",
    "gpus": "devices",
    "l2": "weight-decay",
    "early-stopping": "patience",
    "backward": "adjoint",
    "directory": "out",
    "folder": "out",
    "resolution": "n-features",
    "logger": "track",
    "random-state": "seed",
    "fit": "train",
    "test": "evaluate",
    "score": "evaluate",
    "infer": "predict",
    "plot": "draw",
    "show": "draw",
    "cost": "resources",
    "info": "doctor",
    "check": "doctor",
    "continue": "resume",
}


def closest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` when a known word is meant, as far as one can tell.

    Meant are, in this order: what other tools call so, initials, names that begin with the word or
    have it as a part, and names that are spelt alike.

    >>> closest("--epohcs", ["--epochs", "--seed"])
    '; did you mean --epochs?'
    >>> closest("--lr", ["--epochs", "--learning-rate"])
    '; did you mean --learning-rate?'
    >>> closest("--warmup", ["--warmup-epochs", "--warmup-layers", "--seed"])
    '; did you mean --warmup-epochs or --warmup-layers?'
    """
    names = {name.lstrip("-"): name for name in known}
    word = word.lstrip("-").lower().replace("_", "-")
    elsewhere = _CALLED_ELSEWHERE.get(word)
    if elsewhere in names:
        near = [elsewhere]
    else:
        parts = {name: name.split("-") for name in names}
        initials = {name: "".join(part[:1] for part in parts[name]) for name in names}
        near = [name for name in names if len(word) > 1 and initials[name] == word]
        near = near or [name for name in names if len(word) > 2 and name.startswith(word)]
        near = near or [name for name in names if word in parts[name]]
        near = near or difflib.get_close_matches(word, names, n=1, cutoff=0.6)
        every = sorted({part for name in names for part in parts[name]})
        alike = difflib.get_close_matches(word, every, n=1, cutoff=0.8)
        near = near or [name for name in names if set(alike) & set(parts[name])]
    return f"; did you mean {' or '.join(names[n] for n in near[:3])}?" if near else ""


def _check(command: type, argv: Sequence[str], prog: str) -> frozenset[str]:
    """Raise `UserError` unless tyro will understand the words; return the names of fields set."""
    hints = typing.get_type_hints(command, include_extras=True)
    fields = dataclasses.fields(command)
    options = {option_of(f.name): f.name for f in fields if not _is_positional(hints[f.name])}
    positional = [f for f in fields if _is_positional(hints[f.name])]
    given: set[str] = set()
    words, n_positional = list(argv), 0
    while words:
        word = words.pop(0)
        option, has_value, value = word.partition("=")
        option = option.replace("_", "-")
        if word in ("-h", "--help"):
            return frozenset()
        if option in options:
            name = options[option]
            given.add(name)
            if plain_type(hints[name]) is bool:
                if has_value:
                    raise UserError(f"{option} takes no value: leave out {value!r}")
                continue
            if not has_value:
                if not words or words[0].startswith("--"):
                    raise UserError(f"{option} needs a value: {_expected(hints[name])}")
                value = words.pop(0)
            _check_value(option, value, hints[name])
        elif word.startswith("-") and word != "-":
            raise UserError(
                f"{option} is not an option of {prog}{closest(option, options)} "
                f"(`{prog} --help` lists them)"
            )
        elif n_positional == len(positional):
            raise UserError(f"{word!r} is one argument too many: `{prog} --help` shows the usage")
        else:
            name = positional[n_positional].name
            given.add(name)
            _check_value(name.upper(), word, hints[name])
            n_positional += typing.get_origin(plain_type(hints[name])) is not tuple
    for field in positional[n_positional:]:
        if field.default is dataclasses.MISSING and field.name not in given:
            raise UserError(f"{prog} needs {field.name.upper()}: `{prog} --help` says what it is")
    return frozenset(given)


def _check_value(option: str, value: str, hint: Any) -> None:
    plain = plain_type(hint)
    try:
        if typing.get_origin(plain) is Literal:
            known = typing.get_args(plain)
            if value not in known:
                raise UserError(f"{option} {value}: {_expected(hint)}{closest(value, known)}")
        elif plain in (int, float):
            plain(value)
    except UserError:
        raise
    except ValueError:
        raise UserError(f"{option} {value}: {_expected(hint)}") from None


def _expected(hint: Any) -> str:
    plain = plain_type(hint)
    if typing.get_origin(plain) is Literal:
        return f"choose one of {', '.join(typing.get_args(plain))}"
    return {int: "give a whole number", float: "give a number"}.get(plain, "give a text")


def _is_positional(hint: Any) -> bool:
    return tyro.conf.Positional in getattr(hint, "__metadata__", ())


def option_of(name: str) -> str:
    """What a field is called on the command line."""
    return "--" + name.replace("_", "-")


def options_of(names: Iterable[str]) -> str:
    """What fields are called on the command line, in one order.

    >>> options_of({"sites", "device_qubits"})
    '--device-qubits, --sites'
    """
    return ", ".join(map(option_of, sorted(names)))
