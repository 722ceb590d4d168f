"""The page on augmentation: its code runs, its recipe is valid, and it names every kind."""

import re
from pathlib import Path
from typing import get_args

import imageio.v3 as imageio
import yaml
from pydantic import TypeAdapter

from lamella.data.augment import Imaging, Specimen

PAGE = (Path(__file__).parents[2] / "docs" / "augmentation.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_code_writes_a_sheet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    exec(compile(code, "augmentation.md", "exec"), {})
    sheet = imageio.imread("augmentation.png")
    assert sheet.shape == (4 * 256, 4 * 256)
    assert sheet.std() > 10


def test_the_recipe_is_valid():
    (text,) = blocks("yaml")
    recipe = yaml.safe_load(text)
    assert len(TypeAdapter(list[Specimen]).validate_python(recipe["specimen"])) == 3
    assert len(TypeAdapter(list[Imaging]).validate_python(recipe["imaging"])) == 3


def test_every_kind_is_explained():
    for union in (Specimen, Imaging):
        for cls in get_args(get_args(union)[0]):
            assert f"`{cls.model_fields['kind'].default}`" in PAGE
