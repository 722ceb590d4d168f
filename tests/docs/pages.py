"""Reading the documentation: fences, links, tables and flags of its pages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Fence:
    """A fenced block: its info string, as ``sh no-test``, and its text."""

    info: str
    text: str

    def lines(self) -> list[str]:
        """Commands, those that go over several lines in one."""
        whole = self.text.replace("\\\n", " ")
        return [line for line in whole.splitlines() if line.strip() and not line.startswith("#")]

    def commands(self) -> list[list[str]]:
        """The words of each command."""
        return [shlex.split(line, comments=True) for line in self.lines()]


@dataclass(frozen=True)
class Page:
    """A page of documentation."""

    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def prose(self) -> str:
        """The text without fenced blocks."""
        return _FENCE.sub("", self.text)

    def fences(self, *infos: str) -> list[Fence]:
        """The fenced blocks of these info strings; all if none is given."""
        found = [Fence(info.strip(), text) for info, text in _FENCE.findall(self.text)]
        return [fence for fence in found if not infos or fence.info in infos]

    def links(self) -> list[str]:
        return [link for link in _LINK.findall(self.prose) if not link.startswith(("http:", "https:"))]

    def anchors(self) -> set[str]:
        """What its headings are called in links."""
        headings = re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}

    def code_spans(self) -> list[str]:
        return re.findall(r"`([^`\n]+)`", self.prose)

    def tables(self) -> Iterator[tuple[str, list[str]]]:
        """For each table the head and the cells of its first column."""
        for table in re.findall(r"(?:^\|.*\n)+", self.prose, re.MULTILINE):
            head, _, *rows = [line.strip("|\n ").split("|")[0].strip() for line in table.splitlines()]
            yield head, rows
