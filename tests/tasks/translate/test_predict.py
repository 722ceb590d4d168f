"""Translating: any size, every slice, in units of the target, without the target; blocks equal the whole, kills change nothing."""

import dataclasses
import json

import imageio.v3 as iio
import numpy as np
import pytest

from lamella.blockwise import Executor
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume, positions_of
from lamella.io.preprocessing import Preprocessing, Resize
from lamella.ops.shading import Shading
from lamella.prep.convert import convert
from lamella.prep.convert_settings import ConvertSettings
from lamella.tasks.translate import predict
from lamella.tasks.translate.evaluate_inputs import open_subjects
from lamella.tasks.translate.evaluate_settings import ImageSettings
from lamella.tasks.translate.predict import translate_images
from lamella.tasks.translate.predict_settings import TranslateSettings
from lamella.tasks.translate.predict_source import find_source
from lamella.tasks.translate.predict_statistics import adapted
from tests.tasks.translate.specimen import (
    CENTRE,
    SPREAD,
    TARGETS,
    UNITS,
    frames,
    middle_net,
    preprocessing,
    random_net,
    scene,
    translator,
    window_net,
)


def translate(paths, out, who=None, *, overwrite=False, workers=1, centre="median", **settings):
    who, chosen = who or translator(), TranslateSettings(**settings)
    source = find_source([str(p) for p in (paths if isinstance(paths, list) else [paths])], who, chosen)
    each = adapted(source, who, chosen, centre)
    return translate_images(source, str(out), each, chosen, executor=Executor(workers=workers), overwrite=overwrite)


def volume(path, array, axes, **meta):
    made = create_volume(path, box=Box.of(array.shape), dtype=array.dtype, meta=Meta.plain(axes, **meta))[0]
    made.write(made.box, array)
    return path


def read(path, dataset=None):
    opened = open_volume(path, dataset=dataset)
    return opened.read(opened.box)


def expected(stack, who):
    """What a net gives for a stack (z, y, x) at once, in units of intensity: (targets, z, y, x)."""
    shown = ((stack.astype(np.float32) - np.float32(CENTRE)) / np.float32(SPREAD)).astype(np.float32)
    return np.stack([line(values) for line, values in zip(who.restore, who.op(shown[None]), strict=True)])


@pytest.mark.parametrize("size", [(37, 53), (64, 64), (130, 75)])
def test_whole_frames_of_any_size_are_translated_into_the_range_of_the_target(size, tmp_path):
    """microDL issue 177: 2562 px became 2048, and a target of 33 thousand became 280."""
    source = frames(tmp_path / "frames", size=size)
    who = translator(middle_net(), dtype="float32")
    translate(source, tmp_path / "out", who, format="ome-zarr", dtype="float32")
    found = read(tmp_path / "out" / "p001.ome.zarr")
    assert found.shape == (1, 2, 4, *size)
    view = (scene((4, *size), seed=1).astype(float) - CENTRE) / SPREAD
    for k, ((centre, spread), (low, high)) in enumerate(zip(TARGETS.values(), UNITS, strict=True)):
        scaled = np.maximum(view, 0)  # what the net gives: 0 and 1 are the units' low and high
        np.testing.assert_allclose(found[0, k], (scaled * (high - low) + low) * spread + centre, rtol=1e-5)


@pytest.mark.parametrize("net", ["channels", "slice", "stack"])
def test_every_slice_of_a_stack_is_translated_by_its_window(net, tmp_path):
    """microDL issue 138: shapes of 2.5D; VisCy issue 212: a default gave blank slices."""
    source = frames(tmp_path / "frames", positions=(0,), slices=range(6))
    made = {
        "channels": lambda: random_net(3),
        "slice": lambda: window_net(3, "slice"),
        "stack": lambda: window_net(3, "stack"),
    }
    who = translator(made[net](), depth=3)
    translate(source, tmp_path / "out", who, format="ome-zarr", dtype="float32")
    found = read(tmp_path / "out" / "p000.ome.zarr")[0]
    stack = scene((6, 37, 53), seed=0)
    assert found.shape == (2, 6, 37, 53)
    np.testing.assert_allclose(found, expected(stack, who), rtol=1e-4, atol=1e-2)
    assert all(found[k, z].std() > 0 for k in range(2) for z in range(6))
    assert len({found[0, z].tobytes() for z in range(6)}) == 6


