"""Laws of aligning sections to several neighbours: what one bad section can do, and that nothing depends on how work is cut up."""

import json

import numpy as np
import pytest

from lamella.blockwise import Executor, cover
from lamella.core import progress
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from lamella.tasks.align.drift import growth, measure_drift, recorded, told
from lamella.tasks.align.masked import Masked
from lamella.tasks.align.pairs import Found, Frames, Pair
from lamella.tasks.align.relax import Relaxation
from lamella.tasks.align.settings import AlignSettings
from lamella.tasks.align.stages import Chain, Plane, Stored
from lamella.tasks.align.tiles import Tiling
from lamella.tasks.align.together import RelaxTile, VoteTile, Window
from lamella.tasks.align.volume import align_volume, drift_path
from tests.tasks.align.nets import constant, estimator, matcher, untrained
from tests.tasks.align.test_volume import Unwell, align, files, moved, put, tissue

SIZE = (44, 48)
BORDER = 15
METHODS = ["vote", "joint"]


def drifting(num=6, dy=1, dx=0, size=SIZE):
    """Sections of one tissue, each ``dy`` and ``dx`` pixels further than the last."""
    first = tissue(0, size)
    return np.stack([moved(first, z * dy, z * dx) for z in range(num)])


def inner(array):
    return array[..., BORDER:-BORDER, BORDER:-BORDER]


def joined(folder, source, net, name="aligned.zarr", method="joint", chain=None, executor=None, tile=64, **joint):
    settings = {"rounds": 1, **joint}
    return align(folder, source, net, name, executor=executor, method=method, chain=chain, tile=tile, joint=settings)


@pytest.mark.parametrize(("method", "neighbours"), [("vote", 2), ("joint", 1)])
def test_perfect_matches_give_the_fields_of_the_sequence(tmp_path, method, neighbours):
    raw = drifting(3)
    one, fields = align(tmp_path, raw, matcher(), "one.zarr")
    found, joint = joined(tmp_path, raw, matcher(), method=method, neighbours=neighbours)
    np.testing.assert_allclose(inner(joint), inner(fields), atol=2e-3)
    np.testing.assert_array_equal(inner(found), inner(one))


@pytest.mark.parametrize("method", METHODS)
def test_a_section_that_is_wrong_does_not_mislead_the_next(tmp_path, method):
    raw = drifting(6)
    raw[3] = tissue(9, SIZE)
    _, fields = joined(tmp_path, raw, matcher(), method=method, neighbours=2)
    for z in (1, 2, 4, 5):
        np.testing.assert_allclose(inner(fields[z, 0]), z, atol=0.05)
    _, misled = align(tmp_path, raw, matcher(), "one.zarr", memory=0, fill=1)
    assert np.abs(inner(misled[4, 0]) - 4).max() > 0.5


@pytest.mark.parametrize(("method", "chain"), [("vote", 3), ("joint", None)])
def test_a_lost_section_is_bridged_and_lies_between_its_neighbours(tmp_path, method, chain):
    raw = drifting(6)
    raw[2] = 0
    found, fields = joined(tmp_path, raw, matcher(), method=method, chain=chain, neighbours=2)
    assert not found[2].any()
    for z in (1, 3, 4, 5):
        np.testing.assert_allclose(inner(fields[z, 0]), z, atol=0.05)
    assert inner(fields[2, 0]).min() > 0.9
    assert inner(fields[2, 0]).max() < 3.1


def stored(path, *values):
    """Fields of as many sections, each the same everywhere."""
    fields = np.stack([np.full((2, 24, 24), v, np.float32) for v in values], 1)
    (volume,) = create_volume(str(path), box=Box.of(fields.shape), dtype="float32", meta=Meta.plain("czyx"))
    volume.write(volume.box, fields)
    return Stored(open_volume(str(path), writable=True))


def tiles(path, values):
    box = Box.of(values.shape)
    (volume,) = create_volume(str(path), box=box, dtype="float32", meta=Meta.plain("tcyx"), chunk=(1, *box.shape[1:]))
    volume.write(box, values)
    return open_volume(str(path), writable=True)


