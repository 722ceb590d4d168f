"""Laws of the coarse stage: known transforms are found, bad sections throw nothing, other sources are refused."""

import json

import numpy as np
import pytest
from scipy import ndimage as ndi

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from lamella.io.coarse import Coarse, Link, open_placed
from lamella.ops.affine import apart, at_scale, pull, shifted, turned
from lamella.ops.register import register
from lamella.prep.coarse import Found, join, measure_coarse
from lamella.prep.coarse_settings import CoarseSettings

SIDE = 768
PLANE = Box.of((SIDE, SIDE))
MIDDLE = ((SIDE - 1) / 2,) * 2


def tissue(seed=0, side=SIDE):
    """Blobs of several sizes; they persist at every mip that is used here."""
    rng = np.random.default_rng(seed)
    layers = [ndi.zoom(rng.standard_normal((side // n, side // n)), n, order=1) for n in (64, 24, 12)]
    image = sum(layer[:side, :side] for layer in (np.pad(x, ((0, side), (0, side)), mode="wrap") for x in layers))
    return np.clip(128 + 25 * image, 1, 255).astype(np.float32)


def bent(degrees, offset, scale=1.0):
    """Turned about the middle, moved by ``offset`` and scaled: from output to tissue."""
    return shifted(offset) @ turned(degrees, MIDDLE, MIDDLE) @ np.diag([scale, 2 - scale, 1])


def displaced(image, matrix):
    """What the microscope gives of tissue that lies elsewhere; ``matrix`` leads from its pixels to the tissue's."""
    present = pull(np.ones_like(image), matrix, image.shape) > 0.99
    return np.where(present, np.rint(pull(image, matrix, image.shape)).clip(1, 255), 0).astype(np.uint8)


def put(path, sections, mips=3):
    array = np.stack(sections).astype(np.uint8)
    meta = Meta.plain("zyx", voxel_size=(40.0, 4.0, 4.0), units=("nanometer",) * 3)
    box = Box.of(array.shape)
    volumes = create_volume(str(path), box=box, dtype="uint8", meta=meta, chunk=(1, 128, 128), mips=mips)
    for n, volume in enumerate(volumes):
        small = array.reshape(len(array), SIDE >> n, 1 << n, SIDE >> n, 1 << n)
        full = (small > 0).all((2, 4))
        volume.write(volume.box, np.where(full, small.mean((2, 4)).round(), 0).astype(np.uint8))
    return str(path)


@pytest.mark.parametrize("model", ["shift", "rigid", "affine"])
def test_a_known_transform_of_hundreds_of_pixels_is_found_within_one(model):
    offset = (150, -210)
    matrix = {"shift": shifted(offset), "rigid": bent(133, offset), "affine": bent(-41, offset, 1.03)}[model]
    image = tissue()
    pair = [x.reshape(SIDE // 4, 4, SIDE // 4, 4) for x in (image, displaced(image, matrix))]
    target, source = (np.where((x > 0).all((1, 3)), x.mean((1, 3)), 0) for x in pair)
    found = register(target, source, model)
    assert found.agree > 0.9
    assert apart(at_scale(found.matrix, 1 / 4), np.linalg.inv(matrix), PLANE) < 1


def test_sections_that_have_nothing_in_common_do_not_agree():
    assert register(tissue(1, 192), tissue(2, 192)[:, ::-1]).agree < 0.15


def link(z, to, matrix, agree=0.8):
    return Found(z, 1.0, (Link(to=to, matrix=matrix[:2].tolist(), agree=agree, residual=0.1),))


def both(z, *links):
    return Found(z, 1.0, tuple(one for found in links for one in found.links))


def test_transforms_add_up_along_the_stack_from_any_anchor():
    steps = [bent(10 * z, (5 * z, -z)) for z in range(1, 5)]
    found = [Found(0, 1.0, ()), *(link(z, z - 1, step) for z, step in enumerate(steps, 1))]
    forward, _ = join(found, 0, PLANE, 0.15)
    middle, joints = join(found, 2, PLANE, 0.15)
    squares = [[np.array([*s.matrix, [0, 0, 1]]) for s in sections] for sections in (forward, middle)]
    np.testing.assert_allclose(squares[0][4], steps[3] @ steps[2] @ steps[1] @ steps[0], atol=1e-9)
    np.testing.assert_allclose(squares[1][4] @ squares[0][2], squares[0][4], atol=1e-9)
    np.testing.assert_array_equal(squares[1][2], np.eye(3))
    assert not joints


def test_neighbours_are_preferred_and_a_section_that_fits_nothing_is_passed_over():
    step, wrong = shifted((7, 3)), shifted((300, 0))
    found = [
        Found(0, 1.0, ()),
        link(1, 0, step),
        both(2, link(2, 1, wrong, 0.05), link(2, 0, wrong, 0.02)),
        both(3, link(3, 2, wrong, 0.1), link(3, 1, step @ step, 0.3)),
        both(4, link(4, 3, step, 0.5), link(4, 2, wrong, 0.0)),
    ]
    sections, joints = join(found, 0, PLANE, 0.15)
    assert [s.state for s in sections] == ["anchor", "placed", "unsure", "placed", "placed"]
    assert [s.after for s in sections] == [None, 0, 1, 1, 3]
    np.testing.assert_allclose([np.array(s.matrix)[0, 2] for s in sections], [0, 7, 7, 21, 28])
    assert not joints


def test_of_three_links_that_contradict_each_other_the_least_sure_is_left_out():
    step, wrong = shifted((7, 3)), shifted((300, 0))
    found = [
        Found(0, 1.0, ()),
        link(1, 0, step),
        both(2, link(2, 1, wrong, 0.2), link(2, 0, step @ step, 0.4)),
    ]
    sections, _ = join(found, 0, PLANE, 0.15)
    assert sections[2].after == 0
    assert sections[2].triangle == pytest.approx(np.hypot(293, 3))


def test_where_no_sure_link_leads_on_sections_stand_as_their_neighbours_and_it_is_told():
    found = [
        Found(0, 1.0, ()),
        link(1, 0, shifted((9, 0))),
        link(2, 1, shifted((99, 0)), 0.1),
        link(3, 2, shifted((4, 0))),
    ]
    sections, joints = join(found, 0, PLANE, 0.15)
    assert joints == [2]
    assert [np.array(s.matrix)[0, 2] for s in sections] == [0, 9, 9, 13]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """One tissue in five sections, displaced; the third is lost."""
    here, image = tmp_path_factory.mktemp("stack"), tissue()
    truth = [np.eye(3), bent(7, (90, -60)), np.eye(3), bent(-5, (-130, 40)), shifted((200, 30))]
    sections = [displaced(image, m) for m in truth]
    sections[2][:] = 0
    source = put(here / "raw.zarr", sections)
    coarse = measure_coarse(source, here / "coarse.json", CoarseSettings(mip=2, turn=12))
    return here, source, coarse, truth


def test_a_stack_is_laid_within_a_pixel_over_a_lost_section(stack):
    here, _, coarse, truth = stack
    assert [s.state for s in coarse.sections] == ["anchor", "placed", "lost", "placed", "placed"]
    for z in (1, 3, 4):
        assert apart(truth[z] @ coarse.matrices[z], np.eye(3), PLANE) < 1, z
    assert Coarse.read(here / "coarse.json") == coarse


@pytest.mark.parametrize("mip", [0, 1])
def test_the_volume_read_through_it_shows_one_tissue_at_any_mip_and_in_any_pieces(stack, mip):
    here, source, _, _ = stack
    placed = open_placed(here / "coarse.json", source, open_volume(source, mip=mip))
    inner = Box((0, *[n // 3 for n in (SIDE >> mip, SIDE >> mip)]), (5, *[n // 2 for n in (SIDE >> mip, SIDE >> mip)]))
    whole = placed.read(inner)
    for z in (1, 3, 4):
        assert np.corrcoef(whole[0].ravel(), whole[z].ravel())[0, 1] > 0.99
    np.testing.assert_array_equal(whole[0], open_volume(source, mip=mip).read(inner)[0])
    cut = Box(tuple(a + 1 for a in inner.start), tuple(b - 2 for b in inner.stop))
    np.testing.assert_array_equal(placed.read(cut), whole[cut.slices(inner.start)])
    full = placed.read(placed.box)
    assert all(
        np.count_nonzero(full[z]) == pytest.approx(np.count_nonzero(_raw(source, mip, z)), rel=0.02) for z in (1, 3, 4)
    )


def _raw(source, mip, z):
    volume = open_volume(source, mip=mip)
    return volume.read(Box((z, *volume.box.start[1:]), (z + 1, *volume.box.stop[1:])))


def test_masks_keep_their_values_and_their_narrow_parts(stack):
    here, source, _, _ = stack
    placed = open_placed(here / "coarse.json", source, open_volume(source))
    mask = np.zeros((5, SIDE, SIDE), np.uint8)
    mask[:, 380:384], mask[:, 382] = 1, 2
    masks = placed.masks(open_volume(put(here / "masks.zarr", mask, 1)))
    seen = masks.read(placed.box)
    assert set(np.unique(seen)) == {0, 1, 2}
    assert SIDE <= (seen[4] == 2).any(0).sum() <= SIDE + 2  # the pixels at both ends touch it


def test_other_sources_and_files_are_refused(stack, tmp_path):
    here, source, _, _ = stack
    coarse = here / "coarse.json"
    other = put(tmp_path / "other.zarr", [tissue(9)] * 5)
    with pytest.raises(UserError, match="is not that of"):
        open_placed(coarse, other, open_volume(other))
    fewer = put(tmp_path / "fewer.zarr", [tissue()] * 4)
    with pytest.raises(UserError, match="whose mips must hold all its sections"):
        open_placed(coarse, fewer, open_volume(fewer))
    values = json.loads(coarse.read_text())
    (tmp_path / "large.json").write_text(json.dumps(values | {"voxel_size": [40, 8, 8]}))
    with pytest.raises(UserError, match="no mip of what was measured"):
        open_placed(tmp_path / "large.json", source, open_volume(source))
    (tmp_path / "no.json").write_text("[1]")
    for path in ("no.json", "missing.json"):
        with pytest.raises(UserError, match="lamella prep coarse"):
            Coarse.read(tmp_path / path)
    for change, message in (({"mip": 7}, "mip 7"), ({"anchor": 9}, "anchor 9 does not exist")):
        with pytest.raises(UserError, match=message):
            measure_coarse(fewer, tmp_path / "out.json", CoarseSettings(**{"mip": 2, "model": "shift", **change}))
    with pytest.raises(UserError, match="--overwrite"):
        measure_coarse(source, coarse, CoarseSettings(mip=2))
