"""Laws of the map of misalignment: it shows what was moved, says where, and does not depend on how the work was cut up."""

import csv

import numpy as np
import pytest
from scipy import ndimage as ndi

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from lamella.tasks.align.misalignment import FindMisfits, goes_on, measure_misalignment, tables_beside
from lamella.tasks.align.misalignment_report import write_misalignment_page
from lamella.tasks.align.misalignment_settings import MisalignmentSettings

SIZE = (300, 360)
START = (5, -20, 17)
WRONG = (8, 120, 200)  # section, and the middle of what was moved there, from the volume's corner


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    """One tissue in six sections with noise of their own; a patch of one is 6 px off, another section is lost."""
    rng = np.random.default_rng(0)
    tissue = ndi.gaussian_filter(rng.standard_normal((SIZE[0] + 20, SIZE[1] + 20)), 3)
    tissue *= 40 / tissue.std()
    sections = []
    for z in range(6):
        image = tissue[10:-10, 10:-10].copy()
        if z == WRONG[0] - START[0]:
            image[80:160, 160:240] = tissue[96:176, 170:250]
        sections.append(np.clip(128 + image + 10 * rng.standard_normal(SIZE), 1, 255))
    sections[1][:] = 0
    array = np.stack(sections).astype(np.uint8)
    path = str(tmp_path_factory.mktemp("aligned") / "aligned.zarr")
    meta = Meta.plain("zyx", provenance={"mip": 2})
    (volume,) = create_volume(path, box=Box.of(array.shape).shift(START), dtype="uint8", meta=meta, chunk=(1, 64, 64))
    volume.write(volume.box, array)
    return path


def measure(aligned, out, **settings):
    return measure_misalignment(aligned, str(out), MisalignmentSettings(**{"window": 32, "reach": 8, **settings}))


@pytest.fixture(scope="module")
def measured(aligned, tmp_path_factory):
    """The map of it, and its figures."""
    out = tmp_path_factory.mktemp("measured") / "map.ome.zarr"
    return out, measure(aligned, out)


def read(path):
    volume = open_volume(str(path))
    return volume.read(volume.box)


def test_the_worst_place_is_the_one_that_was_moved(measured):
    out, found = measured
    worst = found.places[0]
    assert worst["z"] in (WRONG[0], WRONG[0] + 1)  # against the one before, and the next against it
    assert abs(worst["y"] - (WRONG[1] + START[1])) < 24
    assert abs(worst["x"] - (WRONG[2] + START[2])) < 24
    sign = -1 if worst["z"] == WRONG[0] + 1 else 1
    assert (worst["dy"], worst["dx"]) == (sign * 6, 0)
    assert worst["misfit"] > 0.3
    assert worst["above_chance"]
    assert worst["y_mip0"] // 4 == worst["y"]
    assert worst["neuroglancer"] == f"{worst['x']}, {worst['y']}, {worst['z']}"
    rest = [p for p in found.places if p["z"] not in (WRONG[0], WRONG[0] + 1)]
    assert all(p["misfit"] < 0.02 for p in rest)
    for path, rows in zip(tables_beside(str(out)), (found.pairs, found.places), strict=True):
        with open(path, newline="") as file:
            assert len(list(csv.DictReader(file))) == len(rows)


def test_lost_sections_are_passed_over_and_hold_no_data(measured):
    out, found = measured
    assert [p["previous"] for p in found.pairs] == [None, None, 5, 7, 8, 9]
    values = read(out)
    assert not values[:2].any()
    assert values[2].all()
    assert found.pairs[2]["correlation"] > 0.9


def test_the_map_tells_where_it_is(aligned, measured):
    chart, volume = open_volume(str(measured[0])), open_volume(aligned)
    assert chart.meta.voxel_size == (1, 8, 8)
    row = chart.box.start[1]
    assert chart.meta.translation[1] + 8 * row == volume.box.start[1] + 3.5
    assert chart.box.shape == (6, 38, 45)


def test_tiles_of_any_size_give_the_same(aligned, measured, tmp_path):
    measure(aligned, tmp_path / "cut.ome.zarr", tile=160)
    maps = [read(path) for path in (measured[0], tmp_path / "cut.ome.zarr")]
    assert np.abs(maps[0].astype(int) - maps[1]).max() <= 1  # rounding
    assert (maps[0] != maps[1]).mean() < 1e-3


def test_what_was_interrupted_goes_on_and_ends_the_same(aligned, measured, tmp_path, monkeypatch):
    whole = measured[1]
    write, left = FindMisfits.write, [4]

    def stopped(self, block, result):
        left[0] -= 1
        if left[0] == 0:
            raise UserError("no more today")
        write(self, block, result)

    monkeypatch.setattr(FindMisfits, "write", stopped)
    with pytest.raises(UserError, match="no more today"):
        measure(aligned, tmp_path / "part.ome.zarr")
    assert goes_on(str(tmp_path / "part.ome.zarr"))
    left[0] = 1000
    again = measure(aligned, tmp_path / "part.ome.zarr")
    np.testing.assert_array_equal(read(tmp_path / "part.ome.zarr"), read(measured[0]))
    assert again.places == whole.places
    assert again.pairs[2:] == whole.pairs[2:]  # those without data hold NaN
    with pytest.raises(UserError, match="--overwrite"):
        measure(aligned, tmp_path / "part.ome.zarr")
    with pytest.raises(UserError, match="--overwrite"):
        goes_on(str(tmp_path / "part.ome.zarr"))
    assert not goes_on(str(tmp_path / "new.ome.zarr"))


def test_the_page_shows_the_worst_places(aligned, measured):
    out, found = measured
    page = write_misalignment_page(found, aligned, MisalignmentSettings())
    assert page == out.parent / "map.html"
    assert found.places[0]["neuroglancer"] in page.read_text()


@pytest.mark.parametrize(("shape", "axes"), [((1, 64, 64), "zyx"), ((2, 64, 64), "cyx")])
def test_what_is_no_stack_is_refused(tmp_path, shape, axes):
    create_volume(str(tmp_path / "x.zarr"), box=Box.of(shape), dtype="uint8", meta=Meta.plain(axes))
    with pytest.raises(UserError, match="give"):
        measure(str(tmp_path / "x.zarr"), tmp_path / "map.ome.zarr")
    assert not list(tmp_path.glob("*map*"))
