"""By which intensities the inputs of a new source are normalised.

| ``statistics`` | |
|---|---|
| ``saved`` | those of training: intensities mean what they meant there |
| ``source`` | one centre and spread of each input over the whole source: another lamp, another exposure |
| ``position`` | one of each position: for runs that were trained so, or where positions differ more than specimens do |

Predictions always go back to the units that the targets had in training, since nothing of the target is measured anew: a net that was
never shown a brighter stain cannot know of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.progress import progress
from lamella.data.frames_measure import spread_of
from lamella.io.preprocessing import Group, Preprocessing, Statistics, root_of
from lamella.io.statistics import LIMIT, sample_voxels
from lamella.tasks.translate.predict_settings import TranslateSettings
from lamella.tasks.translate.predict_source import Item, Source
from lamella.tasks.translate.translator import Translator

Centre = Literal["median", "mean"]


def adapted(source: Source, translator: Translator, settings: TranslateSettings, centre: Centre) -> list[Translator]:
    """The translator of each item of ``source``."""
    measures = _with_prep(source, translator, settings)
    ready = replace(translator, preprocessing=measures)
    statistics = measures.statistics
    if settings.statistics == "saved":
        if statistics is not None and statistics.level != "dataset" and not _is_known(source, statistics):
            raise UserError(
                f"the run normalises inputs by {statistics.level}, and measured none of {source.path}; measure them with --statistics "
                "position, or with 'lamella prep statistics' and --prep"
            )
        return [ready] * len(source.items)
    groups = [source.items] if settings.statistics == "source" else [(item,) for item in source.items]
    found: dict[str, Translator] = {}
    with progress("measuring intensities", len(groups), "groups") as meter:
        for items in groups:
            own = replace(translator, preprocessing=_measured(items, measures, translator, centre))
            found |= {item.name: own for item in items}
            meter.advance()
    return [found[item.name] for item in source.items]


def _with_prep(source: Source, translator: Translator, settings: TranslateSettings) -> Preprocessing:
    """The preprocessing of training, or that of the source with what is known of the targets."""
    trained = translator.preprocessing
    if settings.prep is None:
        return trained
    given = _renumbered(Preprocessing.load(settings.prep), source.items[0].inputs.numbers)
    if given.statistics is None or trained.statistics is None:
        return given.model_copy(update={"statistics": trained.statistics})
    return given.model_copy(update={"statistics": _joined(given.statistics, trained.statistics, translator)})


def _renumbered(given: Preprocessing, numbers: Mapping[int, int]) -> Preprocessing:
    """A preprocessing of the source for its inputs alone, by the numbers that these had in training."""
    shading = {to: given.shading[own] for to, own in numbers.items() if own in given.shading}
    changes: dict[str, Any] = {"shading": shading, "masks": None, "weights": False, "tiles": None}
    if given.statistics is not None:
        groups = [
            g.model_copy(update={"channel": to})
            for to, own in numbers.items()
            for g in given.statistics.groups
            if g.channel == own
        ]
        changes["statistics"] = given.statistics.model_copy(update={"groups": tuple(groups)})
    return given.model_copy(update=changes)


def _joined(inputs: Statistics, trained: Statistics, translator: Translator) -> Statistics:
    """Statistics of the inputs with the training's of the targets over all positions."""
    targets = set(translator.measured.numbers)
    kept = [g for g in inputs.groups if g.channel not in targets]
    own = [g for g in trained.groups if g.channel in targets and g.key[1:] == (None, None, None)]
    return inputs.model_copy(update={"groups": tuple(kept + own)})


def _is_known(source: Source, statistics: Statistics) -> bool:
    here = root_of(source.path)
    return here == statistics.source or here.startswith(f"{statistics.source}/")


def _measured(items: Sequence[Item], measures: Preprocessing, translator: Translator, centre: Centre) -> Preprocessing:
    """``measures`` with a centre and spread of each input over ``items``."""
    groups = []
    for channel in translator.trained_inputs:
        views = [measures.view(item.inputs, normalise=False) for item in items]
        limit = max(LIMIT // len(views), 1 << 16)
        values = []
        for view in views:
            start, stop = view.box.start, view.box.stop
            box = Box((start[0], channel, *start[2:]), (stop[0], channel + 1, *stop[2:]))
            values.append(sample_voxels(view, box, limit)[0])
        groups.append(Group(channel=channel, **spread_of(np.concatenate(values), channel, centre)))
    own = Statistics(level="dataset", source=root_of(items[0].path), groups=tuple(groups))
    trained = measures.statistics
    return measures.model_copy(update={"statistics": own if trained is None else _joined(own, trained, translator)})