@pytest.mark.parametrize("method", METHODS)
def test_links_are_looked_up_where_the_target_was_seen(tmp_path, method):
    # section 1 was seen moved by 5 when matched, and lies at 7 by now: its place p was at p + 2 of what was matched
    x = np.arange(24, dtype=np.float32)
    link = np.stack([np.broadcast_to(0.1 * x, (24, 24)), np.zeros((24, 24)), np.ones((24, 24))])[None]
    chain, plane = Chain(0, 2), Plane(Box.of((24, 24)), 0, Tiling((24, 24), 24, 0))
    found = Found(tiles(tmp_path / "links.zarr", link.astype(np.float32)), plane, (Pair(chain, 2, 1),))
    frames = Frames(found.links, found.links, stored(tmp_path / "reference.zarr", 0, 5, 5))
    fields, scratch = (
        stored(tmp_path / "fields.zarr", 0, 7, 7),
        tiles(tmp_path / "t.zarr", np.zeros((1, 2, 24, 24), np.float32)),
    )
    if method == "vote":
        job = VoteTile(frames, found, fields, scratch, plane, ((chain, 2),), 1, 2.0)
    else:
        window = (Window(chain, 2, 2, 1),)
        job = RelaxTile(frames, found, fields, fields, scratch, plane, window, 1, 1, Relaxation(1.0, 0.0))
    block = cover(Box.of((1,)), 1)[0]
    job.write(block, job.compute(block, job.read(block)))
    answer = scratch.read(scratch.box)[0]
    np.testing.assert_allclose(
        answer[0, 4:-4, 4:-4], np.broadcast_to(7 + 0.1 * (x + 2), (24, 24))[4:-4, 4:-4], atol=0.01
    )
    np.testing.assert_allclose(answer[1, 4:-4, 4:-4], 7, atol=0.01)


def test_answers_of_two_rounds_are_composed(tmp_path):
    raw = np.stack([tissue(z, SIZE) for z in range(3)])
    _, fields = joined(tmp_path, raw, constant(2, -1), rounds=2, neighbours=1, springs=0.0)
    for z in range(3):
        np.testing.assert_allclose(inner(fields[z, 0]), 4 * z, atol=1e-3)
        np.testing.assert_allclose(inner(fields[z, 1]), -2 * z, atol=1e-3)


def test_a_second_round_leaves_what_the_first_found(tmp_path):
    _, fields = joined(tmp_path, drifting(3), matcher(2), method="vote", rounds=2, neighbours=1)
    for z in range(3):
        np.testing.assert_allclose(inner(fields[z, 0]), z, atol=0.02)


def test_tiles_of_any_size_give_nearly_the_same(tmp_path):
    raw = drifting(3, size=(44, 110))
    raw[1, 15:20, 30:90] = tissue(5, (5, 60))
    _, whole = joined(tmp_path, raw, matcher(2), "whole.zarr", tile=256)
    _, tiled = joined(tmp_path, raw, matcher(2), "tiled.zarr", tile=64)
    assert np.abs(inner(whole) - inner(tiled)).max() < 0.05


def test_windows_of_any_length_give_nearly_the_same(tmp_path):
    raw = drifting(7)
    raw[4] = tissue(9, SIZE)
    _, whole = joined(tmp_path, raw, matcher(2), "whole.zarr")
    _, cut = joined(tmp_path, raw, matcher(2), "cut.zarr", window=4)
    keep = [z for z in range(7) if z != 4]
    assert np.abs(inner(whole) - inner(cut))[keep].max() < 0.05


@pytest.mark.parametrize("method", METHODS)
def test_chains_are_stitched_and_their_drift_fades(tmp_path, method):
    raw = drifting(5, dy=2)
    _, several = joined(tmp_path, raw, matcher(2), "several.zarr", method=method, chain=2, neighbours=1)
    for z in range(5):
        np.testing.assert_allclose(inner(several[z, 0]), 2 * z, atol=5e-3)
    settings = {"method": method, "chain": 2, "decay": 4, "joint": {"rounds": 1, "neighbours": 1}}
    _, fading = align(tmp_path, raw, matcher(2), "fading.zarr", **settings)
    for z, dy in enumerate([0, 2, 4, 2 + 3, 4 + 2]):
        np.testing.assert_allclose(inner(fading[z, 0]), dy, atol=5e-3)


def test_both_ends_may_stay(tmp_path):
    raw = drifting(4)
    _, fields = joined(tmp_path, raw, matcher(2), ends="both", width=50.0)
    assert not fields[0].any()
    np.testing.assert_allclose(inner(fields[3]), 0, atol=1e-4)


def test_damage_that_masks_tell_of_is_not_matched(tmp_path):
    raw, masks = drifting(4), np.zeros((4, *SIZE), np.uint8)
    raw[2, 20:24] = tissue(9, SIZE)[20:24]
    masks[2, 20:24] = 2
    volumes = put(tmp_path / "raw.zarr", raw), put(tmp_path / "masks.zarr", masks)
    settings = AlignSettings.load({"method": "joint", "tile": 64, "overlap": 16, "joint": {"rounds": 2}})
    found = estimator(matcher(2))
    paths = align_volume(Masked(*volumes), str(tmp_path / "out.zarr"), found, settings)
    fields = open_volume(paths.fields).read(open_volume(paths.fields).box).swapaxes(0, 1)
    for z in (1, 3):
        np.testing.assert_allclose(inner(fields[z, 0]), z, atol=0.1)
    carried = open_volume(paths.masks)
    assert (carried.read(carried.box)[2] == 2).sum() >= 3 * (SIZE[1] - 8)


# Cut up, broken off, counted


