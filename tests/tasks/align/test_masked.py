"""Aligning with masks: what is known to be damaged is not matched, does not smooth fields, and travels with the sections."""

import numpy as np
import pytest
import torch

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from lamella.ops.field import rescale
from lamella.ops.torn import carried_in, narrow, rescale_torn, smooth_apart
from lamella.tasks.align.masked import Blanked, Masked, open_masks
from lamella.tasks.align.settings import AlignSettings
from lamella.tasks.align.volume import align_volume, fields_path, masks_path
from tests.tasks.align.nets import constant, estimator, matcher
from tests.tasks.align.test_volume import moved, put, tissue


def stepped(size=24, at=10, width=2):
    """A field that is -6 left of a tear and 6 right of it, with anything inside, and the tear."""
    field = torch.full((1, 2, size, size), 6.0)
    field[..., :at] = -6
    torn = torch.zeros(1, 1, size, size)
    torn[..., at - width // 2 : at + width // 2] = 1
    return torch.where(torn > 0, 99.0, field), torn


def test_fields_are_smoothed_on_each_side_of_a_tear_and_carried_into_it():
    field, torn = stepped()
    found = smooth_apart(field, torn, variance=20.0)
    assert torch.equal(found[..., :10], torch.full_like(found[..., :10], -6))
    assert torch.equal(found[..., 10:], torch.full_like(found[..., 10:], 6))


def test_smoothing_keeps_the_mean_where_nothing_is_torn_and_spreads_by_its_variance():
    field = torch.zeros(1, 2, 61, 61)
    field[..., 30, 30] = 1
    found = smooth_apart(field, torch.zeros(1, 1, 61, 61), variance=9.0)
    assert found.sum().item() == pytest.approx(2, abs=1e-4)
    place = torch.arange(61.0) - 30
    assert (found[0, 0].sum(0) * place**2).sum().item() == pytest.approx(9.0, rel=0.05)


def test_nothing_is_carried_where_all_or_nothing_is_torn():
    field = torch.rand(1, 2, 5, 5)
    assert torch.equal(carried_in(field, torch.ones(1, 1, 5, 5)), field)
    assert torch.equal(carried_in(field, torch.zeros(1, 1, 5, 5)), field)


def test_fields_are_interpolated_but_for_their_jumps():
    smooth = torch.rand(1, 2, 9, 9) * 0.3
    assert torch.equal(rescale_torn(smooth, 2, (35, 36)), rescale(smooth, 2, (35, 36)))
    field = torch.full((1, 2, 8, 8), 2.0)
    field[..., 4:] = -2
    found = rescale_torn(field, 2, (32, 32))
    assert torch.equal(found[..., :16], torch.full((1, 2, 32, 16), 8.0))
    assert torch.equal(found[..., 16:], torch.full((1, 2, 32, 16), -8.0))


def test_narrow_damage_tears_and_wide_damage_does_not():
    inside = np.zeros((60, 60), bool)
    inside[:, 10:16] = True
    inside[30:50, 30:50] = True
    found = narrow(inside, 8)
    assert found[:, 10:16].all()
    assert not found[30:50, 30:50].any()
    assert not narrow(np.ones((20, 20), bool), 8).any()


def whole_masks(folder, array, name="masks.zarr"):
    masks = put(folder / name, array.astype(np.uint8))
    return Masked(open_volume(str(folder / "raw.zarr")), masks)


def align(folder, source, net, name, **settings):
    config = AlignSettings.load({"tile": 64, "overlap": 16, "flip": False, "symmetric": False, "passes": 1, **settings})
    paths = align_volume(source, str(folder / name), estimator(net, passes=config.passes), config)
    return [None if p is None else open_volume(p) for p in (paths.aligned, paths.fields, paths.masks)]


def read(volume):
    return volume.read(volume.box)


def test_masks_move_as_the_sections_do(tmp_path):
    stack = np.stack([tissue(z, (96, 100)) for z in range(3)])
    put(tmp_path / "raw.zarr", stack)
    mask = np.zeros(stack.shape, np.uint8)
    mask[0, 20:30, 20:30] = 2
    mask[1, 40:60, 40:44], mask[1, 45, 60:70] = 1, 2
    aligned, fields, masks = align(tmp_path, whole_masks(tmp_path, mask), constant(3, -2), "out.zarr", memory=0)
    found = read(masks)
    np.testing.assert_array_equal(found[0], mask[0])
    assert np.abs(read(fields)[0, 1] - 3).max() < 1e-4
    inner = np.s_[8:-8, 8:-8]
    np.testing.assert_array_equal(found[1][inner], moved(mask[1], -3, 2)[inner])
    assert not found[2].any()
    assert masks.meta.provenance["masks"] == str(tmp_path / "masks.zarr")
    np.testing.assert_array_equal(read(aligned)[1][inner], moved(stack[1], -3, 2)[inner])


def test_empty_masks_change_nothing(tmp_path):
    stack = np.stack([tissue(0, (96, 100))] * 3)
    raw = put(tmp_path / "raw.zarr", stack)
    plain = align(tmp_path, raw, matcher(), "plain.zarr")
    masked = align(tmp_path, whole_masks(tmp_path, np.zeros(stack.shape)), matcher(), "masked.zarr")
    for a, b in zip(plain[:2], masked[:2], strict=True):
        np.testing.assert_array_equal(read(a), read(b))
    assert plain[2] is None


def test_what_lies_in_defects_is_not_seen(tmp_path):
    """Whatever stands inside a defect, the fields are the same; and a target's holes are filled from the section before it."""
    stack = np.stack([tissue(0, (96, 100))] * 3)
    mask = np.zeros(stack.shape, np.uint8)
    mask[1, 30:66, 30:66] = 2
    fields = []
    for k, junk in enumerate((0, 7)):
        folder = tmp_path / str(k)
        folder.mkdir()
        damaged = stack.copy()
        damaged[1][mask[1] == 2] = tissue(100 + junk, (96, 100))[mask[1] == 2]
        put(folder / "raw.zarr", damaged)
        fields.append(read(align(folder, whole_masks(folder, mask), matcher(), "out.zarr")[1]))
    np.testing.assert_array_equal(*fields)
    assert np.abs(fields[0][:, 2]).max() < 1e-3


def test_chains_carry_masks_into_the_frame_of_the_first(tmp_path):
    stack = np.stack([tissue(z, (96, 100)) for z in range(5)])
    put(tmp_path / "raw.zarr", stack)
    mask = np.zeros(stack.shape, np.uint8)
    mask[4, 40:60, 45:50] = 2
    _, fields, masks = align(tmp_path, whole_masks(tmp_path, mask), constant(1, 1), "out.zarr", memory=0, chain=2)
    shift = np.rint(read(fields)[:, 4].mean((1, 2))).astype(int)
    assert tuple(shift) == (2, 2)  # its own field, and that of the section its chain begins with
    inner = np.s_[10:-10, 10:-10]
    np.testing.assert_array_equal(read(masks)[4][inner], moved(mask[4], -2, -2)[inner])


def test_masks_of_other_voxels_are_refused(tmp_path):
    raw = put(tmp_path / "raw.zarr", np.stack([tissue(z, (40, 50)) for z in range(2)]))
    put(tmp_path / "small.zarr", np.zeros((2, 40, 49), np.uint8))
    put(tmp_path / "float.zarr", np.zeros((2, 40, 50), np.float32))
    with pytest.raises(UserError, match="same voxels"):
        open_masks(str(tmp_path / "small.zarr"), raw, 0)
    with pytest.raises(UserError, match="float32"):
        open_masks(str(tmp_path / "float.zarr"), raw, 0)


def test_blanked_sections_are_missing_inside_defects_only(tmp_path):
    raw = put(tmp_path / "raw.zarr", tissue(0, (40, 50))[None])
    masks = put(tmp_path / "masks.zarr", np.random.default_rng(0).integers(0, 3, (1, 40, 50)).astype(np.uint8))
    shown = Blanked(raw, masks).read(Box((0, 5, 5), (1, 20, 30)))
    mask, data = (v.read(Box((0, 5, 5), (1, 20, 30))) for v in (masks, raw))
    np.testing.assert_array_equal(shown, np.where(mask == 2, 0, data))


def test_an_interrupted_alignment_does_not_go_on_with_other_masks(tmp_path):
    put(tmp_path / "raw.zarr", np.stack([tissue(z, (40, 50)) for z in range(2)]))
    out = tmp_path / "out.zarr"
    create_volume(masks_path(str(out)), box=Box.of((1, 4, 4)), dtype="uint8", meta=Meta.plain("zyx"))
    with pytest.raises(UserError, match=r"masks .* exist already"):
        align(tmp_path, whole_masks(tmp_path, np.zeros((2, 40, 50))), constant(0, 0), "out.zarr")
    assert not open_or_none(fields_path(str(out)))


def open_or_none(path):
    try:
        return open_volume(path)
    except UserError:
        return None
