"""Points are drawn as asked for, never from what is held out, and go into samples with what stands at them."""

import json
import pickle

import numpy as np
import pytest

from lamella.cli.main import main
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.data import points_draw
from lamella.data.held_out import held_out_folder
from lamella.data.points import PointsData, classes_in
from lamella.data.points_draw import prepare_points
from lamella.data.points_settings import PointImages, PointSettings
from lamella.data.points_table import PointTable, read_points, write_points
from tests.data.labelled import cells, write

PLAIN = {"kind": "range", "low": [0], "high": [1]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("points") / "cells"
    for k in range(3):
        write(place, f"i{k}", *cells((40, 36), seed=k, num=3 + k))
    return place


def volume(place, name="v", shape=(6, 24, 30)):
    return write(place, name, *cells(shape, num=4)) + f"/images/{name}.tif", str(place / "labels" / f"{name}.tif")


def drawn(source, tmp_path, images=None, **settings):
    return prepare_points(
        str(source), tmp_path / "p.csv", PointImages(**(images or {})), PointSettings(**settings), overwrite=True
    )


def labels_of(name):
    k = int(name[1:])
    return cells((40, 36), seed=k, num=3 + k)[1]


def test_points_are_balanced_true_and_drawn_once(folder, tmp_path):
    table = drawn(folder, tmp_path, total=101)
    assert len(table) == 101
    assert sorted(np.bincount(table.classes)) == [50, 51]
    assert len({(n, *p) for n, p in zip(table.images, table.places.tolist(), strict=True)}) == 101
    for name, (_, y, x), k in zip(table.images, table.places.astype(int), table.classes, strict=True):
        assert (labels_of(name)[y, x] > 0) == k
    for number in (2, 10, 33):
        assert np.ptp(np.bincount(table.classes[:number], minlength=2)) <= 1
    again = drawn(folder, tmp_path, total=101)
    assert again.images == table.images
    np.testing.assert_array_equal(again.places, table.places)
    assert not np.array_equal(drawn(folder, tmp_path, total=101, seed=1).places, table.places)


def test_every_voxel_is_as_likely_as_another(folder, tmp_path):
    table = drawn(folder, tmp_path, total=400, balanced=False)
    share = np.mean([(labels_of(f"i{k}") > 0).mean() for k in range(3)])
    assert abs(table.classes.mean() - share) < 1 / 400
    assert len(set(table.images)) == 3


def test_points_by_image_and_by_object(folder, tmp_path):
    table = drawn(folder, tmp_path, per_image=7, classes="boundary")
    for name in ("i0", "i1", "i2"):
        assert sorted(np.bincount(table.classes[table.of(name)])) == [2, 2, 3]
    table = drawn(folder, tmp_path, per_object=2, classes="boundary")
    for name in ("i0", "i1", "i2"):
        here, labels, num = table.of(name), labels_of(name), 3 + int(name[1])
        assert np.bincount(table.classes[here]).tolist() == [2 * num] * 3
        for k in (1, 2):
            _, y, x = table.places[here][table.classes[here] == k].astype(int).T
            assert np.bincount(labels[y, x]).tolist() == [0, *[2] * num]


def test_volumes_and_blocks_of_them(tmp_path, monkeypatch):
    image, labels = volume(tmp_path / "set", shape=(6, 70, 30))
    asked = {"images": {"labels": labels}, "ndim": 3, "total": 60, "classes": "boundary"}
    table = drawn(image, tmp_path, **asked)
    assert table.has_z
    assert (tmp_path / "p.csv").read_text().startswith("image,z,y,x,class\nv,")
    small = lambda shape, by_plane: [  # noqa: E731
        Box((z, y, 0), (z + 2, min(y + 33, 70), 30)) for z in range(0, 6, 2) for y in range(0, 70, 33)
    ]
    whole = {tuple(p): k for p, k in zip(table.places.tolist(), table.classes.tolist(), strict=True)}
    monkeypatch.setattr(points_draw, "survey_blocks", small)
    truth = PointSettings(classes="boundary").config()(cells((6, 70, 30), num=4)[1])
    cut = drawn(image, tmp_path, **asked)
    for found in (whole, {tuple(p): k for p, k in zip(cut.places.tolist(), cut.classes.tolist(), strict=True)}):
        assert len(found) == 60
        for (z, y, x), k in found.items():
            assert truth[int(z), int(y), int(x)] == k
    part = drawn(image, tmp_path, images={"labels": labels, "z": "2:4"}, ndim=3, total=20)
    assert set(part.places[:, 0]) <= {2, 3}


def test_no_point_lies_where_labels_are_ignored(tmp_path):
    image, labels = cells((40, 40), num=5)
    write(tmp_path / "set", "a", image, labels)
    table = drawn(tmp_path / "set", tmp_path, images={"ignore": (2,)}, total=200)
    _, y, x = table.places.astype(int).T
    assert not (labels[y, x] == 2).any()


def test_what_cannot_be_drawn_is_named(folder, tmp_path):
    with pytest.raises(UserError, match=r"5000 points of class 0 \(background\) are wanted, and the images have 3960"):
        drawn(folder, tmp_path, total=10000)
    write(tmp_path / "set", "a", np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8))
    with pytest.raises(UserError, match=r"class 0 .* alone; points of two classes are needed"):
        drawn(tmp_path / "set", tmp_path)
    for settings, message in (
        ({"total": 4, "per_image": 2}, "three ways to say how many"),
        ({"classes": "values"}, "belong together"),
        ({"classes": "values", "values": (0, 1), "per_object": 1}, "needs labels that number objects"),
    ):
        with pytest.raises(UserError, match=message):
            PointSettings.load(settings)
    with pytest.raises(UserError, match=r"end .* in \.csv"):
        prepare_points(str(folder), tmp_path / "p.txt", PointImages(), PointSettings())
    drawn(folder, tmp_path, total=4)
    with pytest.raises(UserError, match="exists already"):
        prepare_points(str(folder), tmp_path / "p.csv", PointImages(), PointSettings())


