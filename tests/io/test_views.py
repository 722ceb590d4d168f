"""Views: crops and normalisers applied on read."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta, Volume
from lamella.io import create_volume, open_volume
from lamella.io.views import crop, normalised
from lamella.ops.normalise import Local, MinMax, Plain, Rank

BOX = Box((2, 10, 20), (6, 60, 90))


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    (made,) = create_volume(str(tmp_path / "v.zarr"), box=BOX, dtype="uint8", meta=Meta.plain("zyx"), chunk=(1, 16, 16))
    array = np.random.default_rng(0).integers(0, 255, BOX.shape, dtype=np.uint8)
    array[1, 5:20, :30] = 0
    made.write(BOX, array)
    return open_volume(str(tmp_path / "v.zarr"))


CONFIGS = [Rank(radius=5), MinMax(), MinMax(range=(20, 200)), Local(sigma=3), Plain()]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.kind}-{getattr(c, 'range', None)}")
def test_tiles_equal_the_normalised_section(config: Rank | MinMax | Local | Plain, volume: Volume) -> None:
    normaliser = config.build()
    view = normalised(volume, normaliser)
    whole = np.stack([normaliser(section) for section in volume.read(BOX)])
    assert isinstance(view, Volume)
    assert (view.dtype, view.box) == (np.float32, BOX)
    for box in (BOX, Box((3, 10, 20), (4, 26, 36)), Box((2, 33, 41), (6, 60, 77))):
        np.testing.assert_allclose(view.read(box), whole[box.slices(BOX.start)], atol=1e-6)


@pytest.mark.parametrize("config", [Rank(radius=5), MinMax()], ids=["tiles", "sections"])
def test_pickled_view_reads_the_same(config: Rank | MinMax, volume: Volume) -> None:
    view = normalised(volume, config.build())
    first = view.read(BOX)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(view)).read(BOX), first)
    assert len(pickle.dumps(view)) < 5000  # the sections it keeps stay behind


class _Counting:
    """A normaliser that needs whole sections and counts them."""

    def __init__(self) -> None:
        self.seen = 0

    def context(self, dtype: object) -> None:
        return None

    def __call__(self, section: np.ndarray) -> np.ndarray:
        self.seen += 1
        return section.astype(np.float32) / 255


def test_whole_sections_are_normalised_once_while_they_are_kept(volume: Volume) -> None:
    roomy, tight = _Counting(), _Counting()
    tiles = [Box((z, y, 20), (z + 1, y + 25, 90)) for z in (2, 3) for y in (10, 35)]
    for counting, keep in ((roomy, 1 << 20), (tight, 1)):
        view = normalised(volume, counting, keep_bytes=keep)
        for tile in tiles + tiles:
            view.read(tile)
    assert roomy.seen == 2
    assert tight.seen == 4  # one section is always kept


def test_crop_has_the_same_coordinates_and_nothing_outside(volume: Volume) -> None:
    box = Box((3, 20, 30), (5, 50, 80))
    view = crop(volume, box)
    assert (view.box, view.meta, view.dtype) == (box, volume.meta, volume.dtype)
    inner = Box((4, 21, 33), (5, 30, 44))
    np.testing.assert_array_equal(view.read(inner), volume.read(inner))
    with pytest.raises(UserError, match="outside"):
        view.read(BOX)
    with pytest.raises(UserError, match="outside"):
        crop(volume, BOX.grow(1))
    with pytest.raises(UserError, match="no voxels"):
        crop(volume, Box((3, 20, 30), (3, 50, 80)))


def test_crop_of_a_normalised_volume_keeps_its_values(volume: Volume) -> None:
    box = Box((3, 20, 30), (5, 50, 80))
    view = normalised(volume, Rank(radius=5).build())
    np.testing.assert_array_equal(crop(view, box).read(box), view.read(box))


def test_views_are_not_written_and_need_y_x(volume: Volume, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        crop(volume, BOX).write(BOX, volume.read(BOX))
    (line,) = create_volume(str(tmp_path / "l.h5"), box=Box.of((3,)), dtype="uint8", meta=Meta.plain("x"))
    with pytest.raises(UserError, match="y and x last"):
        normalised(line, Plain().build())
