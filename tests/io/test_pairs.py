"""Which labels belong to which image, in every layout; and what is said where something is missing."""

import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.io import create_volume, open_volume
from lamella.io.pairs import find_pairs, look, read_names, select

IMAGE = np.zeros((4, 5), np.uint8)


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        (iio if path.suffix in (".png", ".jpg") else tifffile).imwrite(path, IMAGE)


def names(pairs, root):
    def short(path):
        return None if path is None else str(Path(path).relative_to(root))

    return [(p.name, short(p.image), short(p.labels), p.z) for p in pairs]


@pytest.mark.parametrize("labels", ["labels", "masks"])
def test_two_folders_of_equal_names(tmp_path, labels):
    touch(tmp_path / "images/x10.tif", tmp_path / "images/x2.ome.tif", tmp_path / labels / "x2.png")
    touch(tmp_path / labels / "x10.tiff")
    assert names(find_pairs(str(tmp_path)), tmp_path) == [
        ("x2", "images/x2.ome.tif", f"{labels}/x2.png", None),
        ("x10", "images/x10.tif", f"{labels}/x10.tiff", None),
    ]


def test_two_folders_named_one_by_one(tmp_path):
    touch(tmp_path / "raw/a.png", tmp_path / "truth/a_mask.png")
    expected = [("a", "raw/a.png", "truth/a_mask.png", None)]
    assert names(find_pairs(str(tmp_path / "raw"), str(tmp_path / "truth")), tmp_path) == expected


@pytest.mark.parametrize("suffix", ["_masks", "_mask", "_label", "_labels", "_seg", "_cp_masks"])
def test_one_folder_with_suffixes(tmp_path, suffix):
    touch(tmp_path / "a.tif", tmp_path / f"a{suffix}.png", tmp_path / "a_flows.tif")
    assert names(find_pairs(str(tmp_path)), tmp_path) == [("a", "a.tif", f"a{suffix}.png", None)]
    assert names(find_pairs(str(tmp_path / "a.tif")), tmp_path) == [("a", "a.tif", f"a{suffix}.png", None)]


def test_images_named_img_beside_masks(tmp_path):
    touch(tmp_path / "000_img.png", tmp_path / "000_masks.png")
    assert names(find_pairs(str(tmp_path)), tmp_path) == [("000", "000_img.png", "000_masks.png", None)]


def test_cell_tracking_challenge(tmp_path):
    frames = [tmp_path / f"{s}/t{k:03d}.tif" for s in ("01", "02") for k in range(3)]
    touch(*frames, tmp_path / "01_GT/SEG/man_seg001.tif", tmp_path / "01_GT/TRA/man_track000.tif")
    touch(tmp_path / "02_ST/SEG/man_seg002.tif", tmp_path / "02_GT/SEG/man_seg_000_005.tif")
    touch(tmp_path / "02_GT/TRA/man_track000.tif")
    assert names(find_pairs(str(tmp_path)), tmp_path) == [
        ("01/t001", "01/t001.tif", "01_GT/SEG/man_seg001.tif", None),
        ("02/t000_z005", "02/t000.tif", "02_GT/SEG/man_seg_000_005.tif", 5),
    ]
    silver = find_pairs(str(tmp_path / "02"), "ST")
    assert names(silver, tmp_path) == [("02/t002", "02/t002.tif", "02_ST/SEG/man_seg002.tif", None)]
    with pytest.raises(UserError, match="markers for tracking"):
        find_pairs(str(tmp_path / "01"), str(tmp_path / "01_GT/TRA"))


def zarr(path, shape=(4, 5), dtype=np.uint8):
    create_volume(str(path), box=Box.of(shape), dtype=dtype, meta=Meta.plain("zyx"[-len(shape) :]), kind="ome-zarr")


def label_zarr(path, *labels):
    zarr(path)
    for label in labels:
        zarr(path / "labels" / label, dtype=np.uint16)
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": "0.5", "labels": list(labels)}}}
    (path / "labels").mkdir(exist_ok=True)
    (path / "labels" / "zarr.json").write_text(json.dumps(group))