def test_nothing_is_drawn_from_validation_or_test(folder, tmp_path):
    for name in ("val", "Test"):
        write(tmp_path / name, "a", *cells((40, 36)))
        with pytest.raises(UserError, match=rf"1 of 1 images are for validation or test: a \(folder {name}\)"):
            drawn(tmp_path / name, tmp_path, total=4)
        assert len(drawn(tmp_path / name, tmp_path, total=4, allow_held_out=True)) == 4
    assert held_out_folder("test/train/images/a.tif") is None
    place = tmp_path / "all"
    for k in range(3):
        write(place, f"i{k}", *cells((40, 36), seed=k))
    (place / "my_split.json").write_text(json.dumps({"train": ["i0"], "val": ["i1"], "test": ["i2.tif"]}))
    with pytest.raises(UserError, match=r"2 of 3 .* i1 \(my_split.json:val\), i2 \(my_split.json:test\)"):
        drawn(place, tmp_path, total=4)
    kept = {"names": f"{place}/my_split.json:train"}
    assert set(drawn(place, tmp_path, images=kept, total=4).images) == {"i0"}
    (tmp_path / "never.txt").write_text("i0\n")
    with pytest.raises(UserError, match=r"i0 .*never\.txt"):
        drawn(place, tmp_path, images=kept, total=4, never=(str(tmp_path / "never.txt"),))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"validation": {"sources": [{"path": str(folder), "names": ["i1"]}]}}))
    with pytest.raises(UserError, match=r"1 of 3 .* i1 \(validation of"):
        drawn(folder, tmp_path, total=4, never=(str(recipe),))
    (tmp_path / "none.yaml").write_text("validation: {length: 3}")
    with pytest.raises(UserError, match="names no images for validation"):
        drawn(folder, tmp_path, total=4, never=(str(tmp_path / "none.yaml"),))


def test_sections_of_a_volume_are_held_out_by_themselves(tmp_path):
    image, labels = volume(tmp_path / "set")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"validation": {"sources": [{"path": image, "labels": labels, "z": "4:6"}]}}))
    asked = {"total": 8, "never": (str(recipe),)}
    with pytest.raises(UserError, match="for validation or test"):
        drawn(image, tmp_path, images={"labels": labels}, **asked)
    assert drawn(image, tmp_path, images={"labels": labels, "z": "0:4"}, **asked).places[:, 0].max() < 4


