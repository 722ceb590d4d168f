"""Frames become plates and come back with nothing lost; a killed copy goes on to the same bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from ome_zarr_models.v04 import HCS as HCS04
from ome_zarr_models.v05 import HCS as HCS05

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume, describe, open_volume
from lamella.io.frames import present
from lamella.io.plan import make_plan
from lamella.io.positions import create_positions, positions_of
from lamella.prep import convert_positions
from lamella.prep.convert import convert
from lamella.prep.convert_settings import ConvertSettings
from lamella.prep.meta import survey_frames
from tests.io.cases import fingerprint
from tests.io.frames import by_channel, stack, write_frames

SIZED = ConvertSettings(voxel_size="2,0.3,0.25", unit="um")


def said(volume):
    """What a copy keeps of the metadata."""
    meta = volume.meta
    return volume.box, volume.dtype, meta.axes, meta.channel_names, meta.voxel_size, meta.units, meta.translation


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_frames_to_a_plate_and_back(version, ending, tmp_path):
    planes = write_frames(tmp_path / "frames", by_channel)
    source, plate, back = (str(tmp_path / n) for n in ("frames", "plate.ome.zarr", f"back/im_c*_z*_t*_p*.{ending}"))
    convert(source, plate, SIZED.model_copy(update={"ome_version": version}))
    assert positions_of(plate) == ("A/1/0", "A/1/2")
    convert(plate, back)
    assert positions_of(tmp_path / "back") == ("p000", "p002")
    for p in (0, 2):
        first, middle = open_volume(source, dataset=f"p{p:03d}"), open_volume(plate, dataset=f"A/1/{p}")
        last = open_volume(tmp_path / "back" / f"p{p:03d}")
        np.testing.assert_array_equal(last.read(last.box), stack(planes, p)[:, ::-1])
        np.testing.assert_array_equal(present(last), present(first))
        np.testing.assert_array_equal(present(middle), present(first))
        assert said(last) == said(middle)
        assert (last.box, last.dtype, last.meta.channel_names) == (first.box, first.dtype, ("DAPI_2", "phase"))
        assert last.meta.voxel_size == (1, 1, 2, 0.3, 0.25)
    files = [f.name for f in (tmp_path / "back").iterdir() if f.name.startswith("im_")]
    assert len(files) == len(planes)
    assert f"im_c001_z003_t001_p002.{ending}" in files
    HCS = HCS04 if version == "0.4" else HCS05
    HCS.from_zarr(zarr.open_group(plate, mode="r"))


def test_a_plate_to_frames_and_back_keeps_its_wells(tmp_path):
    meta = Meta(
        tuple("tczyx"), (1.0, 1.0, 2.0, 0.5, 0.5), ("", "", *["micrometer"] * 3), ("a", "b"), provenance={"seed": 3}
    )
    plan = make_plan(Box.of((1, 2, 3, 8, 9)), "float32", meta)
    told = {
        "name": "screen 7",
        "acquisitions": [{"id": 4, "name": "day 1"}],
        "rows": [{"name": n} for n in "ABC"],
        "columns": [{"name": str(n)} for n in range(1, 4)],
        "field_acquisitions": {"C/2/1": 4},
    }
    first, frames, last = (str(tmp_path / n) for n in ("first.ome.zarr", "frames", "last.ome.zarr"))
    fields = ("A/1/0", "C/2/0", "C/2/1")
    create_positions(first, dict.fromkeys(fields, plan), kind="plate", plate=told)
    for i, field in enumerate(fields):
        volume = open_volume(first, dataset=field, writable=True)
        volume.write(volume.box, np.full(volume.box.shape, i + 0.5, np.float32))
    convert(first, frames, ConvertSettings(kind="frames"))
    assert positions_of(frames) == ("p000", "p001", "p002")
    assert (tmp_path / "frames" / "frames_meta.csv").read_text().count("C/2/1") == 6
    convert(frames, last)
    assert positions_of(last) == fields
    plates = [json.loads((tmp_path / n / "zarr.json").read_text())["attributes"]["ome"] for n in (first, last)]
    assert plates[0] == plates[1]
    assert plates[0]["plate"]["name"] == "screen 7"
    assert plates[0]["plate"]["wells"][1] == {"path": "C/2", "rowIndex": 2, "columnIndex": 1}
    wells = [
        json.loads((tmp_path / n / "C/2/zarr.json").read_text())["attributes"]["ome"]["well"] for n in (first, last)
    ]
    assert wells == [{"images": [{"path": "0"}, {"path": "1", "acquisition": 4}]}] * 2
    for field in fields:
        one, two = open_volume(first, dataset=field), open_volume(last, dataset=field)
        assert said(one) == said(two)
        np.testing.assert_array_equal(one.read(one.box), two.read(two.box))


def test_columns_of_the_table_come_back(tmp_path):
    write_frames(tmp_path / "frames")
    survey_frames(tmp_path / "frames", "{sample}_c{c}_z{z}_t{t}_p{p}")
    convert(str(tmp_path / "frames"), str(tmp_path / "plate.zarr"))
    convert(str(tmp_path / "plate.zarr"), str(tmp_path / "back"), ConvertSettings(kind="frames-png"))
    head, row, *_ = (tmp_path / "back" / "frames_meta.csv").read_text().splitlines()
    assert (head.split(",")[-1], row.split(",")[-1]) == ("sample", "im")


def test_a_single_volume_becomes_position_0(tmp_path):
    meta = Meta.plain("zyx", voxel_size=(2.0, 0.5, 0.5), units=("micrometer",) * 3)
    (volume,) = create_volume(tmp_path / "v.zarr", box=Box.of((2, 5, 6)), dtype="uint8", meta=meta)
    volume.write(volume.box, np.arange(60, dtype=np.uint8).reshape(2, 5, 6))
    convert(str(tmp_path / "v.zarr"), str(tmp_path / "out" / "im_c*_z*_t*_p*.png"))
    frames = open_volume(tmp_path / "out")
    np.testing.assert_array_equal(frames.read(frames.box)[0, 0], volume.read(volume.box))
    assert frames.meta.voxel_size == (1, 1, 2, 0.5, 0.5)


def test_one_position_becomes_a_plain_image_and_several_do_not_fit_in_one(tmp_path):
    write_frames(tmp_path / "frames")
    convert(str(tmp_path / "frames" / "p002"), str(tmp_path / "one.ome.zarr"))
    assert list(describe(tmp_path / "one.ome.zarr").datasets) == [""]
    with pytest.raises(UserError, match="holds 2 data sets: 'p000', 'p002'; choose one"):
        convert(str(tmp_path / "frames"), str(tmp_path / "one.tif"))
    with pytest.raises(UserError, match="frames hold no mips, 2 were asked for"):
        convert(str(tmp_path / "frames"), str(tmp_path / "f"), ConvertSettings(kind="frames", mips=2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["frames", "one.ome.zarr"]


def test_chosen_channels_and_slices_keep_their_numbers(tmp_path):
    planes = write_frames(tmp_path / "frames")
    chosen = ConvertSettings(kind="frames-png", channel=1, bbox="2:4,0:24,0:40")
    convert(str(tmp_path / "frames"), str(tmp_path / "out"), chosen)
    names = sorted(f.name for f in (tmp_path / "out").iterdir() if f.name.startswith("im_"))
    assert names == [f"im_c001_z002_t{t:03d}_p{p:03d}.png" for t in (0, 1) for p in (0, 2)]
    volume = open_volume(tmp_path / "out" / "p002")
    np.testing.assert_array_equal(volume.read(volume.box)[1, 0, 0], planes[1, 1, 2, 2])


def test_a_copy_that_was_stopped_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    write_frames(tmp_path / "frames")
    source = str(tmp_path / "frames")
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    convert(source, str(tmp_path / "a" / "p.zarr"))
    fill = convert_positions.fill

    def stops(copy, mips, settings, part, executor, name):
        if name == "A/1/2":
            raise KeyboardInterrupt
        return fill(copy, mips, settings, part, executor, name)

    with monkeypatch.context() as patch:
        patch.setattr(convert_positions, "fill", stops)
        with pytest.raises(KeyboardInterrupt):
            convert(source, str(tmp_path / "b" / "p.zarr"))
    assert (tmp_path / "b" / ".p.zarr.unfinished").exists()
    reports = convert(source, str(tmp_path / "b" / "p.zarr"))
    assert reports[0].skipped == reports[0].total
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