def test_ome_zarr_with_labels(tmp_path):
    label_zarr(tmp_path / "a.ome.zarr", "nuclei")
    label_zarr(tmp_path / "b.zarr", "cells", "nuclei")
    (pair,) = find_pairs(str(tmp_path / "a.ome.zarr"))
    assert names([pair], tmp_path) == [("a", "a.ome.zarr", "a.ome.zarr/labels/nuclei", None)]
    assert open_volume(pair.labels).dtype == np.uint16
    assert [p.name for p in find_pairs(str(tmp_path), "nuclei")] == ["a", "b"]
    with pytest.raises(UserError, match="several labels, 'cells', 'nuclei'; name one"):
        find_pairs(str(tmp_path))
    with pytest.raises(UserError, match="no labels named 'cells': it has 'nuclei'"):
        find_pairs(str(tmp_path / "a.ome.zarr"), "cells")


def test_images_of_a_container_of_zarrs(tmp_path):
    (tmp_path / "plate.zarr").mkdir()
    (tmp_path / "plate.zarr" / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group"}))
    label_zarr(tmp_path / "plate.zarr/A/1/0", "nuclei")
    label_zarr(tmp_path / "plate.zarr/A/2/0", "nuclei")
    pairs = find_pairs(str(tmp_path / "plate.zarr"))
    assert names(pairs, tmp_path / "plate.zarr") == [
        ("A/1/0", "A/1/0", "A/1/0/labels/nuclei", None),
        ("A/2/0", "A/2/0", "A/2/0/labels/nuclei", None),
    ]


def test_images_without_labels_are_pairs_without_labels(tmp_path):
    touch(tmp_path / "b.tif", tmp_path / "a.jpg")
    assert names(find_pairs(str(tmp_path)), tmp_path) == [("a", "a.jpg", None, None), ("b", "b.tif", None, None)]
    assert names(find_pairs(str(tmp_path / "b.tif")), tmp_path) == [("b", "b.tif", None, None)]


def test_what_has_no_partner_is_named(tmp_path):
    touch(*(tmp_path / "images" / f"{n}.png" for n in "abc"), *(tmp_path / "labels" / f"{n}.png" for n in "bcd"))
    with pytest.raises(UserError, match=r"images/a\.png has no labels.*labels/d\.png has no image"):
        find_pairs(str(tmp_path))
    found = look(str(tmp_path))
    assert [p.name for p in found.pairs] == ["b", "c"]
    assert len(found.problems) == 2


def test_places_without_images_are_told(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images were found"):
        find_pairs(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="does not exist"):
        find_pairs(str(tmp_path / "none"))
    touch(tmp_path / "c/a.png")
    (tmp_path / "c/a_seg.npy").write_bytes(b"")
    with pytest.raises(UserError, match="Cellpose save its masks"):
        find_pairs(str(tmp_path / "c"))
    touch(tmp_path / "d/images/a.png", tmp_path / "d/images/a.tif", tmp_path / "d/labels/a.png")
    with pytest.raises(UserError, match="nothing but their ending"):
        find_pairs(str(tmp_path / "d"))


def test_names_choose_pairs_in_their_order(tmp_path):
    touch(*(tmp_path / folder / f"{n}.png" for folder in ("images", "labels") for n in "abc"))
    (tmp_path / "split.json").write_text(json.dumps({"train": ["c", "a.png"], "more": {"test": ["b"]}, "n": 3}))
    (tmp_path / "list.txt").write_text("b\nc\n")
    pairs = find_pairs(str(tmp_path))

    def chosen(given):
        return [p.name for p in select(pairs, read_names(given), "x")]

    assert chosen(f"{tmp_path}/split.json:train") == ["c", "a"]
    assert chosen(f"{tmp_path}/split.json:more.test") == ["b"]
    assert chosen(str(tmp_path / "list.txt")) == ["b", "c"]
    assert chosen(("a",)) == ["a"]
    for given, message in [
        (f"{tmp_path}/split.json:val", "no key 'val'; it holds train, more, n"),
        (f"{tmp_path}/split.json:n", "no list of names"),
        (f"{tmp_path}/none.json:val", "cannot read names"),
        (("a", "z"), "1 of 2 names are not in x: z"),
    ]:
        with pytest.raises(UserError, match=message):
            chosen(given)
