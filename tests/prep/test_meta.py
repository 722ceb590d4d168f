"""``prep meta`` makes and checks the table of a folder of frames, and names what it cannot place."""

from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pytest

from lamella.cli.main import main
from lamella.core.errors import UserError
from lamella.io import open_volume
from lamella.io.frames_table import META
from lamella.prep.meta import survey_frames
from tests.io.frames import ONE, SIZE, numbered, stack, write_frames


def test_a_table_is_made_then_checked_and_gaps_are_named(tmp_path):
    write_frames(tmp_path)
    (tmp_path / numbered(ONE[0])).unlink()
    (tmp_path / numbered(ONE[2])).unlink()  # channel 1 is now at position 2 alone
    iio.imwrite(tmp_path / "overview.png", np.zeros((5, 5), np.uint8))
    first = survey_frames(tmp_path)
    assert first.made
    assert first.unplaced == ("overview.png",)
    assert first.gaps() == [
        "channel 1 has no frames at p000",
        "channel 1 has 2 of 12 frames, at slices 2",
    ]
    before = (tmp_path / META).read_bytes()
    second = survey_frames(tmp_path)
    assert not second.made
    assert second.unplaced == ("overview.png",)
    assert (second.table.frames, (tmp_path / META).read_bytes()) == (first.table.frames, before)


def test_what_is_wrong_is_told_and_nothing_is_written(tmp_path):
    write_frames(tmp_path)
    iio.imwrite(tmp_path / numbered(ONE[0]), np.zeros((5, 5), np.uint16))
    with pytest.raises(UserError, match=f"but not {numbered(ONE[0])}"):
        survey_frames(tmp_path)
    with pytest.raises(UserError, match=r"no name of the 16 image files .* fits 'x{c}', for example im_c000"):
        survey_frames(tmp_path, "x{c}")
    with pytest.raises(
        UserError, match="are both channel 0, slice 0, time 0, position 0; remove one, or give a --pattern"
    ):
        survey_frames(tmp_path, "im_{}_p{p}.png")
    with pytest.raises(UserError, match="is not a folder"):
        survey_frames(tmp_path / "nothing")
    assert not (tmp_path / META).exists()
    (tmp_path / META).write_text("a day's work\n")
    with pytest.raises(UserError, match="has no column"):
        survey_frames(tmp_path)
    with pytest.raises(UserError, match="exists already"):
        survey_frames(tmp_path, "im_c{c}_z{z}_t{t}_p{p}.png")
    assert (tmp_path / META).read_text() == "a day's work\n"


def test_a_table_elsewhere_leads_to_the_frames(tmp_path):
    planes = write_frames(tmp_path / "images")
    survey_frames(tmp_path / "images", out=tmp_path / "table.csv")
    assert not (tmp_path / "images" / META).exists()
    volume = open_volume(tmp_path / "table.csv", dataset="p002")
    np.testing.assert_array_equal(volume.read(volume.box), stack(planes, 2))
    assert volume.box.shape[3:] == SIZE


def test_the_verb_prints_what_there_is(tmp_path, capsys):
    write_frames(tmp_path)
    iio.imwrite(tmp_path / "overview.png", np.zeros((5, 5), np.uint8))
    with pytest.raises(SystemExit) as stopped:
        main(["prep", "meta", str(tmp_path)])
    assert not stopped.value.code
    said = capsys.readouterr().out
    assert "made, 16 frames, 2 positions, 2 channels, 2 times, 3 slices" in said
    assert "channel 1 has 4 of 12 frames, at slices 2" in said
    assert "not placed: overview.png" in said