def test_edge_slices_see_themselves_repeated(tmp_path):
    source = frames(tmp_path / "frames", positions=(0,), slices=range(3))
    who = translator(random_net(3), depth=3)
    translate(source, tmp_path / "out", who, format="ome-zarr", dtype="float32")
    stack = scene((3, 37, 53), seed=0)
    alone = expected(stack[[0, 0, 1]], who)[:, 1]
    np.testing.assert_allclose(read(tmp_path / "out" / "p000.ome.zarr")[0, :, 0], alone, rtol=1e-4, atol=1e-2)


def test_no_target_is_looked_at(tmp_path):
    """microDL restored intensities from the target, which nobody has."""
    without = frames(tmp_path / "without")
    with_ = frames(tmp_path / "with")
    for c in (1, 3):
        frames(with_, channel=c, slices=(1,))
    for source in (without, with_):
        translate(source, tmp_path / f"{source.name}-out")
    for p in range(2):
        for z in range(4):
            name = f"im_c003_z{z:03d}_t000_p{p:03d}.png"
            a, b = ((tmp_path / f"{kind}-out" / name).read_bytes() for kind in ("without", "with"))
            assert a == b


CASES = {
    "planes": (1, 2, {}, lambda: random_net(1)),
    "windows": (3, 2, {}, lambda: random_net(3)),
    "stack windows": (3, 2, {}, lambda: window_net(3, "stack")),
    "volumes": (1, 3, {}, lambda: random_net(1, ndim=3)),
    "blended": (1, 2, {"overlap": 16, "tile": 48}, lambda: random_net(1)),
    "blended volumes": (1, 3, {"overlap": 4, "tile": 16}, lambda: random_net(1, ndim=3)),
    "flips": (1, 2, {"flips": True, "rotations": True}, lambda: random_net(1)),
    "norms of their own": (1, 2, {"tile": 32}, lambda: random_net(1, norm="instance")),
}


@pytest.mark.parametrize("case", CASES)
def test_blocks_give_what_the_whole_gives(case, tmp_path):
    depth, ndim, op, net = CASES[case]
    stack = scene((20, 70, 90) if ndim == 3 else (5, 120, 90))
    source = volume(tmp_path / "stack.ome.zarr", stack, "zyx")
    who = translator(net(), depth=depth, **op)
    for name, block in (("blocks", 40), ("whole", 4096)):
        translate(source, tmp_path / f"{name}.ome.zarr", who, block=block, dtype="float32", workers=2)
    blocks, whole = (read(tmp_path / f"{name}.ome.zarr") for name in ("blocks", "whole"))
    assert whole.shape == (2, *stack.shape)
    assert whole.std() > 1
    if "overlap" in op or "norms" in case:
        np.testing.assert_array_equal(blocks, whole)
    else:
        np.testing.assert_allclose(blocks, whole, rtol=1e-5, atol=5e-3)


def test_mirrored_images_give_mirrored_translations_with_flips(tmp_path):
    image = scene((32, 40))
    who = translator(random_net(1), flips=True)
    for name, array in (("plain", image), ("mirrored", image[:, ::-1].copy())):
        volume(tmp_path / f"{name}.tif", array, "yx")
        translate(tmp_path / f"{name}.tif", tmp_path / f"{name}.out.tif", who, dtype="float32")
    plain, mirrored = (read(tmp_path / f"{name}.out.tif") for name in ("plain", "mirrored"))
    np.testing.assert_allclose(plain, mirrored[..., ::-1], rtol=1e-5, atol=1e-2)
    translate(tmp_path / "mirrored.tif", tmp_path / "unflipped.tif", translator(random_net(1)), dtype="float32")
    assert np.abs(read(tmp_path / "unflipped.tif")[..., ::-1] - plain).max() > 1


