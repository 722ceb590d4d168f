"""Tuning how instances are made of maps: the net predicts once, and many settings of each method are scored on the same maps.

```
run + labelled images  ->  maps, once  ->  64 settings of each method  ->  64 around the best  ->  64 closer  ->  winner
```
The first setting is always the run's own, so the winner is never worse than it on these images. What the winner is worth on others is
estimated by leaving one image out after another: of the settings that are best on the others, the score on the one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lamella.core.files import write_text
from lamella.core.provenance import provenance
from lamella.data.labelled import LabelledData
from lamella.infer.op import weights_digest
from lamella.recipe.find import open_checkpoint, parse_recipe
from lamella.recipe.segmenter import load_segmenter
from lamella.recipe.tune.candidates import Values, check_words, config, first_values, kinds_for, near_values, space_of
from lamella.recipe.tune.crew import processors
from lamella.recipe.tune.folder import Tuning, changed
from lamella.recipe.tune.method_report import INSTANCES, Tried, find
from lamella.recipe.tune.method_scores import Unit, score_all, score_of
from lamella.recipe.tune.method_units import labelled_images, make_units
from lamella.recipe.tune.report import Findings, write_findings
from lamella.recipe.tune.settings import MethodSettings
from lamella.recipe.tune.space import Range
from lamella.runs import RunFolder
from lamella.tasks.segment.config import SegmentConfig

if TYPE_CHECKING:
    from lamella.infer import InferSettings

ORIGINAL = "recipe.untuned.yaml"
_LEADERS = 2  # methods whose neighbourhoods are searched


def tune_instances(
    run: str,
    data: str,
    out: Path,
    words: Sequence[str],
    settings: MethodSettings,
    net: InferSettings,
    *,
    overwrite: bool = False,
) -> tuple[Tuning, Findings]:
    """Find the best settings for the maps of ``run`` on the labelled images ``data``.

    ``words`` replace ranges of the methods' settings (``threshold=uniform(0.3,0.7)``) or fix them (``min_size=50``). Raises UserError
    for a run that is no segmentation, data that does not suit it, and methods or settings that do not exist.
    """
    segmenter, facts = load_segmenter(run, net, device=settings.device, runs=settings.runs)
    recipe = parse_recipe(facts["recipe"], f"run {facts['run']!r}")
    assert isinstance(recipe.task, SegmentConfig)
    assert isinstance(recipe.data, LabelledData)
    kinds = kinds_for(segmenter.names, settings.kinds, recipe.task.instances.kind)
    check_words(words, kinds)
    spaces = {kind: space_of(kind, segmenter.names, words) for kind in kinds}
    images = labelled_images(data, settings, recipe.data)
    asked = {**settings.to_dict(), "net": net.to_dict(), "ranges": list(words), "data": data, "run": facts["run"]}
    asked["weights"] = weights_digest(segmenter.net)
    may_change = ["jobs", "device", "runs", f"recipe.{INSTANCES}"]  # which --apply writes
    tuning = Tuning.begin(out, "instances", facts["recipe"], asked, may_change=may_change, overwrite=overwrite)
    with tuning.alone():
        maps = tuning.path / "maps"
        maps.mkdir(exist_ok=True)
        units = make_units(images, segmenter, maps)
        tried = _search(units, tuning.recipe_values()["task"]["instances"], spaces, settings, tuning.path / "scores")
        found = find(tried, units, settings)
        write_findings(tuning, found)
    return tuning, found


def apply(run: str, tuning: Tuning, found: Findings, runs: str) -> RunFolder:
    """Make the winner the run's own: what ``lamella predict`` uses from now on. The recipe of the training stays beside it."""
    folder, checkpoint = open_checkpoint(run, runs)
    assert found.winner is not None
    before, kept = folder.recipe(), folder.path / ORIGINAL
    if before["task"]["instances"] == found.winner[INSTANCES]:
        return folder
    if not kept.exists():
        write_text(kept, yaml.safe_dump(before, sort_keys=False))
    record = {
        "tuned_in": os.path.relpath(tuning.path.resolve(), folder.path.resolve()),
        "checkpoint": checkpoint,
        "before": before["task"]["instances"],
        "after": found.winner[INSTANCES],
        **provenance(settings=tuning.facts()["settings"]),
    }
    write_text(folder.path / "recipe.yaml", yaml.safe_dump(changed(before, found.winner), sort_keys=False))
    folder.record(tuned_instances=[*folder.provenance().get("tuned_instances", []), record])
    return folder


def _search(
    units: Sequence[Unit],
    own: Values,
    spaces: Mapping[str, tuple[list[Range], Values]],
    settings: MethodSettings,
    folder: Path,
) -> list[Tried]:
    """Everything that was tried, the run's own setting first."""
    values = [own]
    for kind, space in spaces.items():
        values += first_values(kind, space, settings.candidates, settings.seed)
    tried = _try(units, values, settings, folder / "first")
    for round_ in range(1, settings.rounds + 1):
        near: list[Values] = []
        for best in _leaders(tried, spaces):
            space = spaces[best.values["kind"]]
            near += near_values(space, best.values, settings.candidates, round_, settings.seed)
        tried += _try(units, near, settings, folder / f"round{round_}")
    return tried


def _leaders(tried: Sequence[Tried], spaces: Mapping[str, Any]) -> list[Tried]:
    """The best setting of each of the best methods."""
    by_kind: dict[str, Tried] = {}
    for one in sorted(tried, key=lambda t: -t.score):
        if one.values["kind"] in spaces:
            by_kind.setdefault(one.values["kind"], one)
    return list(by_kind.values())[:_LEADERS]


def _try(units: Sequence[Unit], values: Sequence[Values], settings: MethodSettings, folder: Path) -> list[Tried]:
    whole = [config(v).model_dump(mode="json") for v in values]
    jobs = settings.jobs or processors()
    sums = score_all(units, whole, folder, jobs)
    return [Tried(v, s, score_of(s, settings.score)) for v, s in zip(whole, sums, strict=True)]