@pytest.mark.parametrize(("method", "chain"), [("vote", 2), ("joint", None)])
def test_going_on_after_any_failure_ends_with_the_same_bytes(tmp_path, monkeypatch, method, chain):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    raw = put(tmp_path / "raw.zarr", np.stack([tissue(z, SIZE) for z in range(3)]))
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    settings = {"method": method, "chain": chain, "rounds": 2}
    joined(tmp_path / "whole", raw, untrained(1), **settings)

    def fails(reads):
        broken = Unwell(raw, reads)
        try:
            joined(tmp_path / "broken", broken, untrained(1), executor=Executor(workers=1), **settings)
        except UserError as error:
            return "gone" in str(error)
        return False

    failures = 0
    while fails((1, 4, 9, 7)[failures % 4]):
        failures += 1
    assert failures > 2
    assert files(tmp_path / "broken") == files(tmp_path / "whole")


@pytest.mark.parametrize("chain", [None, 2])
@pytest.mark.parametrize("method", METHODS)
def test_one_count_of_blocks_covers_all_stages(tmp_path, monkeypatch, capsys, method, chain):
    monkeypatch.setattr(progress, "_LINE_EVERY", -1.0)
    raw = np.stack([tissue(z, SIZE) for z in range(4)])
    joined(tmp_path, raw, constant(0, 0), method=method, chain=chain, rounds=2)
    lines = [line for line in capsys.readouterr().err.splitlines() if "aligning 4 sections" in line]
    done, total = lines[-1].split(":")[1].split(",")[0].split("/")
    assert int(done) == int(total) == len(lines)


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"joint": {"neighbours": 3}}, "give one of these"),
        ({"method": "joint", "fill": 2}, "fill is for method sequence"),
        ({"method": "vote", "memory": 0}, "memory is for method sequence"),
    ],
)
def test_settings_without_effect_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        AlignSettings.load(settings)


def test_ends_that_no_window_holds_are_refused_and_leave_nothing(tmp_path):
    raw = put(tmp_path / "raw.zarr", drifting(7))
    with pytest.raises(UserError, match=r"joint\.window is 4; set joint\.window to 6"):
        joined(tmp_path, raw, constant(0, 0), ends="both", window=4)
    assert [p.name for p in tmp_path.iterdir()] == ["raw.zarr"]


# Drift


def test_drift_is_measured_and_told(tmp_path):
    raw = put(tmp_path / "raw.zarr", np.stack([tissue(z, SIZE) for z in range(4)]))
    settings = AlignSettings(tile=64, flip=False, symmetric=False, memory=0)
    paths = align_volume(raw, str(tmp_path / "out.zarr"), estimator(constant(3, 4)), settings)
    # each section is moved by (3, 4) against an aligned neighbour, whatever that was moved by
    assert [round(row.slow, 3) for row in paths.drift] == [0, 5, 5, 5]
    assert [round(row.step, 3) for row in paths.drift] == [0, 5, 0, 0]
    assert growth(paths.drift) == pytest.approx(1.5)
    assert "5.00 px at the last section" in told(paths.drift)
    assert drift_path("a/x.ome.zarr") == "a/x.drift.json"
    stored = json.loads((tmp_path / "out.drift.json").read_text())
    assert recorded(open_volume(paths.fields).path) == list(paths.drift)
    assert recorded(str(tmp_path / "other.fields.ome.zarr")) == []
    assert stored["sections"][1] == {"z": 1, "moved": 5.0, "slow": 5.0, "step": 5.0}


def test_narrow_bends_are_no_drift_and_wide_ones_are(tmp_path):
    x = np.arange(512)
    waves = [np.sin(2 * np.pi * x / 64), 2 * np.sin(2 * np.pi * x / 1024)]
    fields = np.stack([np.broadcast_to(w, (2, 512, 512)) for w in waves], 1).astype(np.float32)
    box = Box.of(fields.shape)
    (volume,) = create_volume(str(tmp_path / "f.zarr"), box=box, dtype="float32", meta=Meta.plain("czyx"))
    volume.write(box, fields)
    plane = Plane(Box.of((512, 512)), 0, Tiling((512, 512), 512, 0))
    narrow, wide = measure_drift(Stored(open_volume(str(tmp_path / "f.zarr"))), plane, range(2))
    assert narrow.moved == pytest.approx(1, abs=0.01)  # two components, half of one each on the mean of squares
    assert narrow.slow < 0.01
    assert wide.slow == pytest.approx(2 * np.sqrt(2) * 2 / np.pi, rel=0.01)  # the mean of half a wave, in each half


@pytest.mark.parametrize("method", METHODS)
def test_matches_are_refined_only_if_asked_for(method):
    assert AlignSettings().refine.steps > 0
    assert AlignSettings(method=method).refine.steps == 0
    assert AlignSettings.load({"method": method, "refine": {"steps": 2}}).refine.steps == 2
    told = AlignSettings(method=method)
    assert AlignSettings.load(told.to_dict()) == told
    with pytest.raises(UserError, match="leaps is for method sequence"):
        AlignSettings.load({"method": method, "refine": {"steps": 2, "leaps": 1}})
