"""The view that measures make, and the way back: one order, the same in tiles and in the whole, nothing of the target needed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.rng import stream
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from lamella.io.frames import present
from lamella.io.preprocessing import Group, Preprocessing, Resize, Statistics, root_of
from lamella.ops.shading import polynomial_shading
from lamella.ops.tiles import TileRule
from tests.io.frames import SIZE, stack, write_frames

SHADING = polynomial_shading(np.exp(-((np.mgrid[: SIZE[0], : SIZE[1]] / 30.0) ** 2).sum(axis=0)), block=4)


def dataset(**changes):
    return Group(channel=0, centre=3000.0, spread=2000.0, **changes)


def measures(source="", level="dataset", groups=(), **changes):
    statistics = Statistics(level=level, source=source, groups=(dataset(), *groups))
    return Preprocessing(shading={0: SHADING}, statistics=statistics, **changes)


def test_the_view_is_shaded_then_clipped_then_scaled(tmp_path):
    """Each stage acts, in one order: the shading also where the channel is normalised, and clipping before scaling."""
    planes = write_frames(tmp_path)
    clipped = Preprocessing(
        shading={0: SHADING},
        statistics=Statistics(level="dataset", source="", groups=(dataset(low=20000.0, high=40000.0),)),
    )
    volume = open_volume(tmp_path / "p000")
    seen = clipped.view(volume).read(Box((0, 0, 1, 0, 0), (1, 1, 2, *SIZE)))[0, 0, 0]
    by_hand = (np.clip(planes[0, 0, 1, 0] / SHADING.field(), 20000, 40000) - 3000) / 2000
    np.testing.assert_allclose(seen, by_hand, rtol=1e-5)
    assert abs(by_hand - (planes[0, 0, 1, 0] - 3000.0) / 2000).max() > 1
    again = pickle.loads(pickle.dumps(Preprocessing.load(clipped.to_dict()).view(volume)))
    np.testing.assert_array_equal(again.read(Box((0, 0, 1, 0, 0), (1, 1, 2, *SIZE)))[0, 0, 0], seen)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([1.0, 0.5, 0.37, 1.5]), st.integers(0, 1000))
def test_a_tile_of_the_view_is_that_of_the_whole(tmp_path_factory, scale, seed):
    folder = tmp_path_factory.getbasetemp() / "tiles"
    if not folder.exists():
        write_frames(folder)
    made = Preprocessing(shading={0: SHADING}, resize=Resize(yx=scale))
    view = made.view(open_volume(folder / "p000"))
    whole = view.read(view.box)
    rng = stream(seed)
    ends = [
        np.sort(rng.choice(np.arange(a, b + 1), 2, replace=False))
        for a, b in zip(view.box.start, view.box.stop, strict=True)
    ]
    box = Box(tuple(int(e[0]) for e in ends), tuple(int(e[1]) for e in ends))
    np.testing.assert_allclose(view.read(box), whole[box.slices(view.box.start)], rtol=2e-5, atol=1e-2)


def test_frames_that_do_not_exist_stay_zero_and_are_told(tmp_path):
    write_frames(tmp_path)
    groups = (Group(channel=1, centre=500.0, spread=10.0),)
    view = measures(groups=groups).view(open_volume(tmp_path / "p000"))
    there = present(view)
    seen = view.read(view.box)
    assert not there[:, 1, 0].any()
    assert not seen[~there].any()
    assert (seen[there] != 0).mean() > 0.99


def test_resizing_changes_the_voxel_size_and_the_box(tmp_path):
    meta = Meta.plain("czyx", voxel_size=(1.0, 2.0, 0.5, 0.25), channel_names=("phase",))
    (volume,) = create_volume(tmp_path / "v.zarr", box=Box.of((1, 6, 20, 30)), dtype="float32", meta=meta)
    volume.write(volume.box, np.full(volume.box.shape, 3, np.float32))
    view = Preprocessing(resize=Resize(yx=0.5, z=2.0)).view(volume)
    assert view.box == Box.of((1, 1, 12, 10, 15))
    assert view.meta.voxel_size == (1.0, 1.0, 1.0, 1.0, 0.5)
    np.testing.assert_allclose(view.read(view.box), 3)


@pytest.mark.parametrize("level", ["dataset", "volume", "stack", "slice"])
def test_each_level_uses_its_group(level, tmp_path):
    planes = write_frames(tmp_path / "a")
    place = {"dataset": (), "volume": ("p002",), "stack": ("p002", 1), "slice": ("p002", 1, 3)}[level]
    own = dict(zip(("position", "time", "slice"), place, strict=False))
    groups = (Group(channel=0, centre=100.0, spread=7.0, **own),) if own else ()
    statistics = Statistics(level=level, source=root_of(str(tmp_path / "a")), groups=(dataset(), *groups))
    view = Preprocessing(statistics=statistics).view(open_volume(tmp_path / "a" / "p002"))
    seen = view.read(Box((1, 0, 3, 0, 0), (2, 1, 4, *SIZE)))[0, 0, 0]
    centre, spread = (100, 7) if own else (3000, 2000)
    np.testing.assert_allclose(seen, (planes[1, 0, 3, 2] - float(centre)) / spread, rtol=1e-4)
    if own:
        with pytest.raises(
            UserError, match=r"no statistics were measured of channel 0, position p000.*prep statistics"
        ):
            Preprocessing(statistics=statistics).view(open_volume(tmp_path / "a" / "p000")).read(
                Box((0, 0, 1, 0, 0), (1, 1, 2, *SIZE))
            )
        write_frames(tmp_path / "b")
        with pytest.raises(UserError, match="is no position of"):
            Preprocessing(statistics=statistics).view(open_volume(tmp_path / "b" / "p002"))


@pytest.mark.parametrize("level", ["dataset", "volume", "stack", "slice"])
def test_a_prediction_is_restored_without_the_target(level, tmp_path):
    """At every level, from what was measured in training alone: no position, time or slice of the new target is asked for."""
    groups = () if level == "dataset" else (Group(channel=0, position="p000", time=0, slice=1, centre=1.0, spread=1.0),)
    made = measures("/elsewhere", level, groups, resize=Resize(yx=0.5))
    meta = Meta.plain("tczyx")
    (raw,) = create_volume(tmp_path / "new.zarr", box=Box.of((1, 1, 2, 40, 60)), dtype="uint16", meta=meta)
    (predicted,) = create_volume(tmp_path / "out.zarr", box=Box.of((1, 1, 2, 20, 30)), dtype="float32", meta=meta)
    predicted.write(predicted.box, np.full(predicted.box.shape, 2.5, np.float32))
    back = made.restored(predicted, [0], raw, "uint16")
    assert (back.box, back.dtype) == (raw.box, np.dtype("uint16"))
    np.testing.assert_array_equal(back.read(back.box), 3000 + 2.5 * 2000)
    tile = Box((0, 0, 1, 5, 9), (1, 1, 2, 33, 50))
    np.testing.assert_array_equal(back.read(tile), 8000)
    predicted.write(predicted.box, np.full(predicted.box.shape, -9, np.float32))
    assert not back.read(tile).any()  # below what the type holds


def test_normalising_and_restoring_are_inverse(tmp_path):
    planes = write_frames(tmp_path)
    made = Preprocessing(
        statistics=Statistics(level="dataset", source="", groups=(dataset(), Group(channel=1, centre=5.0, spread=9.0)))
    )
    raw = open_volume(tmp_path / "p002")
    back = made.restored(made.view(raw), [0, 1], raw, "uint16")
    whole, there = back.read(back.box), present(raw)
    np.testing.assert_array_equal(whole[there], stack(planes, 2)[there])


def test_it_is_stored_as_one_file_and_knows_its_keys(tmp_path):
    made = measures(tiles=TileRule(size=(8, 8)))
    made.save(tmp_path / "p.json")
    assert Preprocessing.load(tmp_path / "p.json") == made
    with pytest.raises(UserError, match="unknown key 'statistic'; did you mean 'statistics'"):
        Preprocessing.load({"statistic": None})
    with pytest.raises(UserError, match="is no preprocessing; make one with 'lamella prep run'"):
        Preprocessing.load(tmp_path / "nothing")
    with pytest.raises(UserError, match="no masks were made"):
        made.mask("p000")
    with pytest.raises(UserError, match="measured of channel 7, only of 0"):
        made.statistics.typical(7)


def test_what_does_not_fit_is_told(tmp_path):
    write_frames(tmp_path)
    volume = open_volume(tmp_path / "p000")
    with pytest.raises(UserError, match="cannot be resized along z: channels 1 lack slices"):
        Preprocessing(resize=Resize(z=0.5)).view(volume)
    (other,) = create_volume(tmp_path / "o.zarr", box=Box.of((3, 9, 9)), dtype="float32", meta=Meta.plain("zyx"))
    with pytest.raises(UserError, match=r"measured on images of \(24, 40\), those of .* are \(9, 9\)"):
        measures().view(other)
    array = np.ones((3, 9, 9), np.float32)
    array[1, 2, 3] = np.nan
    other.write(other.box, array)
    with pytest.raises(UserError, match="holds NaN or infinity in channel 0, slice 1, time 0"):
        Preprocessing().view(other).read(Box.of((1, 1, 3, 9, 9)))
