"""Outputs that cannot hold an alignment are refused before anything is written."""

import numpy as np
import pytest

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume
from lamella.nets.aligner import AlignerConfig
from lamella.ops.normalise import Plain
from lamella.tasks.align.estimate import Estimator
from lamella.tasks.align.settings import AlignSettings
from lamella.tasks.align.volume import align_volume


def test_a_folder_of_whole_sections_is_refused(tmp_path):
    box = Box.of((3, 32, 32))
    (source,) = create_volume(str(tmp_path / "s.zarr"), box=box, dtype=np.uint8, meta=Meta.plain("zyx"))
    net = AlignerConfig(levels=2, skip=0, features=2, channels=(2,), kernel=3).build()
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"whole sections.*convert NAME\.ome\.zarr"):
        align_volume(source, str(tmp_path / "out" / "*.png"), Estimator(net, Plain().build()), AlignSettings())
    assert set(tmp_path.iterdir()) == before
