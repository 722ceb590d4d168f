"""Combinations and their numbers.

A combination is known by its content, the recipe that it comes to, and keeps the number that it got when it was first planned:
``GRID/grid.json`` holds both. A grid that is edited gets numbers for what is new; what is left out keeps its number and its folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock

from lamella.core.errors import UserError
from lamella.core.files import write_json
from lamella.core.provenance import provenance
from lamella.data.image_source import ImageSource, selected
from lamella.data.labelled_source import pairs_of
from lamella.io import open_volume
from lamella.io.pairs import look, read_names, select
from lamella.recipe.find import parse_recipe, recipe_values
from lamella.recipe.grid.config import Changes, GridConfig, Reads
from lamella.recipe.recipe import Recipe
from lamella.recipe.tune.folder import assignment, changed
from lamella.recipe.validate.samples import source_of
from lamella.recipe.validate.score import method_of
from lamella.tasks.contrast.config import ContrastConfig
from lamella.tasks.head.config import HeadConfig

_RECORD = "grid.json"
_OF_BASE = {"task": ("net", "h_channels", "beside", "channels"), "data": ("ndim", "slices", "normaliser")}


@dataclass(frozen=True)
class Combination:
    """A contrast recipe, or one of a head: its number, the recipe's ``values``, and which keys are varied."""

    number: int
    values: dict[str, Any]
    varied: Changes
    reads: Reads | None = None

    @property
    def name(self) -> str:
        return f"combination-{self.number}"

    def told(self) -> str:
        """What is varied, as on the command line."""
        words = [assignment(key, value) for key, value in self.varied.items()]
        return " ".join([*words, *([f"reads={self.reads}"] if self.reads else [])])


@dataclass(frozen=True)
class Plan:
    """A grid with its combinations, numbered."""

    config: GridConfig
    contrastive: tuple[Combination, ...]
    seg: tuple[Combination, ...]
    left_out: tuple[int, ...] = ()
    """Numbers of combinations that the grid had once and has no more."""

    @property
    def path(self) -> Path:
        return Path(self.config.out)

    def folder(self, combination: Combination) -> Path:
        return self.path / combination.name

    def of(self, number: int) -> Combination:
        """The combination of a number; raises UserError if the grid has none."""
        for combination in self.contrastive:
            if combination.number == number:
                return combination
        there = ", ".join(str(c.number) for c in self.contrastive)
        raise UserError(f"there is no combination {number}; the grid has {there}")

    def seg_recipe(self, combination: Combination, seg: Combination) -> Recipe:
        """The recipe of a head, with what it takes over from the contrast recipe; ``embeddings`` have paths of images still."""
        return parse_recipe(fitted(seg, combination), f"seg {seg.name} on {combination.name}", task="head")

    @cached_property
    def contents(self) -> dict[str, Any]:
        """What is kept of the grid in every folder that it makes."""
        return self.config.to_dict()


def make_plan(config: GridConfig) -> Plan:
    """All combinations, numbered as in ``GRID/grid.json``, and what is new after them; checked, but nothing is written.

    Raises UserError for a key that no config has, and for recipes and settings that cannot be.
    """
    first, second = config.contrastive, config.seg
    contrastive = [_made(first.recipe, first.set, changes) for changes in _with_models(config)]
    seg = [
        (*_made(second.recipe, second.set, changes), reads) for changes in second.products() for reads in second.reads
    ]
    record = _read(Path(config.out))
    mine = _numbered([(values, varied, None) for values, varied in contrastive], record["contrastive"])
    heads = _numbered(seg, record["seg"])
    numbers = {c.number for c in mine}
    gone = tuple(entry["number"] for entry in record["contrastive"] if entry["number"] not in numbers)
    plan = Plan(config, tuple(mine), tuple(heads), gone)
    _check(plan)
    return plan


def write_plan(config: GridConfig) -> Plan:
    """Make the plan and note the numbers of what is new, one process at a time."""
    path = Path(config.out)
    make_plan(config)  # what is wrong is told before a folder is made
    if path.exists() and any(path.iterdir()) and not (path / _RECORD).is_file():
        raise UserError(f"{path} exists and holds no grid; choose another 'out'")
    path.mkdir(parents=True, exist_ok=True)
    with FileLock(path / ".lock"):
        plan = make_plan(config)
        record = _read(path)
        for name, combinations in (("contrastive", plan.contrastive), ("seg", plan.seg)):
            known = {entry["number"] for entry in record[name]}
            record[name] += [_entry(c) for c in combinations if c.number not in known]
        made = record.get("made") or provenance()
        write_json(
            path / _RECORD, {"grid": config.to_dict(), "made": made, **{k: record[k] for k in ("contrastive", "seg")}}
        )
    return plan


