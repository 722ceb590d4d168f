"""The documentation says what is so: its commands run, its links lead somewhere, its keys and flags exist.

Commands run in order, page by page, in one process, on a small synthetic stack. They are run as they are shown but for numbers:
``SMALLER`` replaces those that are too large for the stack, and trainings get a net of a few hundred parameters. Blocks marked
``sh no-test`` need something that is not here (a cluster, a bucket, a server); their flags are checked all the same.
"""

from __future__ import annotations

import importlib.util
import io
import re
import shlex
import shutil
import tomllib
from contextlib import redirect_stdout
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import imageio.v3 as iio
import numpy as np
import pytest
import yaml
from pydantic import BaseModel

from lamella.cli.main import _GROUPS, _VERBS, _examples, build_app, main
from lamella.data.labelled import LabelledData
from lamella.data.stacks import StacksData
from lamella.io import create_volume, open_volume
from lamella.recipe.demo_contrast_report import COMMANDS as CONTRAST_COMMANDS
from lamella.recipe.demo_report import COMMANDS
from lamella.recipe.demo_segment_report import COMMANDS as SEGMENT_COMMANDS
from lamella.recipe.demo_translate_report import COMMANDS as TRANSLATE_COMMANDS
from lamella.recipe.recipe import Recipe
from lamella.tasks.align.specimen import SpecimenConfig, make_specimen
from lamella.tasks.align.specimen.store import write_specimen
from lamella.tasks.align.task import AlignConfig
from lamella.tasks.segment.specimen import SpecimenConfig as CellsConfig
from lamella.tasks.segment.specimen import write_specimen as write_cells
from tests.docs.pages import PAGES, ROOT, Page

SMALLER = [
    (r"--size \d+ \d+", "--size 32 32"),
    (r"--(count) \d+", r"--\1 3"),
    (r"--(depth) \d+", r"--\1 2"),
    (r"--(size) \d+", r"--\1 32"),
    (r"--(chain) \d+", r"--\1 4"),
    (r"\b0:160\b", "0:8"),
    (r"\b160:200\b", "8:10"),
    (r"0:50,0:4096,0:4096", "0:4,0:64,0:64"),
    (r"0:4,0:512,0:512", "0:4,0:64,0:64"),
    (r"0:20,1000:2000,1000:2000", "0:2,10:50,20:60"),
    (r"(validation\.length)=\d+", r"\1=2"),
    (r"--(ramp-steps) \d+", r"--\1 30"),
]
TINY = [
    "task.net={levels: 2, skip: 1, features: 2, features_step: 1, channels: [3], kernel: 3, correlation: 1}",
    "data.crop=32",
    "data.normaliser={kind: percentile}",
    "trainer.steps=2",
    "trainer.batch_size=2",
    "trainer.log_every=1",
    "trainer.validate_every=2",
    "trainer.panels_every=0",
    "trainer.device=cpu",
]
TINY_CELLS = [
    "task.net={kind: unet, features: [4, 4], fold: 1, down: [2]}",
    *(change for change in TINY if change.startswith("trainer.")),
    "trainer.precision='32'",
]
TINY_CONTRAST = [*TINY_CELLS, "data.crop=64", "data.overhang=0"]
TINY_DEFECTS = [*TINY_CELLS, "data.crop=32"]
ADDED = {
    ("demo", "segment"): ["--images", "6", "--size", "128", "--steps", "2"],
    ("demo", "contrast"): ["--images", "6", "--size", "128", "--steps", "2"],
    ("demo", "translate"): ["--images", "6", "--size", "128", "--steps", "2"],
    ("demo",): ["--sections", "4", "--size", "128", "--steps", "2"],
    ("train", "contrast"): TINY_CONTRAST,
    ("train", "defects"): TINY_DEFECTS,
    ("train", "head"): [*TINY_CELLS[1:], "data.crop=64"],
    ("train", "head_points"): TINY_CELLS[1:],
    ("train", "head_baseline"): [*TINY_CELLS, "data.crop=96", "data.context=8"],
    ("train", "segment"): TINY_CELLS,
    ("train", "translate"): [*TINY_CELLS, "data.crop=96", "data.overhang=0"],
    ("train", "translate25d"): [*TINY_CELLS[1:], "task.net.features=[2,2,2,2]", "data.crop=96", "data.overhang=0"],
    ("train", "translate3d"): [*TINY_CELLS[1:], "task.net.features=[2,2,2,2]"],
    ("train", "segment_dcan"): [
        *TINY_CELLS[1:],
        "task.net={kind: dcan, features: [4, 4, 4]}",
        "data.trim.im_dim=112",
        "trainer.early_stopping=null",
    ],
    ("train",): TINY,
    ("tune", "lr"): [*TINY_CELLS, "--counts", "2,1", "--steps", "2,2", "--spans", "0.5"],
    ("tune", "batch"): [*TINY_CELLS, "--sizes", "1,2", "--by", "samples", "--budget", "2"],
    ("tune", "search"): [*TINY_CELLS, "--trials", "2"],
    ("tune", "instances"): ["--candidates", "4", "--rounds", "1", "--jobs", "1"],
    ("prep", "coarse"): ["--turn", "0"],
    ("evaluate", "misalignment"): ["--reach", "2", "--window", "16"],
    ("evaluate", "alignment"): ["--samples", "1", "--chunk", "16"],
}
NEEDS = {  # what is there when a page begins; README begins with sections/ alone and makes the rest
    "align.md": ["sections", "defects.ome.zarr"],
    "coarse.md": ["sections"],
    "misalignment.md": ["aligned.ome.zarr"],
    "conventions.md": ["aligned.ome.zarr", "aligned.fields.ome.zarr"],
    "contrast.md": ["cells"],
    "convert.md": ["sections"],
    "defects.md": ["sections"],
    "frames.md": ["frames"],
    "preprocessing.md": ["frames", "prep.yaml"],
    "grids.md": ["cells", "grid.yaml"],
    "heads.md": ["cells"],
    "images.md": ["frames"],
    "instances.md": ["cells"],
    "labelled-data.md": ["cells", "pairs"],
    "predict.md": ["cells"],
    "runs.md": ["stacks.h5"],
    "segment.md": ["cells"],
    "study.md": ["cells", "study.yaml"],
    "translate.md": ["frames"],
    "training-data.md": ["sections", "raw.ome.zarr"],
    "tune.md": ["cells"],
    "validation.md": ["cells"],
    "volumes.md": ["sections", "volume.ome.zarr", "stacks.h5"],
}
NOT_HERE = ("://", "cluster.yaml")  # what a command that is not run must have, if it is one of lamella's


