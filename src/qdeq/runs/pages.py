"""HTML pages that hold everything they show: inline style, pictures and, where asked for, a script.

The parts return HTML from plain text, escaped here and nowhere else. Style and scripts are files of
`page_files/`. A page allows only those two of its own, by their hashes, and loads nothing.
"""

import base64
import functools
import hashlib
import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

import numpy as np


def page(
    title: str,
    parts: Iterable[str],
    *,
    wide: bool = False,
    scripts: Sequence[str] = (),
    data: Any = None,
) -> str:
    """A whole page.

    Parameters
    ----------
    title
        Plain text.
    parts
        What stands under the title, HTML that the functions of this module return.
    wide
        Whether the page has room for tables of many columns.
    scripts
        Names of files of `page_files/` to run in the page, one after the other as one script.
    data
        What they read, of which JSON can be made.
    """
    style, script, policy = _page_file("style.css"), "", ""
    if scripts:
        content = "".join(map(_page_file, scripts))
        script = (
            f'<script type="application/json" id="data">{_json_in_html(data)}</script>\n'
            f"<script>{content}</script>\n"
        )
        policy = f"; script-src '{_hash(content)}'"
    return _PAGE.substitute(
        title=escape(title),
        layout="wide" if wide else "narrow",
        body="\n".join(parts),
        style=style,
        scripts=script,
        policy=f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; base-uri 'none'; "
        f"form-action 'none'{policy}",
    )


@functools.cache
def _page_file(name: str) -> str:
    return resources.files("qdeq.runs").joinpath("page_files", name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def _json_in_html(data: Any) -> str:
    """JSON that no HTML parser takes for the end of its element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def heading(text: str) -> str:
    """A heading within the page."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, style: str = "") -> str:
    """A paragraph; nothing where there is no text."""
    kind = f' class="{style}"' if style else ""
    return f"<p{kind}>{escape(text)}</p>" if text else ""


def command(text: str) -> str:
    """What a person types."""
    return f"<pre>{escape(text)}</pre>"


def bullets(sentences: Iterable[str]) -> str:
    """Sentences as a list."""
    return "<ul>" + "".join(f"<li>{escape(s)}</li>" for s in sentences) + "</ul>"


def links(addresses: Mapping[str, str]) -> str:
    """A list of links, text to address."""
    shown = (f'<li><a href="{escape(a)}">{escape(t)}</a></li>' for t, a in addresses.items())
    return f"<ul>{''.join(shown)}</ul>"


def pairs(rows: Mapping[str, str]) -> str:
    """Labels and values as a table."""
    cells = (
        f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in rows.items()
    )
    return f'<div class="wide"><table class="pairs">{"".join(cells)}</table></div>'


def grid(
    header: Sequence[str],
    body: Iterable[Sequence[str]],
    *,
    n_labels: int = 1,
    links: Mapping[str, str] | None = None,
) -> str:
    """A table with a header, as wide as it is within its own scroll bar.

    The first one or two columns are words (`n_labels`), and `links` are the addresses of first
    cells by their text.
    """

    def cell(text: str, column: int) -> str:
        address = (links or {}).get(text) if column == 0 else None
        shown = escape(text)
        return (
            f'<td><a href="{escape(address)}">{shown}</a></td>' if address else f"<td>{shown}</td>"
        )

    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in header)
    lines = [f"<tr>{head}</tr>"]
    lines += [f"<tr>{''.join(cell(text, k) for k, text in enumerate(row))}</tr>" for row in body]
    kind = " two" if n_labels > 1 else ""
    # A box that scrolls can be reached and scrolled by keyboard only with a tab stop.
    return (
        f'<div class="wide" tabindex="0"><table class="grid{kind}">{"".join(lines)}</table></div>'
    )


def figures(pictures: Mapping[str, tuple[bytes, str, str]]) -> str:
    """Pictures: PNG content, class of the style, and caption by name."""
    shown = (
        f'<figure class="{escape(style)}"><img alt="{escape(name)}" '
        f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for name, (content, style, caption) in pictures.items()
    )
    return '<div class="figures">\n' + "\n".join(shown) + "\n</div>"


def grey_image(pixels: Sequence[int], side: int, text: str) -> str:
    """A square image of numbers from 0 to 255, for whom cannot see it `text`."""
    rows = np.asarray(pixels, np.uint8).reshape(side, side)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    encoded = base64.b64encode(b"\x89PNG\r\n\x1a\n" + parts).decode()
    return f'<img class="sample" alt="{escape(text)}" src="data:image/png;base64,{encoded}">'


def columns(sections: Mapping[str, str]) -> str:
    """Parts beside each other, by heading."""
    shown = (f"<section>{heading(name)}{part}</section>" for name, part in sections.items())
    return '<div class="columns">' + "".join(shown) + "</div>"


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>qdeq: $title</title>
<style>$style</style>
</head>
<body>
<main class="$layout">
<h1>$title</h1>
$body
</main>
$scripts</body>
</html>
""")
