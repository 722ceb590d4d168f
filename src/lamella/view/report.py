"""A report: one HTML file that holds its pictures and needs nothing from elsewhere.

Headline figures come first, then what they rest on, at the end how it was made. The page follows the reader's light or dark
setting. All text is escaped.
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamella.core.files import write_text

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --soft: #5d6570; --ground: #fbfbfa; --card: #ffffff; --line: #dcdfe3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6e9; --soft: #9aa2ad; --ground: #16191d; --card: #1f2329; --line: #363c44; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 70rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p { max-width: 48rem; margin: .5rem 0; } .lead, figcaption, .note, summary { color: var(--soft); }
.figures { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.4rem 0; }
.figure { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .7rem 1rem; min-width: 10rem; }
.figure b { display: block; font-size: 1.5rem; font-weight: 600; } .figure .note { font-size: .82rem; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure { margin: .6rem 0; max-width: min(100%, 33rem); } figure.wide { max-width: 100%; } figcaption { font-size: .85rem; max-width: 44rem; }
img { max-width: 100%; border-radius: 3px; } .pixels { image-rendering: pixelated; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; } .sortable th { cursor: pointer; } th:first-child, td:first-child { text-align: left; }
pre { overflow-x: auto; font-size: .8rem; background: var(--card); border: 1px solid var(--line); padding: .8rem; }
"""

_SORT = """
for (const head of document.querySelectorAll("table.sortable th")) head.onclick = () => {
  const body = head.closest("table").tBodies[0], at = head.cellIndex, down = head.dataset.down = head.dataset.down === "1" ? "0" : "1";
  const value = row => row.cells[at].textContent, number = row => parseFloat(value(row));
  const order = (a, b) => isNaN(number(a)) || isNaN(number(b)) ? value(a).localeCompare(value(b)) : number(a) - number(b);
  body.append(...[...body.rows].sort((a, b) => (down === "1" ? 1 : -1) * order(a, b)));
};"""


@dataclass(frozen=True)
class Headline:
    """One figure of the first row: what it is, its value, and what to compare it with."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Shown:
    """A picture in the page: PNG or GIF bytes and a caption. ``width`` in CSS px enlarges small ones without smoothing; ``wide``
    ones may take the width of the page.
    """

    data: bytes
    caption: str = ""
    width: int | None = None
    wide: bool = False


class Report:
    """Collects the parts of a page in reading order; ``write`` makes the file."""

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self._parts = [f"<h1>{html.escape(title)}</h1>"]
        self._sortable = False
        if lead:
            self._parts.append(f'<p class="lead">{html.escape(lead)}</p>')

    def headlines(self, figures: Sequence[Headline]) -> None:
        cards = (
            f'<div class="figure">{html.escape(f.name)}<b>{html.escape(f.value)}</b>'
            f'<span class="note">{html.escape(f.note)}</span></div>'
            for f in figures
        )
        self._parts.append(f'<div class="figures">{"".join(cards)}</div>')

    def section(self, title: str, text: str = "") -> None:
        self._parts.append(f"<h2>{html.escape(title)}</h2>")
        if text:
            self.text(text)

    def text(self, text: str) -> None:
        self._parts += [f"<p>{html.escape(paragraph)}</p>" for paragraph in text.split("\n\n")]

    def code(self, text: str) -> None:
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def pictures(self, shown: Sequence[Shown]) -> None:
        """Pictures side by side, as many as fit."""
        self._parts.append(f'<div class="pictures">{"".join(_figure(s) for s in shown)}</div>')

    def table(self, rows: Sequence[Mapping[str, Any]], caption: str = "", *, sortable: bool = False) -> None:
        """Rows with the same keys; numbers are shown with as many digits as mean something. ``sortable``: by clicks on the head."""
        if not rows:
            return
        head = "".join(f"<th>{html.escape(str(key))}</th>" for key in rows[0])
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(number(v))}</td>" for v in row.values()) + "</tr>" for row in rows
        )
        self._parts.append(
            f'<div class="wide"><table{" class=sortable" if sortable else ""}><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )
        self._sortable = self._sortable or sortable
        if caption:
            self._parts.append(f'<p class="note">{html.escape(caption)}</p>')

    def provenance(self, facts: Mapping[str, Any]) -> None:
        """How it was made, folded away at the end of the page."""
        text = html.escape(json.dumps(facts, indent=2, default=str))
        self._parts.append(
            f"<h2>How this was made</h2><details><summary>command, versions, config</summary><pre>{text}</pre></details>"
        )

    def html(self) -> str:
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style></head>\n<body>\n"
            + "\n".join(self._parts)
            + (f"\n<script>{_SORT}</script>" if self._sortable else "")
            + "\n</body></html>\n"
        )

    def write(self, path: str | Path) -> None:
        """Write the page in one step."""
        write_text(path, self.html())


def _figure(shown: Shown) -> str:
    kind = "gif" if shown.data.startswith(b"GIF") else "png"
    data = base64.b64encode(shown.data).decode()
    style = f' class="pixels" style="width:{shown.width}px"' if shown.width else ""
    alt = html.escape(shown.caption, quote=True)
    return (
        f'<figure{" class=wide" if shown.wide else ""}><img src="data:image/{kind};base64,{data}" alt="{alt}"{style}>'
        f"<figcaption>{html.escape(shown.caption)}</figcaption></figure>"
    )


def number(value: Any) -> str:
    """A value for a table: three figures for floats, a dash for what is not known.

    >>> number(0.123456), number(1234.5), number(7), number(float("nan"))
    ('0.123', '1234', '7', '-')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if not isinstance(value, float) or isinstance(value, bool):
        return str(value)
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(max(digits, 0), 6)}f}"