def page(name: str) -> Page:
    return Page(next(path for path in PAGES if path.name == name))


def smaller(line: str) -> str:
    for shown, used in SMALLER:
        line = re.sub(shown, used, line)
    return line


def run(words: list[str]) -> None:
    """Run one of lamella's commands; added settings make it small. What it advises to do next must be a command too."""
    added = next((extra for verb, extra in ADDED.items() if tuple(words[: len(verb)]) == verb), [])
    code: object = 0
    with redirect_stdout(io.StringIO()) as said:
        try:
            main([*words, *added])
        except SystemExit as stop:
            code = stop.code
    assert not code, " ".join(words)
    for advice in re.findall(r"with: lamella (.*)", said.getvalue()):
        parse(shlex.split(advice))


def parse(words: list[str]) -> None:
    """Refuse words that are no command of lamella's, without running it."""
    build_app(words).parse_args(words, exit_on_error=False, print_error=True)


def run_page(shown: Page) -> None:
    """Every command and every piece of Python, in order."""
    for fence in shown.fences("sh", "python"):
        if fence.info == "python":
            exec(compile(fence.text, shown.path.name, "exec"), {})
            continue
        for line in fence.lines():
            program, *words = shlex.split(smaller(line), comments=True)
            assert program == "lamella", f"{line}: mark blocks of other programs with 'sh no-test'"
            run(words)


def make_cells(here: Path) -> None:
    """Labelled images in two layouts: ``cells/train/images`` with labels, and ``pairs/x.tif`` with ``x_masks.tif``."""
    few = CellsConfig(train=2, val=1, test=1, size=(112, 112), heaps=1)
    write_cells(few, 0, here / "cells")
    (here / "pairs").mkdir()
    for kind, ending in (("images", ".tif"), ("labels", "_masks.tif")):
        for file in (here / "cells" / "test" / kind).iterdir():
            shutil.copy(file, here / "pairs" / f"{file.stem}{ending}")


def write_frames(folder: Path) -> None:
    """Four positions of an experiment: five slices in one channel, cells stained at the middle one in another."""
    folder.mkdir()
    y, x = np.mgrid[:160, :192]
    for p in range(4):
        rng = np.random.default_rng(p)
        for z in range(5):
            iio.imwrite(
                folder / f"im_c000_z{z:03d}_t000_p{p:03d}.png", rng.integers(20000, 30000, y.shape).astype(np.uint16)
            )
        stain = rng.integers(400, 420, y.shape)
        for cell in rng.integers(16, 144, (5, 2)):
            stain[np.hypot(y - cell[0], x - cell[1]) < 14] += 900
        iio.imwrite(folder / f"im_c001_z002_t000_p{p:03d}.png", stain.astype(np.uint16))


