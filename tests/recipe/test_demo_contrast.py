"""The demonstration of embeddings goes through and tells what its study found. Small, so it shows that it works, not how well."""

import csv

import pytest

from lamella.core.errors import UserError
from lamella.recipe.demo_contrast import run_demo
from lamella.recipe.demo_contrast_report import headlines
from lamella.recipe.demo_settings import DemoSettings

TINY = DemoSettings(images=6, size=128, steps=2, device="cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run_demo(tmp_path_factory.mktemp("demo") / "demo", TINY)


def test_all_methods_are_scored_and_shown(whole):
    demo, results = whole
    page = demo.report.read_text()
    assert "With your own images" in page
    assert page.count("data:image/png") == 2 + 2  # strips of the two test images, two curves
    assert list(demo.seconds) == ["data", "study", "pictures"]
    assert [h.name for h in headlines(results)] == [
        "embedding with head",
        "end to end",
        "head on pixels",
        "random forest",
    ]
    with (demo.out / "study" / "table.csv").open(newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["embedding", "scratch", "pixels", "forest"]


def test_refuses_to_replace(whole):
    with pytest.raises(UserError, match="--overwrite"):
        run_demo(whole[0].out, TINY)