def test_a_translation_that_was_killed_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    source = frames(tmp_path / "frames", positions=(0, 1, 2))
    translate(source, tmp_path / "whole")
    real, done = predict.TranslateJob.compute, []

    def dying(self, block, data):
        if len(done) == 5:
            raise UserError("stop")
        done.append(1)
        return real(self, block, data)

    monkeypatch.setattr(predict.TranslateJob, "compute", dying)
    with pytest.raises(UserError, match="stop"):
        translate(source, tmp_path / "killed")
    again = []
    monkeypatch.setattr(predict.TranslateJob, "compute", lambda *a: again.append(1) or real(*a))
    translate(source, tmp_path / "killed")
    assert 0 < len(again) < 12
    whole, killed = ({p.name: p.read_bytes() for p in (tmp_path / f).glob("im_*")} for f in ("whole", "killed"))
    assert len(whole) == 3 * 4 * 2
    assert whole == killed
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(UserError, match="exists already"):
        translate(source, tmp_path / "killed")
    translate(source, tmp_path / "killed", overwrite=True)


def test_an_interrupted_translation_refuses_other_settings(tmp_path, monkeypatch):
    source = frames(tmp_path / "frames")
    monkeypatch.setattr(predict.TranslateJob, "compute", lambda *a: (_ for _ in ()).throw(UserError("stop")))
    with pytest.raises(UserError, match="stop"):
        translate(source, tmp_path / "out")
    with pytest.raises(UserError, match="other settings"):
        translate(source, tmp_path / "out", dtype="uint8")


def test_every_form_holds_the_same(tmp_path):
    source = frames(tmp_path / "frames")
    convert(str(source), str(tmp_path / "plate.ome.zarr"), ConvertSettings(voxel_size="2,0.5,0.5", unit="um"))
    plate = tmp_path / "plate.ome.zarr"
    made = {
        "frames-png": (source, "a", {}),
        "frames": (source, "b", {"format": "frames"}),
        "plate": (plate, "c.ome.zarr", {}),
        "frames of a plate": (plate, "d/im_c*_z*_t*_p*.png", {}),
        "plate of frames": (source, "e.ome.zarr", {}),
    }
    found = {}
    for kind, (path, out, settings) in made.items():
        translate(path, tmp_path / out, **settings)
        folder = tmp_path / out.split("/")[0]
        name = positions_of(folder)[1]
        opened = open_volume(folder, dataset=name)
        array = opened.read(opened.box)
        assert opened.dtype == np.uint16
        if "frames" in kind.split()[0]:
            assert (opened.box.start[1], opened.meta.channel_names) == (1, ("DAPI", "", "MAP2"))
            array = array[:, [0, 2]]
            assert (folder / "im_c003_z001_t000_p001.png").exists() == (kind != "frames")
        else:
            assert opened.meta.channel_names == ("DAPI", "MAP2")
        if path == plate:
            assert opened.meta.voxel_size[2:] == (2, 0.5, 0.5)
            assert opened.meta.units[2:] == ("micrometer",) * 3
        found[kind] = array
    for array in found.values():
        np.testing.assert_array_equal(array, found["plate"])
    assert array.std() > 1


def test_pictures_become_pictures(tmp_path):
    (tmp_path / "phase").mkdir()
    for k in range(2):
        iio.imwrite(tmp_path / "phase" / f"x{k}.png", scene((40, 30), seed=k))
    who = dataclasses.replace(
        translator(random_net(1, targets=1)),
        measured=translator().measured.model_copy(update={"numbers": (3,), "names": ("MAP2",), "units": UNITS[1:]}),
    )
    done = translate(tmp_path / "phase", tmp_path / "out", who, plot=True)
    picture = iio.imread(tmp_path / "out" / "x1.png")
    assert (picture.shape, picture.dtype) == ((40, 30), np.uint16)
    np.testing.assert_allclose(picture, np.rint(expected(scene((1, 40, 30)[1:], seed=1)[None], who)[0, 0]), atol=1)
    assert (tmp_path / "out" / "previews" / "x0.png").exists()
    assert "x1" in done.page.read_text()
    assert [row["name"] for row in json.loads((tmp_path / "out" / "predict.json").read_text())["images"]] == [
        "x0",
        "x1",
    ]
    compared = open_subjects(str(tmp_path / "out"), str(tmp_path / "phase"), ImageSettings())
    assert [subject.position for subject in compared.items] == ["x0", "x1"]


