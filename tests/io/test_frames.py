"""A folder of frames is a volume for each position: what names and tables say, and what is wrong with some."""

from __future__ import annotations

import csv
import pickle

import imageio.v3 as iio
import numpy as np
import pytest

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.io import open_volume
from lamella.io.frames import present
from lamella.io.frames_names import compile_pattern, place_names
from lamella.io.frames_table import COLUMNS, META, scan
from lamella.io.positions import positions_of
from tests.io.frames import EVERY, ONE, SIZE, by_channel, numbered, stack, write_frames


@pytest.mark.parametrize("name", [numbered, by_channel])
def test_each_position_is_a_volume_of_its_frames(name, tmp_path):
    planes = write_frames(tmp_path, name)
    assert positions_of(tmp_path) == ("p000", "p002")
    for p in (0, 2):
        volume = open_volume(tmp_path, dataset=f"p{p:03d}")
        assert volume.meta.axes == tuple("tczyx")
        assert volume.box == Box((0, 0, 1, 0, 0), (2, 2, 4, *SIZE))
        whole = volume.read(volume.box)
        # names are sorted: DAPI_2 comes before phase and is channel 0
        expected = stack(planes, p)[:, ::-1] if name is by_channel else stack(planes, p)
        np.testing.assert_array_equal(whole, expected)
        part = Box((1, 0, 2, 3, 5), (2, 2, 4, 20, 11))
        np.testing.assert_array_equal(
            pickle.loads(pickle.dumps(volume)).read(part), whole[part.slices(volume.box.start)]
        )
    assert volume.meta.channel_names == (("DAPI_2", "phase") if name is by_channel else ())


def test_frames_that_do_not_exist_read_as_zero_and_are_told(tmp_path):
    write_frames(tmp_path)
    volume = open_volume(tmp_path / "p002")
    there = present(volume)
    assert there.shape == (2, 2, 3)
    assert there[:, 0].all()
    assert there[:, 1].tolist() == [[False, True, False]] * 2
    assert not volume.read(Box((0, 1, 1, 0, 0), (2, 2, 2, *SIZE))).any()


def test_a_table_has_the_columns_of_the_naming_and_reads_back(tmp_path):
    write_frames(tmp_path, by_channel)
    table, unplaced = scan(tmp_path)
    table.write(tmp_path / META)
    assert not unplaced
    with open(tmp_path / META, newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["file_name"] == "img_DAPI_2_t000_p000_z002.tif"
    assert (rows[0]["channel_idx"], rows[0]["channel_name"], rows[0]["dir_name"]) == ("0", "DAPI_2", ".")
    np.testing.assert_array_equal(
        open_volume(tmp_path / "p000").read(open_volume(tmp_path / "p000").box).shape, (2, 2, 3, *SIZE)
    )


def test_a_table_may_lie_elsewhere_and_has_columns_of_its_own(tmp_path):
    planes = write_frames(tmp_path / "images")
    (tmp_path / "tables").mkdir()
    with open(tmp_path / "tables" / META, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("", *COLUMNS, "sample"))  # the first column is the number that pandas adds
        for i, (t, c, z, p) in enumerate(EVERY):
            writer.writerow((i, c, z, t, p, "phase", numbered((t, c, z, p)), "../images", f"mouse {p}"))
    volume = open_volume(tmp_path / "tables", dataset="p002")
    np.testing.assert_array_equal(volume.read(volume.box)[:, 0], stack(planes, 2)[:, 0])
    assert volume.meta.provenance["frames"]["columns"] == ["t", "c", "z", "sample"]
    assert volume.meta.provenance["frames"]["rows"][0] == [0, 0, 1, "mouse 2"]


@pytest.mark.parametrize(
    ("pattern", "name", "told"),
    [
        ("{channel}_pos{p}_z{z}_t{t}.tif", "GFP_low_pos12_z003_t1.tif", (1, 0, 3, 12, "GFP_low")),
        ("w{c}{}_s{p}", "w2CSU 488_s7.TIF", (0, 2, 0, 7, "")),
        ("{sample}_{position}_{channel}.png", "m1_B03_DAPI.png", (0, 0, 0, 0, "DAPI")),
    ],
)
def test_any_pattern(pattern, name, told):
    (frame,) = place_names([name], pattern).frames
    assert (frame.t, frame.c, frame.z, frame.p, frame.channel_name) == told


def test_words_of_a_pattern_number_channels_and_positions_as_they_appear():
    names = ["B02_GFP.png", "B02_DAPI.png", "B10_GFP.png", "notes.png.bak"]
    found = place_names(names, "{position}_{channel}")
    assert [(f.p, f.c, f.extra) for f in found.frames] == [(0, 0, ("B02",)), (0, 1, ("B02",)), (1, 0, ("B10",))]
    assert found.columns == ("position_name",)
    assert found.unplaced == ("notes.png.bak",)


@pytest.mark.parametrize("pattern", ["frame.tif", "{c}_{c}.tif", "{z", "{a b}.png"])
def test_patterns_that_say_nothing_are_refused(pattern):
    with pytest.raises(UserError, match="must name each part once in braces"):
        compile_pattern(pattern)


def spoil(folder, **changes):
    """Change cells of the table's first row."""
    with open(folder / META, newline="") as handle:
        rows = list(csv.DictReader(handle))
    rows[0] |= changes
    with open(folder / META, "w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"file_name": "lost.png"}, r"names files that are not there \(1\): lost\.png; put them back"),
        ({"slice_idx": "one"}, r"line 2: .*slice_idx 'one'.* must be whole numbers"),
        ({"slice_idx": "2"}, "are both channel 0, slice 2, time 0, position 0"),
        ({"channel_name": "other"}, "names channel 0 both 'other' and ''"),
        ({"pos_idx": "-1"}, "numbers of at least 0"),
    ],
)
def test_a_damaged_table_says_what_is_wrong(changes, words, tmp_path):
    write_frames(tmp_path)
    scan(tmp_path)[0].write(tmp_path / META)
    spoil(tmp_path, **changes)
    with pytest.raises(UserError, match=words):
        open_volume(tmp_path, dataset="p000")