def fitted(seg: Combination, combination: Combination) -> dict[str, Any]:
    """The values of a head's recipe on the net of a contrast recipe."""
    recipe = parse_recipe(combination.values, combination.name, task="contrast")
    assert isinstance(recipe.task, ContrastConfig)
    base = recipe.to_dict()
    values = json.loads(json.dumps(seg.values))
    if seg.reads in ("base", "scratch"):
        for section, keys in _OF_BASE.items():
            own = {key: base[section][key] for key in keys}
            values[section] = {**values[section], **own} if section == "task" else {**own, **values[section]}
        values["task"].pop("ndim", None)
    if seg.reads == "scratch":
        values["task"]["freeze_base"] = False
    if seg.reads == "embeddings":
        ndim = base["data"]["ndim"]
        values["task"] = {**values["task"], "net": None, "channels": recipe.task.out_channels, "ndim": ndim}
        values["task"]["freeze_base"] = False
        values["data"] = {**values["data"], "ndim": ndim, "slices": 1, "normaliser": {"kind": "factor", "factor": 1.0}}
    return values


def _with_models(config: GridConfig) -> list[Changes]:
    """What is varied of the contrast recipe: the product of its own keys, for each model."""
    if twice := [key for model in config.models for key in model if key in config.contrastive.grid]:
        raise UserError(f"{twice[0]} is in 'models' and in 'contrastive.grid'; name it in one of them")
    return [{**model, **own} for model in config.models for own in config.contrastive.products()]


def _made(recipe: str, changes: Changes, varied: Changes) -> tuple[dict[str, Any], Changes]:
    return changed(changed(recipe_values(recipe), changes), varied), varied


def _numbered(
    made: Iterable[tuple[dict[str, Any], Changes, Reads | None]], known: Sequence[Mapping[str, Any]]
) -> list[Combination]:
    """Combinations with their numbers, in order of these; those of equal content are one."""
    numbers = {entry["content"]: int(entry["number"]) for entry in known}
    found: dict[int, Combination] = {}
    for values, varied, reads in made:
        number = numbers.setdefault(content_of(values, reads), len(numbers))
        found.setdefault(number, Combination(number, values, varied, reads))
    return [found[number] for number in sorted(found)]


def content_of(values: Mapping[str, Any], reads: Reads | None) -> str:
    """What two combinations share only if they come to the same recipe."""
    text = json.dumps([values, reads], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _entry(combination: Combination) -> dict[str, Any]:
    return {
        "number": combination.number,
        "content": content_of(combination.values, combination.reads),
        "varied": combination.varied,
        **({"reads": combination.reads} if combination.reads else {}),
    }


def _read(path: Path) -> dict[str, Any]:
    if not (path / _RECORD).is_file():
        return {"contrastive": [], "seg": []}
    record: dict[str, Any] = json.loads((path / _RECORD).read_text())
    return record


def _check(plan: Plan) -> None:
    """Refuse what no training or validation would take, as far as configs tell."""
    for combination in plan.contrastive:
        parse_recipe(combination.values, f"contrastive {combination.name}", task="contrast")
        for seg in plan.seg:
            _check_method(plan, plan.seg_recipe(combination, seg))
    _check_images(plan)


def _check_images(plan: Plan) -> None:
    """Refuse images without labels to validate on, and voxels to validate on that heads learn from."""
    wanted = plan.config.validation
    source = source_of(wanted.source, wanted.settings)
    pairs, _ = pairs_of(source, skip_bad=False)
    held_out = {Path(pair.image).resolve() for pair in pairs}
    for seg in plan.seg:
        for values in seg.values["data"].get("sources", ()):
            if "path" not in values:
                raise UserError("seg learns from no images; name them in seg.set with data.sources.0.path")
            learnt = ImageSource.load({k: v for k, v in values.items() if k in ImageSource.model_fields}, "seg")
            for image in _images(learnt, values.get("labels")):
                if Path(image).resolve() in held_out and _share(learnt, source, image):
                    raise UserError(
                        f"{image} is in seg's data and in validation.source, so validation would show what was learnt by heart; "
                        "give each other images, or other parts of them with z or bbox"
                    )


def _images(source: ImageSource, labels: str | None) -> list[str]:
    """The images that a recipe's source takes."""
    pairs = list(look(source.path, labels, source.layout).pairs)
    if source.names is not None:
        pairs = select(pairs, read_names(source.names), source.path)
    return [pair.image for pair in pairs]


def _share(one: ImageSource, other: ImageSource, image: str) -> bool:
    """Whether two sources take the same voxels of an image."""
    if (one.z, one.bbox, other.z, other.bbox) == (None,) * 4:
        return True
    volume = open_volume(image)
    return not selected(one, volume, image).intersect(selected(other, volume, image)).is_empty


def _check_method(plan: Plan, recipe: Recipe) -> None:
    assert isinstance(recipe.task, HeadConfig)
    task, wanted = recipe.task, plan.config.validation
    offsets = getattr(task.target, "offsets", None)
    method_of(task.target.kind, task.names, offsets, wanted.method, wanted.settings)