def test_integers_are_rounded_and_cut_only_where_asked_or_as_the_target_was(tmp_path):
    source = volume(tmp_path / "bright.tif", np.full((16, 16), 60000, np.uint16) - scene((16, 16)), "yx")
    translate(source, tmp_path / "trained.tif", translator(middle_net()))
    assert read(tmp_path / "trained.tif").dtype == np.uint16
    assert read(tmp_path / "trained.tif")[0].max() == 65535
    for name, who, settings in (
        ("float.tif", translator(middle_net(), dtype="float32"), {}),
        ("asked.tif", translator(middle_net()), {"dtype": "float32"}),
    ):
        translate(source, tmp_path / name, who, **settings)
        assert read(tmp_path / name).dtype == np.float32
        assert read(tmp_path / name)[0].max() > 4e5


def test_segmentations_are_probabilities_or_masks(tmp_path):
    source = volume(tmp_path / "image.tif", scene((20, 20)), "yx")
    for dtype in ("float32", "uint8"):
        translate(source, tmp_path / f"{dtype}.tif", translator(middle_net(), segments=True), dtype=dtype)
    shown = np.maximum((scene((20, 20)).astype(np.float32) - CENTRE) / SPREAD, 0)
    np.testing.assert_allclose(read(tmp_path / "float32.tif")[0], shown, rtol=1e-5)
    np.testing.assert_array_equal(read(tmp_path / "uint8.tif")[0], shown >= 0.5)


@pytest.mark.parametrize("block", [64, 4096])
def test_resized_views_come_back_on_the_grid_of_the_source(block, tmp_path):
    smooth = np.add.outer(np.arange(90.0), np.arange(120.0)) * 10 + 1000
    source = frames(tmp_path / "frames", positions=(0,), slices=(0,))
    iio.imwrite(source / "im_c000_z000_t000_p000.png", smooth.astype(np.uint16))
    who = translator(middle_net(), measures=preprocessing(resize=Resize(yx=0.5)))
    translate(source, tmp_path / "out", who, block=block, dtype="float32", format="ome-zarr")
    found = read(tmp_path / "out" / "p000.ome.zarr")[0, 0, 0]
    assert found.shape == (90, 120)
    (centre, spread), (low, high) = TARGETS[1], UNITS[0]
    wanted = ((smooth - CENTRE) / SPREAD * (high - low) + low) * spread + centre
    np.testing.assert_allclose(found[2:-2, 2:-2], wanted[2:-2, 2:-2], atol=12)  # of 17 000; linear but for the corners


def test_frames_larger_than_a_block_are_written_whole(tmp_path):
    source = frames(tmp_path / "frames", positions=(0,), slices=(0, 1), size=(90, 70))
    for name, block in (("blocks", 32), ("whole", 4096)):
        translate(source, tmp_path / name, block=block)
    a, b = (read(tmp_path / name, "p000") for name in ("blocks", "whole"))
    assert a.shape == (1, 3, 2, 90, 70)
    np.testing.assert_allclose(a.astype(float), b, atol=1)


def test_the_shading_of_training_is_taken_off_the_new_source(tmp_path):
    field = Shading(shape=(32, 48), coefficients=((1.0, 0.3), (0.2, 0.0)))
    lit = scene((1, 32, 48))
    source = frames(tmp_path / "frames", positions=(0,), slices=(0,), size=(32, 48))
    uneven = np.rint(lit[0] * field.field()).astype(np.uint16)
    iio.imwrite(source / "im_c000_z000_t000_p000.png", uneven)
    who = translator(middle_net(), measures=preprocessing(shading={0: field}))
    translate(source, tmp_path / "out", who, dtype="float32", format="ome-zarr")
    found = read(tmp_path / "out" / "p000.ome.zarr")[0, 0]
    np.testing.assert_allclose(found, expected(lit, translator(middle_net()))[0], atol=40)  # rounding of the frame