def test_a_table_without_the_columns_is_refused(tmp_path):
    (tmp_path / META).write_text("name,z\na.png,1\n")
    with pytest.raises(UserError, match="has no column channel_idx, slice_idx, time_idx, pos_idx, file_name"):
        open_volume(tmp_path)


def test_frames_of_other_size_or_type_and_colours_are_named(tmp_path):
    write_frames(tmp_path)
    odd = numbered(ONE[0])
    iio.imwrite(tmp_path / odd, np.zeros((24, 41), np.uint16))
    with pytest.raises(UserError, match=rf"most .* are 24 by 40 uint16, but not {odd} \(24 by 41 uint16\)"):
        open_volume(tmp_path, dataset="p000")
    assert open_volume(tmp_path, dataset="p002").box.shape == (2, 2, 3, *SIZE)
    iio.imwrite(tmp_path / odd, np.zeros(SIZE, np.uint8))
    with pytest.raises(UserError, match=rf"{odd} \(24 by 40 uint8\)"):
        open_volume(tmp_path, dataset="p000")
    for place in EVERY + ONE:
        iio.imwrite(tmp_path / numbered(place), np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(UserError, match="is a colour image"):
        open_volume(tmp_path, dataset="p000")


def test_a_file_that_is_no_frame_is_named_unless_a_table_says_which_are(tmp_path):
    write_frames(tmp_path)
    iio.imwrite(tmp_path / "overview.png", np.zeros((5, 5), np.uint8))
    with pytest.raises(UserError, match=r"1 image files .*: overview\.png; list the frames with: lamella prep meta"):
        open_volume(tmp_path, dataset="p000")
    scan(tmp_path)[0].write(tmp_path / META)
    assert open_volume(tmp_path, dataset="p000").box.shape[2] == 3


def test_a_folder_of_sections_stays_one(tmp_path):
    for z in range(3):
        iio.imwrite(tmp_path / f"s{z}.png", np.zeros((4, 5), np.uint8))
    assert open_volume(tmp_path).meta.axes == tuple("zyx")
    write_frames(tmp_path / "frames")
    assert open_volume(tmp_path / "frames" / "*_p000.png").meta.axes == tuple("zyx")


def test_a_position_that_is_not_there_is_told(tmp_path):
    write_frames(tmp_path)
    with pytest.raises(UserError, match=r"data set 'p001' is not in .* holds 'p000', 'p002'"):
        open_volume(tmp_path / "p001")
    with pytest.raises(UserError, match="holds 2 data sets: 'p000', 'p002'; choose one"):
        open_volume(tmp_path)
