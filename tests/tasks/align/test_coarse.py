"""Laws of aligning from a coarse alignment: displaced sections give what undisplaced ones give, and each pixel is resampled once."""

import numpy as np
import pytest
import torch

from lamella.core.box import Box
from lamella.io import open_volume
from lamella.io.coarse import Placed
from lamella.ops.affine import pull, shifted, turned
from lamella.tasks.align.masked import Masked
from lamella.tasks.align.resample import resample
from lamella.tasks.align.scores import FieldStack
from lamella.tasks.align.settings import AlignSettings
from lamella.tasks.align.volume import align_volume
from tests.tasks.align.nets import constant, estimator, matcher, untrained
from tests.tasks.align.test_volume import drifting, put, tissue

SIZE = (101, 118)
OFFSETS = [(0, 0), (130, -75), (-60, 210), (340, 20)]  # of sections, in whole pixels
INNER = np.s_[..., 26:-26, 26:-26]


def align(folder, source, net, name, box=None, **settings):
    config = AlignSettings.load({"tile": 64, "overlap": 16, "flip": False, "symmetric": False, **settings})
    paths = align_volume(source, str(folder / name), estimator(net), config, box=box)
    return [open_volume(path) for path in (paths.aligned, paths.fields, paths.masks) if path]


def displaced(sections):
    """Sections on a large plane, each elsewhere, and the transforms that place them where they were."""
    plane = np.zeros((len(sections), 620, 560), sections.dtype)
    corner = np.array([100, 120])
    for z, (dy, dx) in enumerate(OFFSETS[: len(sections)]):
        y, x = corner[0] + dy, corner[1] + dx
        plane[z, y : y + SIZE[0], x : x + SIZE[1]] = sections[z]
    return plane, np.stack([shifted(corner + o) for o in OFFSETS[: len(sections)]])


@pytest.mark.parametrize("settings", [{}, {"chain": 2}, {"method": "vote"}, {"method": "joint"}], ids=str)
def test_displaced_sections_are_aligned_as_undisplaced_ones(tmp_path, settings):
    raw = drifting(4)
    masks = (np.random.default_rng(0).random(raw.shape) < 0.002).astype(np.uint8) * 2
    plane, matrices = displaced(raw)
    mask_plane, _ = displaced(masks)
    whole, part = put(tmp_path / "plane.zarr", plane), put(tmp_path / "raw.zarr", raw)
    placed = Placed(whole, 0, matrices)
    sources = [
        Masked(placed, placed.masks(put(tmp_path / "mask_plane.zarr", mask_plane))),
        Masked(part, put(tmp_path / "masks.zarr", masks)),
    ]
    there, here = (
        align(tmp_path, source, matcher(), f"{name}.zarr", part.box, **settings)
        for source, name in zip(sources, ("there", "here"), strict=True)
    )
    for a, b in zip(there[::2], here[::2], strict=True):  # images and masks
        off = np.abs(a.read(part.box)[INNER].astype(int) - b.read(part.box)[INNER])
        assert off.max() <= 1
        assert (off > 0).mean() < 1e-3  # rounded the other way, where places were computed from larger numbers
    fields = [v.read(v.box) for v in (there[1], here[1])]
    extra = np.moveaxis(matrices[:, :2, 2], 0, 1)[..., None, None]
    np.testing.assert_allclose(fields[0][INNER], (fields[1] + extra)[INNER], atol=1e-3)


@pytest.mark.parametrize("skip", [0, 1])
def test_the_fields_lead_to_the_raw_source_and_each_pixel_is_resampled_once(tmp_path, skip):
    raw = np.stack([tissue(z) for z in range(3)])
    source = put(tmp_path / "raw.zarr", raw, start=(3, 7, -5))
    middle = (57, 54)
    matrices = np.stack([np.eye(3), turned(14, middle, (60, 51)), turned(93, middle, middle)])
    placed = Placed(source, 3, matrices)
    aligned, fields = align(tmp_path, placed, untrained(skip, 200.0), "out.zarr")
    assert aligned.box == placed.box
    stack = FieldStack.of(fields, aligned)
    plane = Box(placed.box.start[1:], placed.box.stop[1:])
    for z in (3, 4, 5):
        field = stack.read(z, plane).astype(np.float32)
        expected = resample(source, z, plane, field).astype(int)
        found = aligned.read(Box((z, *plane.start), (z + 1, *plane.stop)))[0].astype(int)
        assert (np.abs(found - expected) > 1).mean() < 2e-3, z  # voxels of half-present data at the rim
    np.testing.assert_array_equal(aligned.read(Box((3, 7, -5), (4, 108, 113)))[0], raw[0])


def test_the_first_section_is_placed_too(tmp_path):
    raw = np.stack([tissue(z) for z in range(2)])
    source = put(tmp_path / "raw.zarr", raw)
    matrices = np.stack([turned(180, (50, 50), (50, 58.5)), np.eye(3)])
    aligned, _ = align(tmp_path, Placed(source, 0, matrices), constant(0, 0), "out.zarr", box=source.box)
    seen = pull(raw[0].astype(float), matrices[0], SIZE)
    np.testing.assert_allclose(aligned.read(source.box)[0][5:-5, 10:100], seen[5:-5, 10:100], atol=0.51)


def test_a_read_of_a_part_is_a_part_of_the_whole(tmp_path):
    source = put(tmp_path / "raw.zarr", np.stack([tissue(z) for z in range(2)]))
    placed = Placed(source, 0, np.stack([turned(30, (50, 50), (80, 20)), shifted((3.5, -2))]))
    whole, part = placed.read(placed.box), Box((1, -10, 15), (2, 30, 70))
    np.testing.assert_array_equal(placed.read(part), whole[part.slices(placed.box.start)])
    assert torch.from_numpy(whole).dtype == torch.uint8
