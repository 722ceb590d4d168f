"""Predicting images and volumes: the same instances in one piece and in blocks, formats, places, kills, bad files."""

import json

import imageio.v3 as iio
import numpy as np
import pytest

from lamella.blockwise import Executor
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.data.inputs import find_images
from lamella.io import create_volume, open_volume
from lamella.ops.instances import DistanceWatershed
from lamella.tasks.segment import predict_large
from lamella.tasks.segment.predict import predict_images
from lamella.tasks.segment.predict_settings import PredictSettings
from tests.infer.test_stitch import assert_same_up_to_numbers
from tests.tasks.segment.specimen import cells, segmenter


def predict(paths, out, who=None, *, overwrite=False, workers=1, **settings):
    who, chosen = who or segmenter(), PredictSettings(**settings)
    images = find_images([str(p) for p in paths], who, channels=chosen.channels, skip_bad=chosen.skip_bad)
    return predict_images(images, str(out), who, chosen, executor=Executor(workers=workers), overwrite=overwrite)


def volume(path, array, axes, **meta):
    made = create_volume(path, box=Box.of(array.shape), dtype=array.dtype, meta=Meta.plain(axes, **meta))[0]
    made.write(made.box, array)
    return path


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "cells"
    images.mkdir()
    for k in range(3):
        iio.imwrite(images / f"x{k}.png", cells(60 + 10 * k, 80, seed=k))
    return images


def test_a_folder_gives_an_image_of_labels_for_each_image(folder, tmp_path):
    done = predict([folder], tmp_path / "out", maps=True, plot=True)
    who = segmenter()
    for k, row in enumerate(done.rows):
        image = cells(60 + 10 * k, 80, seed=k)
        labels = iio.imread(tmp_path / "out" / f"x{k}.png")
        item = find_images([str(folder / f"x{k}.png")], who).items[0]
        maps = who.op(item.parts[0])(image[None, None])
        np.testing.assert_array_equal(labels, who.maker(item.parts[0], flat=False).whole(maps)[0])
        assert labels.dtype == np.uint16
        assert row["objects"] == labels.max() > 5
        shown = iio.imread(tmp_path / "out" / "maps" / f"x{k}.objects.png")
        np.testing.assert_array_equal(shown, np.rint(maps[0, 0] * 255).astype(np.uint8))
    assert "x2: " in done.page.read_text()
    record = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert [row["name"] for row in record["images"]] == ["x0", "x1", "x2"]
    assert not list(tmp_path.glob(".*"))


CASES = {
    "image": ((150, 130), "yx", 2, {}),
    "channels": ((2, 140, 90), "cyx", 2, {"channels": 2}),
    "sections by themselves": ((4, 80, 90), "zyx", 2, {"flat": True}),
    "objects through sections": ((20, 60, 70), "zyx", 2, {}),
    "neighbours as channels": ((5, 80, 60), "zyx", 2, {"slices": 3, "flat": True}),
    "volume": ((40, 50, 60), "zyx", 3, {}),
    "time": ((2, 120, 80), "tyx", 2, {}),
    "blended": ((100, 90), "yx", 2, {"overlap": 16, "tile": 64}),
    "image as a map": ((150, 130), "yx", 2, {"method": DistanceWatershed(intensity=0.5, reach=160).build()}),
}


@pytest.mark.parametrize("case", CASES)
def test_blocks_give_what_the_whole_gives(case, tmp_path, monkeypatch):
    shape, axes, ndim, changes = CASES[case]
    array = np.stack([cells(*shape[1:], seed=k) for k in range(shape[0])]) if axes[0] in "ct" else cells(*shape)
    source = volume(tmp_path / "image.ome.zarr", array, axes, voxel_size=(2.0,) + (1.0,) * (len(axes) - 1))
    monkeypatch.setattr(predict_large, "_PLANES", (8, 32, 32))
    monkeypatch.setattr(predict_large, "_DEEP", (16, 32, 32))
    fields = dict(changes)
    flat = fields.pop("flat", False)
    who = segmenter(ndim=ndim, **fields)
    predict([source], tmp_path / "blocks.ome.zarr", who, flat=flat, block=48, maps=True, workers=3)
    predict([source], tmp_path / "whole.ome.zarr", who, flat=flat, block=4096, maps=True)
    blocks, whole = (open_volume(tmp_path / f"{name}.ome.zarr") for name in ("blocks", "whole"))
    assert blocks.box == whole.box
    a, b = blocks.read(blocks.box), whole.read(whole.box)
    for k in range(shape[0]) if axes[0] == "t" else [slice(None)]:
        assert b[k].max() > 3
        assert_same_up_to_numbers(a[k], b[k])
    maps = [open_volume(tmp_path / f"{name}.maps.ome.zarr") for name in ("blocks", "whole")]
    assert maps[0].meta.channel_names == who.map_names
    np.testing.assert_allclose(*(v.read(v.box) for v in maps), atol=2e-6)


