"""What a terminal or a file that is not UTF-8 shows of texts that hold more than ASCII.

Drawings are laid out in ASCII from the start; everything else that the command prints is written
with a stand-in for each character that the stream cannot show. Imports nothing large.
"""

import codecs
import contextlib
import sys
from collections.abc import Iterator
from typing import Any

# One character each, so that columns stay columns.
_ALIKE = {
    **dict.fromkeys("─━═−–—╌╴╶╸╺", "-"),
    **dict.fromkeys("│┃║├┤┼╋┣┫╞╡", "|"),
    **dict.fromkeys("╭╮┌┐┏┓╔╗┬┳╷", "."),
    **dict.fromkeys("╰╯└┘┗┛╚╝┴┻╵", "'"),
    **dict.fromkeys("·•…", "."),
    "●": "*",
    "⊕": "+",
    "×": "x",
    "⟨": "<",
    "⟩": ">",
    "′": "'",
    "†": "+",
    "√": "v",
}
PLAIN = str.maketrans(_ALIKE)

_WRITTEN_OUT = {"±": "+/-", "µ": "u", "μ": "u", "π": "pi", "θ": "theta", "≥": ">=", "≤": "<="}
_STAND_INS = _ALIKE | _WRITTEN_OUT

# A stream with another rule, such as `ascii:replace`, has been told what to do.
_STRICT = ("strict", "surrogateescape", "backslashreplace")


def can_print(text: str) -> bool:
    """Whether standard output, as it is now, has every character of a text."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True


@contextlib.contextmanager
def plain_where_needed() -> Iterator[None]:
    """Let standard output and error replace what they cannot encode, instead of raising.

    For the command, whose streams these are; a library has no business changing them.
    """
    codecs.register_error("qdeq.plain", _stand_in)
    changed: list[tuple[Any, str]] = []
    for stream in (sys.stdout, sys.stderr):
        rule = getattr(stream, "errors", None)
        if rule in _STRICT and hasattr(stream, "reconfigure"):
            changed.append((stream, rule))
            stream.reconfigure(errors="qdeq.plain")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        for stream, rule in changed:
            with contextlib.suppress(ValueError, OSError):  # closed, or nobody reads any more
                stream.reconfigure(errors=rule)


def _stand_in(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is not UTF-8
        return bytes([ord(character) - 0xDC00]), error.start + 1
    stand_in = _STAND_INS.get(character, character.encode("ascii", "backslashreplace").decode())
    return stand_in, error.start + 1
