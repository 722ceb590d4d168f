"""A report is one file, well formed, that loads nothing from elsewhere."""

import re
from html.parser import HTMLParser

import numpy as np

from lamella.view import pictures
from lamella.view.report import Headline, Report, Shown, number

VOID = {"meta", "img", "br", "hr"}


class Checker(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.words = ""

    def handle_starttag(self, tag, attrs):
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def test_report_is_well_formed_and_self_contained(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    report = Report("A <b>title</b>", "lead & more")
    report.headlines([Headline("error", "0.5 px", "was 7 px")])
    report.section("Pictures", "one\n\ntwo")
    report.pictures([Shown(pictures.png(image), 'with "quotes" <i>'), Shown(pictures.gif([image, image]), "moves", 80)])
    report.table([{"z": 1, "r": 0.51234}, {"z": 2, "r": float("nan")}], "the caption")
    report.table([])
    report.code("lamella align RUN SOURCE OUT")
    report.provenance({"seed": 1, "source": "<script>alert(1)</script>"})
    path = tmp_path / "new" / "report.html"
    report.write(path)
    checker = Checker()
    checker.feed(path.read_text())
    assert checker.open == []
    assert len(checker.links) == 2
    assert all(link.startswith("data:image/") for link in checker.links)
    assert "A <b>title</b>" in checker.words
    assert "0.512" in checker.words
    assert "-" in checker.words
    assert not re.search(r"<script|https?://|@import|url\(", path.read_text())


def test_numbers_have_three_figures():
    assert [number(v) for v in (0.123456, 1234.5, 12.34, 7, 0.0, float("nan"), None, "text")] == [
        "0.123", "1234", "12.3", "7", "0", "-", "-", "text",
    ]  # fmt: skip
    assert number(-0.00456) == "-0.00456"