@pytest.mark.parametrize("ending", [".png", ".tif", ".ome.zarr"])
@pytest.mark.parametrize("block", [None, 40])
def test_every_format_holds_the_same_in_one_piece_and_in_blocks(ending, block, tmp_path):
    image = cells(90, 100)
    meta = {"voxel_size": (0.5, 0.25), "units": ("micrometer", "micrometer")}
    source = volume(tmp_path / "image.ome.zarr", image, "yx", **meta)
    done = predict([source], tmp_path / f"out{ending}", block=block, maps=True, plot=True)
    found = open_volume(tmp_path / f"out{ending}")
    predict([source], tmp_path / "ref.ome.zarr")
    labels = found.read(found.box)
    assert_same_up_to_numbers(labels, open_volume(tmp_path / "ref.ome.zarr").read(found.box))
    assert done.rows[0]["objects"] == labels.max()
    assert (tmp_path / "out.preview.png").exists()
    if ending != ".png":
        assert found.meta.voxel_size == meta["voxel_size"]
        assert found.meta.units == meta["units"]
        assert open_volume(tmp_path / f"out.maps{ending}").meta.channel_names == ("objects", "boundaries", "distance")
    assert not list(tmp_path.glob(".*"))


def test_sections_in_png_are_a_folder(tmp_path):
    source = volume(tmp_path / "stack.tif", cells(6, 50, 60), "zyx")
    for block, flat in ((None, True), (48, True)):
        out = tmp_path / f"out{block}"
        predict([source], out, block=block, flat=flat, format="png")
        assert sorted(p.name for p in (out / "stack").glob("*.png")) == [f"{z:05d}.png" for z in range(6)]
    a, b = (open_volume(tmp_path / name / "stack") for name in ("outNone", "out48"))
    assert_same_up_to_numbers(a.read(a.box), b.read(b.box))


def test_a_killed_job_goes_on_and_ends_with_the_same(tmp_path, monkeypatch):
    source = volume(tmp_path / "image.ome.zarr", cells(150, 130), "yx")
    predict([source], tmp_path / "a.ome.zarr", block=48)
    made = []

    def few(self, block, data, compute=predict_large.PiecesJob.compute):
        made.append(block.index)
        if len(made) == 4:
            raise KeyboardInterrupt
        return compute(self, block, data)

    monkeypatch.setattr(predict_large.PiecesJob, "compute", few)
    with pytest.raises(UserError, match="stopped by KeyboardInterrupt"):
        predict([source], tmp_path / "b.ome.zarr", block=48)
    assert not (tmp_path / "b.ome.zarr").exists()
    with pytest.raises(UserError, match="exists already"):
        predict([source], tmp_path / "a.ome.zarr", block=48)
    before = len(made)  # at least four: other threads go on until they hear of it
    predict([source], tmp_path / "b.ome.zarr", block=48)
    assert len(made) - before < 12
    a, b = (open_volume(tmp_path / f"{n}.ome.zarr") for n in "ab")
    np.testing.assert_array_equal(a.read(a.box), b.read(b.box))
    assert not list(tmp_path.glob(".*"))


def test_finished_folders_are_replaced_only_when_asked_and_only_if_ours(folder, tmp_path):
    predict([folder], tmp_path / "out")
    with pytest.raises(UserError, match="--overwrite"):
        predict([folder], tmp_path / "out")
    (tmp_path / "out" / "x0.png").unlink()
    predict([folder], tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "x0.png").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("dear")
    with pytest.raises(UserError, match=r"holds no predict\.json"):
        predict([folder], tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "dear"


@pytest.mark.parametrize("kind", ["header", "data"])
def test_one_damaged_file_is_named_and_the_rest_goes_on_if_asked(kind, folder, tmp_path):
    whole = (folder / "x1.png").read_bytes()
    (folder / "x1.png").write_bytes(b"nothing" if kind == "header" else whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"x1\.png.*add --skip-bad"):
        predict([folder], tmp_path / "a")
    done = predict([folder], tmp_path / "b", skip_bad=True, plot=True)
    assert [row["name"] for row in done.rows] == ["x0", "x2"]
    assert len(done.left_out) == 1
    assert "x1.png" in done.left_out[0]
    assert "x1.png" in done.page.read_text()


def test_images_that_do_not_suit_the_net_are_refused(tmp_path):
    colours = volume(tmp_path / "c.ome.zarr", np.stack([cells(40, 40)] * 3), "cyx")
    with pytest.raises(UserError, match="has 3 channels, the net was trained on 1; name 1 with --channels"):
        predict([colours], tmp_path / "out")
    done = predict([colours], tmp_path / "out", channels=(2,))
    assert done.rows[0]["objects"] > 0
    plane = volume(tmp_path / "p.ome.zarr", cells(40, 40), "yx")
    with pytest.raises(UserError, match="no z, but the net was trained on volumes"):
        predict([plane], tmp_path / "no", segmenter(ndim=3))
    with pytest.raises(UserError, match="has 1 channel, the net was trained on 2; give images with as many"):
        predict([plane], tmp_path / "no", segmenter(channels=2))
    with pytest.raises(UserError, match="is the image itself"):
        predict([plane], plane)
    with pytest.raises(UserError, match="is one file, but there are 2 images"):
        predict([plane, colours], tmp_path / "no.tif", channels=(0,))
    assert not (tmp_path / "no").exists()


def test_flips_average_to_the_same_whichever_way_the_image_lies(tmp_path):
    image = cells(70, 50)
    for name, array in (("a", image), ("b", image[::-1])):
        predict([volume(tmp_path / f"{name}.tif", np.ascontiguousarray(array), "yx")], tmp_path / f"{name}.ome.zarr", segmenter(flips=True))  # fmt: skip
    a, b = (open_volume(tmp_path / f"{n}.ome.zarr") for n in "ab")
    assert_same_up_to_numbers(a.read(a.box), b.read(b.box)[::-1])