def write_grid(path: Path) -> None:
    """The grid that its page shows, with trainings as small as those of other pages, and two combinations in place of four."""
    values = yaml.safe_load(page("grids.md").fences("yaml")[0].text)
    for section, added in (("contrastive", TINY_CONTRAST), ("seg", [*TINY_CELLS[1:], "data.crop=64"])):
        changes = dict(change.split("=", 1) for change in added)
        values[section]["set"] |= {key: yaml.safe_load(value) for key, value in changes.items()}
    values["models"] = values["models"][:1]
    path.write_text(yaml.safe_dump(values))


def write_study(path: Path) -> None:
    """The study that its page shows, with trainings as small as those of other pages, one seed and few points."""
    values = yaml.safe_load(page("study.md").fences("yaml")[0].text)
    for section, added in (("contrast", TINY_CONTRAST), ("scratch", ADDED["train", "head_baseline"])):
        changes = dict(change.split("=", 1) for change in added if not change.startswith("task.net"))
        values[section]["set"] |= {key: yaml.safe_load(value) for key, value in changes.items()}
    values["contrast"]["set"]["task.net"] = yaml.safe_load(TINY_CELLS[0].split("=", 1)[1])
    path.write_text(yaml.safe_dump({**values, "points": [6, 12], "seeds": 1, "forest": {"trees": 4, "sigma_max": 2.0}}))


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the README's commands were run, which began with a folder of sections."""
    here = tmp_path_factory.mktemp("readme")
    config = SpecimenConfig.load({"num_sections": 10, "size": (160, 160), "num_lost": 0, "num_folds": 0})
    files = write_specimen(make_specimen(config, 0), here / "specimen")
    source = open_volume(files.source)
    (folder,) = create_volume(
        here / "sections" / "*.png", box=source.box, dtype=source.dtype, meta=source.meta, chunk=(1, 160, 160)
    )
    folder.write(source.box, source.read(source.box))
    (here / "sections" / "lamella.json").unlink()  # nobody else's folders have one
    shutil.move(files.defects, here / "defects.ome.zarr")
    make_cells(here)
    write_frames(here / "frames")
    (here / "prep.yaml").write_text(page("preprocessing.md").fences("yaml")[0].text)
    write_grid(here / "grid.yaml")
    write_study(here / "study.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        run_page(page("README.md"))
    shutil.copytree(here / "raw.ome.zarr", here / "volume.ome.zarr")
    return here


def test_the_readme_leads_to_an_aligned_volume_and_its_report(readme):
    assert open_volume(str(readme / "aligned.ome.zarr")).box.shape == (10, 80, 80)
    assert "<html" in (readme / "scores" / "report.html").read_text()
    assert "<html" in (readme / "mine" / "report.html").read_text()


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_commands_of_pages_run(name, readme, tmp_path, monkeypatch):
    for needed in NEEDS[name]:
        copy = shutil.copytree if (readme / needed).is_dir() else shutil.copy
        copy(readme / needed, tmp_path / needed)
    monkeypatch.chdir(tmp_path)
    run_page(page(name))


@pytest.fixture
def beside_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder with the first cluster file that the documentation shows."""
    (tmp_path / "cluster.yaml").write_text(page("blocks.md").fences("yaml")[0].text)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_is_run_or_could_not_be(path, beside_a_cluster):
    shown = Page(path)
    runnable = path.name == "README.md" or path.name in NEEDS
    for fence in shown.fences():
        if fence.info not in ("sh", "sh no-test"):
            assert not re.search(r"^(\$ )?lamella ", fence.text, re.MULTILINE), f"{fence.text}: mark the block with sh"
        elif fence.info == "sh":
            assert runnable, f"{path.name} shows commands; say in NEEDS what they begin with"
        else:
            for words in fence.commands():
                check_unrun(words)


def check_unrun(words: list[str]) -> None:
    """A command that cannot run here is at least one that there is."""
    program, *rest = words
    if program == "lamella":
        assert any(sign in word for word in rest for sign in NOT_HERE), f"{' '.join(words)} could run here"
        parse(rest)
    elif program == "make":
        assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in rest)
    elif program == "pip":
        extra = re.search(r"lamella\[(\w+)\]", " ".join(rest))
        assert extra
        assert extra[1] in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    else:
        assert importlib.util.find_spec(program), f"{program} is nothing that lamella installs"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for link in Page(path).links():
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{path.name}: {link}"
        assert not anchor or anchor in Page(target).anchors(), f"{path.name}: {link}"


def test_the_readme_links_every_page():
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in Page(ROOT / "README.md").links()}
    assert {path.resolve() for path in PAGES[1:]} <= linked


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    assert annotation is not UnionType
    return [model for arg in get_args(annotation) for model in models_in(arg)]


def is_key(dotted: str, model: type[BaseModel] = Recipe) -> bool:
    """Whether a recipe can have this key."""
    models = [model]
    for name in dotted.rstrip(".").split("."):
        if name.isdigit():
            continue
        fields = [m.model_fields[name] for m in models if name in m.model_fields]
        if not fields:
            return False
        models = [m for field in fields for m in models_in(field.annotation)]
    return True


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_keys_of_recipes_exist(path):
    shown = Page(path)
    for span in shown.code_spans():
        if re.match(r"(task|data|trainer|validation)\.[a-z]", span):
            key = re.split(r"[=\s,]", span)[0]
            assert is_key(key), f"{path.name}: {key}"
    for head, cells in shown.tables():
        prefix = re.search(r"`((?:task|data|trainer)[\w.]*)`", head)
        for cell in cells if prefix else ():
            for name in re.findall(r"`([a-z_.]+)`", cell):
                key = f"{prefix[1].rstrip('.')}.{name}"
                assert is_key(key.removesuffix(".*").rstrip(".")), f"{path.name}: {key}"


def verbs() -> list[list[str]]:
    plain = [[verb] for verb, (target, _) in _VERBS.items() if is_there(target)]
    return plain + [[group, verb] for group, (_, found) in _GROUPS.items() for verb in found]


def flags_of(words: list[str]) -> set[str]:
    app = build_app(words)
    for word in words:
        app = app[word]
    return {name for argument in app.assemble_argument_collection() for name in argument.names}


def test_examples_of_the_help_and_of_the_demonstration_are_commands(beside_a_cluster):
    found = [_VERBS, *(verbs for _, verbs in _GROUPS.values())]
    targets = [target for verbs in found for target, _ in verbs.values() if is_there(target)]
    shown = [line for target in targets for line in _examples(target).splitlines()]
    shown += [*COMMANDS.splitlines(), *SEGMENT_COMMANDS.splitlines()]
    shown += [*CONTRAST_COMMANDS.splitlines(), *TRANSLATE_COMMANDS.splitlines()]
    commands = [shlex.split(line, comments=True) for line in shown if line.startswith("lamella ")]
    assert len(commands) > 2 * len(targets)
    for words in commands:
        parse(words[1:])


def is_there(target: str) -> bool:
    return importlib.util.find_spec(target.partition(":")[0]) is not None


def test_flags_exist():
    known = {flag for words in verbs() for flag in flags_of(words)} | {"--help", "--version"}
    for path in PAGES:
        ours, _, _ = Page(path).text.partition("## Coming from SEAMLeSS")
        for span in re.findall(r"`([^`\n]+)`", ours):
            for flag in re.findall(r"(?<!\S)--[a-z][a-z-]*", span):
                assert flag in known or span.startswith("pip"), f"{path.name}: {flag}"


def test_examples_of_recipes_are_valid():
    (text,) = [fence.text for fence in page("align.md").fences("yaml")]
    assert len(AlignConfig.load(yaml.safe_load(text)["task"]).specimen) == 9
    (text,) = [fence.text for fence in page("training-data.md").fences("yaml")]
    values = yaml.safe_load(text)
    assert len(StacksData.load(values["data"]).sources) == 2
    assert StacksData.load({**values["data"], **values["validation"]}).length == 32
    (text,) = [fence.text for fence in page("labelled-data.md").fences("yaml")]
    values = yaml.safe_load(text)
    assert len(LabelledData.load(values["data"]).sources) == 4
    assert LabelledData.load({**values["data"], **values["validation"]}).crop == 224
    deep, flat = [yaml.safe_load(fence.text) for fence in page("contrast.md").fences("yaml")]
    assert Recipe.load(deep).data.ndim == 3
    recipe = Recipe.load(flat)
    assert round(recipe.data.crop * recipe.task.trim) == 256
    assert recipe.task.net.maps_down == (12, 72, 432, 2592)
