"""Finding defects in volumes: blocks equal the whole, formats, resumption, and masks that mean what they say."""

import csv

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from scipy import ndimage as ndi
from skimage.measure import label
from skimage.morphology import remove_small_objects

from lamella.blockwise import Executor
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.data.source import SourceConfig, open_sources
from lamella.infer import InferSettings
from lamella.io import create_volume, open_volume
from lamella.ops.masks import ternary
from lamella.ops.normalise import Local, ZScore
from lamella.tasks.defects import find
from lamella.tasks.defects.config import DefectsConfig
from lamella.tasks.defects.detector import Detector, Sections
from lamella.tasks.defects.find import find_defects
from lamella.tasks.defects.masks import MISSING, MaskConfig
from lamella.tasks.defects.settings import FindSettings

TINY = {"features": (4, 4), "down": (2,), "fold": 2, "norm": "none"}


def detector(normalise=None, **masks) -> Detector:
    """One that has learnt nothing but finds something in a twentieth of a section."""
    torch.manual_seed(3)
    task = DefectsConfig.load({"net": TINY}).build()
    with torch.no_grad():
        head = task.net.net.head.conv
        head.weight.mul_(5)
        logits = task.net(torch.from_numpy(ZScore().build()(tissue((64, 64), 1)))[None, None])
        head.bias -= logits.movedim(1, 0).flatten(1).quantile(0.95, 1).repeat_interleave(4)  # 2 x 2 pixels of each kind
    config = MaskConfig.load({"min_size": 12, "near": 5, "crack": 0.6, "fold": 0.6, "cover": 0.6, **masks})
    return Detector(task.net.eval(), normalise or ZScore().build(), config, InferSettings(precision="float32"))


def tissue(shape, seed=0):
    noise = ndi.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), (*[0] * (len(shape) - 2), 2, 2))
    image = np.clip(128 + 60 * noise / noise.std(), 1, 255).astype(np.uint8)
    image[..., 20:34, 50:70] = 0
    return image


def volume(path, array, axes="zyx", start=None, **meta):
    box = Box.of(array.shape).shift(start or (0,) * array.ndim)
    made = create_volume(str(path), box=box, dtype=array.dtype, meta=Meta.plain(axes, **meta))[0]
    made.write(made.box, array)
    return open_volume(str(path))


def masks_of(source, out, who=None, workers=1, box=None, overwrite=False, **settings):
    executor = Executor(workers=workers)
    found = find_defects(
        source, str(out), who or detector(), FindSettings(**settings), box=box, executor=executor, overwrite=overwrite
    )
    masks = open_volume(str(out))
    return masks.read(masks.box), found


@pytest.mark.parametrize("normalise", [ZScore(), Local(sigma=3)], ids=lambda n: n.kind)
def test_blocks_give_what_the_whole_gives(tmp_path, normalise):
    source = volume(tmp_path / "raw.zarr", tissue((2, 150, 170)))
    who = detector(normalise.build())
    whole, _ = masks_of(source, tmp_path / "whole.zarr", who, block=1024)
    blocks, found = masks_of(source, tmp_path / "blocks.zarr", who, block=64, workers=2)
    np.testing.assert_array_equal(blocks, whole)
    assert {0, 1, 2} == set(np.unique(whole))
    assert (found.rows[:, 3] == (whole == 2).sum((1, 2))).all()
    assert (found.rows[:, 2] == (whole == 1).sum((1, 2))).all()
    assert (found.rows[:, 4] == [label(section == 2, connectivity=1).max() for section in whole]).all()


def test_masks_are_pooled_thresholded_rid_of_specks_and_grown_as_the_settings_say(tmp_path):
    section = tissue((1, 90, 100))
    source, who = volume(tmp_path / "raw.zarr", section), detector(fold=0.7, min_size=30, near=3)
    masks, found = masks_of(source, tmp_path / "masks.zarr", who, maps=True)
    maps = open_volume(found.maps)
    assert maps.meta.channel_names == ("crack", "fold", "cover", MISSING)
    crack, fold, cover, missing = maps.read(maps.box)[:, 0]
    np.testing.assert_array_equal(missing > 0, section[0] == 0)
    inside = missing > 0
    for probability, threshold in ((crack, 0.6), (fold, 0.7), (cover, 0.6)):
        assert not probability[section[0] == 0].any()
        highest = ndi.maximum_filter(probability, 3, mode="nearest")
        inside |= ndi.uniform_filter(highest.astype(np.float64), 3, mode="nearest") > threshold
    inside = remove_small_objects(inside, max_size=29, connectivity=1)
    expected = ternary(torch.from_numpy(inside)[None, None].float(), 3)[0, 0].numpy()
    np.testing.assert_array_equal(masks[0], expected)