def test_a_table_comes_back_as_it_went(tmp_path):
    table = PointTable(("a", 'b,"c"'), np.array([[0, 1.5, 2], [0, 3, 4]]), np.array([0, 2]))
    write_points(tmp_path / "t.csv", table)
    again = read_points(tmp_path / "t.csv")
    assert again.images == table.images
    np.testing.assert_array_equal(again.places, table.places)
    np.testing.assert_array_equal(again.classes, table.classes)
    write_points(tmp_path / "z.csv", PointTable(("a",), np.array([[5, 1, 2.0]]), np.array([1]), has_z=True))
    assert read_points(tmp_path / "z.csv").places.tolist() == [[5, 1, 2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,x,y,class\na,1,2,0\n", "image,y,x,class or image,z,y,x,class, in this order"),
        ("image,y,x,class\n", "holds no points"),
        ("image,y,x,class\na,1,2\n", "line 2 has 3 columns"),
        ("image,y,x,class\na,1,2,0\na,1,u,0\n", "line 3: 1,u,0 must be numbers"),
        ("image,y,x,class\na,1,2,-1\n", "a class from 0"),
        ("image,y,x,class\na,nan,2,0\n", "places in voxels"),
    ],
)
def test_tables_that_are_none_are_named(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_points(tmp_path / "t.csv")


def samples(folder, tmp_path, table=None, images="images", **changes):
    if table is None:
        table = drawn(folder, tmp_path, total=60)
    write_points(tmp_path / "p.csv", table)
    values = {"sources": [{"path": f"{folder}/{images}"}], "points": str(tmp_path / "p.csv"), "normaliser": PLAIN}
    return PointsData.load({**values, **changes})


def test_crops_show_what_stands_at_each_point(folder, tmp_path):
    built = samples(folder, tmp_path, crop=[16, 20], context=2).build(0)
    raw = {f"i{k}": cells((40, 36), seed=k, num=3 + k)[0] for k in range(3)}
    table = read_points(tmp_path / "p.csv")
    values = {}
    for name, (_, y, x), k in zip(table.images, table.places.astype(int), table.classes.tolist(), strict=True):
        values.setdefault(k, []).append(int(raw[name][y, x]))
    seen = 0
    for index in range(20):
        sample = built[index]
        assert sample.space == (16, 20)
        for k, layer in classes_in(sample).items():
            for y, x in sample[layer].tensor[0].long().tolist():
                assert int(sample["image"].tensor[0, 0, y, x]) in values[k]
                assert 2 <= y < 14
                assert 2 <= x < 18
                seen += 1
        assert sum(sample[layer].tensor.shape[1] for layer in classes_in(sample).values()) >= 1
    assert seen > 40
    first = pickle.loads(pickle.dumps(built))[7]
    np.testing.assert_array_equal(first["image"].tensor, built[7]["image"].tensor)


def test_points_alone_are_their_voxels(folder, tmp_path):
    built = samples(folder, tmp_path, crop=1, per_sample=40).build(0)
    sample = built[0]
    assert sample.space == (40, 1)
    assert [sample[layer].tensor.shape[1] for layer in classes_in(sample).values()] == [20, 20]
    shown = {
        k: set(sample["image"].tensor[0, 0, sample[n].tensor[0, :, 0].long(), 0].int().tolist())
        for k, n in classes_in(sample).items()
    }
    assert max(shown[0]) < 60 < 100 < min(shown[1])  # objects are brighter
    held = samples(folder, tmp_path, crop=1, per_sample=40).held_out(0)
    assert [s.space for s in held] == [(40, 1), (20, 1)]
    one = samples(folder, tmp_path, crop=1, per_sample=40, num_points=6).build(0)
    assert len(one[0]["image"].tensor.unique()) <= 6


def test_each_point_is_validated_on_once(folder, tmp_path):
    held = samples(folder, tmp_path, crop=16).held_out(0)
    assert len(held) == 60
    counts = [sum(s[layer].tensor.shape[1] for layer in classes_in(s).values()) for s in held]
    assert counts == [1] * 60


def test_volumes_sections_and_parts(tmp_path):
    image, labels = volume(tmp_path / "set")
    table = drawn(image, tmp_path, images={"labels": labels}, total=40)
    raw = cells((6, 24, 30), num=4)[0]
    for ndim, crop in ((3, [2, 8, 8]), (3, 1), (2, 8), (2, 1)):
        built = samples(
            tmp_path / "set", tmp_path, table, sources=[{"path": image, "z": "1:6"}], ndim=ndim, crop=crop, per_sample=8
        ).build(0)
        assert built._places[:, 0].max() < 5  # counted from the part's first section
        for index in range(6):
            sample = built[index]
            assert sample.ndim == ndim
            for k, layer in classes_in(sample).items():
                for place in sample[layer].tensor[0].long().tolist():
                    assert (int(sample["image"].tensor[(0, 0, *place)]) >= 100) == k
    assert raw.max() > 100


def test_points_outside_and_of_one_class_are_named(folder, tmp_path):
    def refused(places, classes, match, images=("i0", "i1"), has_z=False, **changes):
        table = PointTable(images, np.array(places, float), np.array(classes), has_z)
        with pytest.raises(UserError, match=match):
            samples(folder, tmp_path, table, **changes).build(0)

    refused(
        [[0, 5, 5], [0, 41, 5]],
        [0, 1],
        r"1 of 2 points lie outside .* the first, 0 41 5 \(z y x\), is not in i1 of \(1, 40, 36\)",
    )
    refused([[0, 35, 39], [0, 3, 38]], [0, 1], "all are inside if the order of the axes is turned round")
    refused([[0, 5, 5], [0, 4, 5]], [1, 1], "all 2 points of .* are of class 1; two classes")
    refused(
        [[0, 5, 5], [0, 4, 5]], [0, 1], "has points in other, which the sources do not have", images=("i0", "other")
    )
    refused([[0, 5, 5], [0, 4, 5]], [0, 1], "3 points are asked for, there are 2", num_points=3)
    refused(
        [[0, 5, 5], [0, 4, 5]],
        [0, 1],
        "no point of .* lies in the part",
        sources=[{"path": f"{folder}/images", "bbox": "20:30,20:30"}],
    )


def test_the_verb(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["prep", "points", str(folder), "points.csv", "--total", "20", "--classes", "boundary"])
    assert not stopped.value.code
    assert "points.csv: 20 points in 3 images: 7 background, 7 object, 6 boundary" in capsys.readouterr().out
    told = json.loads((tmp_path / "points.json").read_text())
    assert told["classes"]["2"] == {"name": "boundary", "points": 6}
    assert told["settings"]["total"] == 20
    with pytest.raises(SystemExit) as stopped:
        main(["prep", "points", str(folder), "q.csv", "--ndim", "3", "--total", "4"])
    assert stopped.value.code == 2
