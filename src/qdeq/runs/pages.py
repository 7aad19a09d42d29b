"""HTML pages that hold everything they show: inline style, pictures in the page, no scripts.

The parts return HTML from plain text, escaped here and nowhere else.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from string import Template


def page(title: str, parts: Iterable[str], *, wide: bool = False) -> str:
    """A whole page.

    Parameters
    ----------
    title
        Plain text.
    parts
        What stands under the title, HTML that the functions of this module return.
    wide
        Whether the page has room for tables of many columns.
    """
    return _PAGE.substitute(
        title=escape(title), layout="wide" if wide else "narrow", body="\n".join(parts)
    )


def heading(text: str) -> str:
    """A heading within the page."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, style: str = "") -> str:
    """A paragraph; nothing where there is no text."""
    return f'<p class="{style}">{escape(text)}</p>' if text else ""


def command(text: str) -> str:
    """What a person types."""
    return f"<pre>{escape(text)}</pre>"


def bullets(sentences: Iterable[str]) -> str:
    """Sentences as a list."""
    return "<ul>" + "".join(f"<li>{escape(s)}</li>" for s in sentences) + "</ul>"


def pairs(rows: Mapping[str, str]) -> str:
    """Labels and values as a table."""
    cells = (f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in rows.items())
    return f'<table class="pairs">{"".join(cells)}</table>'


def grid(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table with a header."""
    lines = [f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in header)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in body]
    return f'<div class="wide"><table class="grid">{"".join(lines)}</table></div>'


def figures(pictures: Mapping[str, tuple[bytes, str, str]]) -> str:
    """Pictures: PNG content, class of the style, and caption by name."""
    shown = (
        f'<figure class="{escape(style)}"><img alt="{escape(name)}" '
        f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for name, (content, style, caption) in pictures.items()
    )
    return '<div class="figures">\n' + "\n".join(shown) + "\n</div>"


def columns(sections: Mapping[str, str]) -> str:
    """Parts beside each other, by heading."""
    shown = (f"<section>{heading(name)}{part}</section>" for name, part in sections.items())
    return '<div class="columns">' + "".join(shown) + "</div>"


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>qdeq: $title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #111827; margin: 0; background: #f3f4f6; }
main { max-width: 62rem; margin: 2rem auto; padding: 2rem 2.5rem; background: #fff;
  border: 1px solid #e5e7eb; border-radius: 8px; }
main.wide { max-width: 84rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
.run { color: #6b7280; margin: .2rem 0 0; overflow-wrap: anywhere; }
.score { font-size: 2.2rem; font-weight: 600; color: #0072b2; margin: 1rem 0 0; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { font-weight: 400; color: #6b7280; }
.pairs th { text-align: left; padding: .15rem 2rem .15rem 0; }
.pairs td { padding: .15rem 0; overflow-wrap: anywhere; }
.grid { font-size: .85rem; }
.grid th { text-align: right; padding: .2rem .8rem .4rem 0; vertical-align: bottom;
  border-bottom: 1px solid #d1d5db; }
.grid td { text-align: right; padding: .2rem .8rem .2rem 0; white-space: nowrap; }
.grid tr > :nth-child(-n+2) { text-align: left; }
.grid tr:hover td { background: #f9fafb; }
ul { padding-left: 1.2rem; }
figure { margin: 0 0 1.5rem; max-width: 100%; }
figure img { max-width: min(100%, 50rem); height: auto; display: block; }
figure.training, figure.seeds, figure.circuit { flex: 1 0 100%; }
figure.residual { width: 26rem; }
figure.confusion { width: 20rem; }
figcaption { color: #6b7280; font-size: .85rem; margin-top: .3rem; max-width: 44rem; }
.figures, .columns { display: flex; flex-wrap: wrap; gap: 1rem 3rem; }
pre { background: #f3f4f6; padding: .8rem 1rem; border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
</style>
</head>
<body>
<main class="$layout">
<h1>$title</h1>
$body
</main>
</body>
</html>
""")