def test_missing_data_are_normal_if_asked_for(tmp_path):
    source = volume(tmp_path / "raw.zarr", tissue((1, 90, 100)))
    high = {"crack": 1.0, "fold": 1.0, "cover": 1.0}
    inside, _ = masks_of(source, tmp_path / "a.zarr", detector(**high))
    np.testing.assert_array_equal(inside == 2, source.read(source.box) == 0)
    normal, _ = masks_of(source, tmp_path / "b.zarr", detector(missing=False, **high))
    assert not normal.any()


def test_every_format_holds_the_same_and_a_box_is_a_piece(tmp_path):
    source = volume(tmp_path / "raw.zarr", tissue((3, 80, 90)), start=(5, 0, 0))
    whole, _ = masks_of(source, tmp_path / "masks.zarr")
    for name in ("masks.tif", "masks.h5", "sections/*.png", "masks.n5"):
        np.testing.assert_array_equal(masks_of(source, tmp_path / name)[0], whole)
    assert iio.imread(sorted((tmp_path / "sections").glob("*.png"))[1]).max() == 2
    box = Box((6, 0, 0), (7, 80, 90))
    np.testing.assert_array_equal(masks_of(source, tmp_path / "one.zarr", box=box)[0], whole[1:2])
    with open(tmp_path / "masks.sections.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["z"]) for row in rows] == [5, 6, 7]
    assert [float(row["inside"]) for row in rows] == pytest.approx((whole == 2).mean((1, 2)), rel=1e-5)


def test_a_single_section_and_pictures(tmp_path):
    image = tissue((80, 90))
    source = volume(tmp_path / "one.zarr", image, "yx")
    flat, found = masks_of(source, tmp_path / "flat.zarr", plot=True)
    deep, _ = masks_of(volume(tmp_path / "deep.zarr", image[None]), tmp_path / "masks.zarr")
    np.testing.assert_array_equal(flat, deep[0])
    assert iio.imread(found.beside[-1]).shape == (80, 186, 3)


def test_a_killed_search_goes_on_and_ends_with_the_same(tmp_path, monkeypatch):
    source = volume(tmp_path / "raw.zarr", tissue((2, 120, 130)))
    whole, _ = masks_of(source, tmp_path / "whole.zarr")
    for stage in (find.PiecesJob, find.MasksJob):
        write, left = stage.write, [3]

        def dies(self, block, result, write=write, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            write(self, block, result)

        with monkeypatch.context() as patch:
            patch.setattr(stage, "write", dies)
            with pytest.raises(UserError, match="KeyboardInterrupt"):
                masks_of(source, tmp_path / "part.zarr", block=64)
    again, found = masks_of(source, tmp_path / "part.zarr", block=64)
    np.testing.assert_array_equal(again, whole)
    assert (found.rows[:, 3] == (whole == 2).sum((1, 2))).all()
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(UserError, match="exists already"):
        masks_of(source, tmp_path / "part.zarr")


def test_sections_are_normalised_as_in_training_whatever_the_tile(tmp_path):
    source = volume(tmp_path / "raw.zarr", tissue((2, 60, 70)))
    for config in (ZScore(), Local(sigma=2)):
        whole = config.build()(source.read(source.box)[1])
        tile = Sections(source, config.build()).read(Box((1, 10, 20), (2, 40, 50)))[0]
        np.testing.assert_allclose(tile, whole[10:40, 20:50], atol=1e-6)


def test_masks_of_a_mip_serve_training_at_that_mip(tmp_path):
    """Masks are stored at the mip that they were made at, which is then theirs."""
    fine = tissue((2, 64, 64))
    raw = create_volume(
        str(tmp_path / "raw.zarr"), box=Box.of(fine.shape), dtype="uint8", meta=Meta.plain("zyx"), mips=2
    )
    raw[0].write(raw[0].box, fine)
    raw[1].write(raw[1].box, fine[:, ::2, ::2])
    coarse = np.random.default_rng(0).integers(0, 3, (2, 32, 32)).astype(np.uint8)
    volume(tmp_path / "coarse.zarr", coarse)
    config = SourceConfig(path=str(tmp_path / "raw.zarr"), mip=1, masks=str(tmp_path / "coarse.zarr"))
    source = open_sources(config, (1, 16, 16))[0]
    np.testing.assert_array_equal(source.read_masks(Box((1, 4, 5), (2, 20, 21))), coarse[1:2, 4:20, 5:21])


def test_what_is_no_stack_of_sections_is_refused(tmp_path):
    source = volume(tmp_path / "raw.zarr", np.ones((2, 3, 16, 16), np.uint8), "czyx")
    with pytest.raises(UserError, match="axes zyx or yx"):
        masks_of(source, tmp_path / "masks.zarr")
    with pytest.raises(UserError, match="is the source"):
        masks_of(volume(tmp_path / "a.zarr", tissue((1, 64, 64))), tmp_path / "a.zarr")