def bright(folder, gains=(1, 3)):
    """Positions of other exposures."""
    frames(folder)
    for p, gain in enumerate(gains):
        for file in folder.glob(f"*p{p:03d}.png"):
            iio.imwrite(file, np.clip(iio.imread(file).astype(float) * gain + 50, 0, 65535).astype(np.uint16))
    return folder


def test_statistics_of_the_source_or_of_each_position_undo_another_exposure(tmp_path):
    plain, same = frames(tmp_path / "plain"), bright(tmp_path / "same", (3, 3))
    both = bright(tmp_path / "both")
    results = {}
    for name, source, statistics in (
        ("plain", plain, "source"), ("same", same, "source"), ("each", both, "position"), ("plain each", plain, "position"),
        ("saved", same, "saved"),
    ):  # fmt: skip
        translate(source, tmp_path / f"out {name}", statistics=statistics, dtype="float32", format="ome-zarr")
        results[name] = read(tmp_path / f"out {name}" / "p001.ome.zarr")
    spread = results["plain"].std()
    np.testing.assert_allclose(results["same"], results["plain"], atol=0.02 * spread)
    np.testing.assert_allclose(results["each"], results["plain each"], atol=0.02 * spread)
    assert np.abs(results["saved"] - results["plain"]).max() > spread


def test_a_preprocessing_of_the_source_stands_for_that_of_training(tmp_path):
    """By the numbers of the source, with the targets as training knew them."""
    source = frames(tmp_path / "frames", channel=5)
    groups = ({"channel": 5, "centre": 900.0, "spread": 100.0}, {"channel": 1, "centre": 1.0, "spread": 1.0})
    Preprocessing.load({"statistics": {"level": "dataset", "source": "x", "groups": groups}}).save(
        tmp_path / "prep.json"
    )
    who = translator()
    told = {"prep": str(tmp_path / "prep.json"), "channels": ("5",)}
    translate(source, tmp_path / "out", who, **told, dtype="float32", format="ome-zarr")
    moved = (scene((4, 37, 53), seed=1).astype(np.float32) - 900) / 100 * SPREAD + CENTRE
    found = read(tmp_path / "out" / "p001.ome.zarr")[0]
    np.testing.assert_allclose(found, expected(moved, who), rtol=1e-4, atol=0.1)


def test_runs_that_normalise_by_position_ask_for_statistics_of_new_positions(tmp_path):
    who = translator(measures=preprocessing(level="volume"))
    source = frames(tmp_path / "frames")
    with pytest.raises(UserError, match="--statistics position"):
        translate(source, tmp_path / "out", who)
    translate(source, tmp_path / "out", who, statistics="position")


def test_channels_are_taken_as_told(tmp_path):
    image = scene((2, 30, 40))
    source = volume(tmp_path / "two.ome.zarr", image, "cyx", channel_names=("dirt", "phase"))
    only = volume(tmp_path / "one.tif", image[1], "yx")
    translate(only, tmp_path / "one.ome.zarr")
    for k, channel in enumerate(("phase", "1")):
        translate(source, tmp_path / f"out{k}.ome.zarr", channels=(channel,))
        np.testing.assert_array_equal(read(tmp_path / f"out{k}.ome.zarr"), read(tmp_path / "one.ome.zarr"))
    assert open_volume(tmp_path / "out0.ome.zarr").meta.channel_names == ("DAPI", "MAP2")


def test_time_points_are_translated_each(tmp_path):
    movie = np.stack([scene((30, 40), seed=k) for k in range(3)])
    source = volume(tmp_path / "movie.ome.zarr", movie, "tyx", voxel_size=(10.0, 0.3, 0.3), units=("s", "um", "um"))
    translate(source, tmp_path / "out.ome.zarr", dtype="float32")
    found = open_volume(tmp_path / "out.ome.zarr")
    assert found.meta.axes == ("t", "c", "y", "x")
    assert found.meta.voxel_size == (10.0, 1.0, 0.3, 0.3)
    for t in range(3):
        np.testing.assert_allclose(
            found.read(found.box)[t], expected(movie[t][None], translator())[:, 0], rtol=1e-4, atol=1e-2
        )


