"""A volume tells with which settings it was aligned, so that the method is tried again as it was used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lamella.core.box import Box
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from lamella.recipe.aligner import settings_of
from lamella.tasks.align.settings import AlignSettings


def volume(tmp_path, **provenance):
    meta = replace(Meta.plain("zyx"), provenance=provenance)
    box, path = Box.of((2, 8, 8)), str(tmp_path / "aligned.ome.zarr")
    create_volume(path, box=box, dtype=np.uint8, meta=meta)
    return open_volume(path)


def test_settings_are_those_that_a_volume_was_aligned_with(tmp_path):
    used = AlignSettings.load({"passes": 2, "refine": {"steps": 0}})
    aligned = volume(tmp_path, config={**used.to_dict(), "of_another_time": 1}, checkpoint="last")
    assert settings_of(aligned) == used


def test_a_volume_that_lamella_did_not_align_leaves_the_defaults(tmp_path):
    assert settings_of(volume(tmp_path, config={"passes": 2})) == AlignSettings()