def missing_channel(tmp_path):
    """Position 1 has no phase."""
    source = frames(tmp_path / "frames")
    for file in source.glob("im_c000_*_p001.png"):
        file.rename(source / file.name.replace("c000", "c004"))
    return source, {}, {}


def other_channel(tmp_path):
    """A stain is not taken for the phase, though it is all that there is."""
    return frames(tmp_path / "frames", channel=1), {}, {}


def thin(tmp_path):
    return frames(tmp_path / "frames", slices=range(2)), {"net": random_net(3), "depth": 3}, {}


def gap(tmp_path):
    source = frames(tmp_path / "frames", slices=range(4))
    (source / "im_c000_z002_t000_p001.png").unlink()
    return source, {}, {}


def constant(tmp_path):
    source = frames(tmp_path / "frames", positions=(0,), slices=(0,))
    iio.imwrite(source / "im_c000_z000_t000_p000.png", np.full((37, 53), 7, np.uint16))
    return source, {}, {"statistics": "source"}


def nan(tmp_path):
    image = scene((20, 30)).astype(np.float32)
    image[3, 4] = np.nan
    return volume(tmp_path / "image.tif", image, "yx"), {}, {}


def float_png(tmp_path):
    return frames(tmp_path / "frames"), {"dtype": "float32"}, {}


def no_z(tmp_path):
    return volume(tmp_path / "flat.tif", scene((20, 30)), "yx"), {"net": random_net(3), "depth": 3}, {}


def unknown(tmp_path):
    return frames(tmp_path / "frames"), {}, {"positions": ("p001", "p007")}


def colours(tmp_path):
    return volume(tmp_path / "rgb.ome.zarr", scene((3, 20, 30)), "cyx"), {}, {"channels": ("0", "1")}


def unknown_channel(tmp_path):
    return (
        volume(tmp_path / "rgb.ome.zarr", scene((3, 20, 30)), "cyx", channel_names=("r", "g", "b")),
        {},
        {"channels": ("DIC",)},
    )


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (missing_channel, ["p001", "no frames of the input channel 0"]),
        (other_channel, ["channel 0 is not in", "which has 1", "--channels"]),
        (thin, ["2 slices", "fewer than the 3"]),
        (gap, ["p001", "slices 2", "add them"]),
        (constant, ["interquartile range of channel 0 is 0", "constant"]),
        (nan, ["image.tif", "NaN"]),
        (float_png, ["PNG holds whole numbers", "--dtype uint16"]),
        (no_z, ["1 slices", "fewer than the 3"]),
        (unknown, ["p007", "p000, p001"]),
        (colours, ["--channels names 2", "trained on 1"]),
        (unknown_channel, ["DIC", "0 (r), 1 (g), 2 (b)"]),
    ],
)
def test_mistakes_are_named_and_nothing_is_begun(case, words, tmp_path):
    source, changes, settings = case(tmp_path)
    with pytest.raises(UserError) as error:
        translate(source, tmp_path / "out", translator(**changes), **settings)
    for word in words:
        assert word in str(error.value), error.value
    if case is not nan:  # found when it is read
        assert not (tmp_path / "out").exists()


def test_bad_positions_are_left_out_if_asked(tmp_path):
    source, _, _ = missing_channel(tmp_path)
    done = translate(source, tmp_path / "out", skip_bad=True)
    assert positions_of(tmp_path / "out") == ("p000",)
    assert len(done.left_out) == 1
    assert "p001" in done.left_out[0]


def test_outputs_are_not_laid_over_what_is_not_lamellas(tmp_path):
    source = frames(tmp_path / "frames")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("all of it")
    for overwrite in (False, True):
        with pytest.raises(UserError):
            translate(source, tmp_path / "work", overwrite=overwrite)
    with pytest.raises(UserError, match="holds, the image"):
        translate(source, source, overwrite=True)
    assert (tmp_path / "work" / "thesis.txt").exists()
    assert (source / "im_c000_z000_t000_p000.png").exists()
