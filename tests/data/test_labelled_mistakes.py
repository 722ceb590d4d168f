"""What is wrong with labels and images is told before the training, with the file's name; or the rest goes on without it."""

import numpy as np
import pytest
import tifffile

from lamella.core.errors import UserError
from tests.data.labelled import arrays, cells, data, write

IMAGE, LABELS = cells((40, 50))


def folder(root, name, image=IMAGE, labels=LABELS, suffix=".tif"):
    """A data set with two good images and one that may be bad."""
    for good in "ab":
        write(root / name, good, IMAGE, LABELS)
    return write(root / name, "odd", image, labels, suffix)


CASES = {
    "height": (IMAGE, LABELS[:30], "odd.tif are 30 x 50.*odd.tif is 40 x 50"),
    "sections": (np.stack([IMAGE] * 3), np.stack([LABELS] * 2), "are 2 x 40 x 50 .z y x.*is 3 x 40 x 50"),
    "colour": (IMAGE, np.stack([LABELS] * 3, -1).astype(np.uint8), "3 channels .RGB.*each object with its own value"),
    "floats": (IMAGE, LABELS.astype(np.float32), "hold float32, not whole numbers"),
    "negative": (IMAGE, LABELS.astype(np.int16) - 1, "go down to -1"),
    "mask": (IMAGE, (LABELS > 0).astype(np.uint8) * 255, "single value 255 in 6 separate regions.*components: true"),
    "nan": (np.full((40, 50), np.nan, np.float32), LABELS, "NaN or infinity"),
    "complex": (IMAGE.astype(np.complex64), LABELS, "complex64"),
    "channels": (np.stack([IMAGE] * 3, -1), LABELS, "has 3 channels, most images have 1"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_bad_file_is_named(tmp_path, case):
    image, labels, message = CASES[case]
    path = folder(tmp_path, case, image, labels)
    with pytest.raises(UserError, match=message) as caught:
        data(path).build(0)
    assert "odd" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", CASES)
def test_the_rest_goes_on_if_asked(tmp_path, case, capsys):
    image, labels, _message = CASES[case]
    samples = data(folder(tmp_path, case, image, labels), skip_bad=True).build(0)
    assert [image.name for image in samples.images] == ["a", "b"]
    assert len(samples.skipped) == 1
    assert "odd" in samples.skipped[0]
    assert f"left out: {samples.skipped[0]}" in capsys.readouterr().err
    assert arrays(samples[0])[2].all()


@pytest.mark.parametrize("kind", ["images", "labels"])
@pytest.mark.parametrize("keep", [0, 100, 600])
def test_a_damaged_file_is_named_or_left_out(tmp_path, kind, keep):
    path = folder(tmp_path, "set")
    file = tmp_path / "set" / kind / "odd.tif"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match=rf"{kind}/odd\.tif.*skip_bad=true"):
        data(path).build(0)
    assert [image.name for image in data(path, skip_bad=True).build(0).images] == ["a", "b"]


def test_files_without_partner_are_named_or_left_out(tmp_path):
    path = folder(tmp_path, "set")
    (tmp_path / "set/labels/odd.tif").unlink()
    with pytest.raises(UserError, match=r"odd\.tif has no labels"):
        data(path).build(0)
    assert len(data(path, skip_bad=True).build(0).images) == 2
    assert len(data({"path": path, "names": ["a"]}).build(0).images) == 1


def test_data_sets_without_objects_are_told(tmp_path):
    for name in "ab":
        write(tmp_path / "s", name, IMAGE, np.where(LABELS > 0, 1, 0).astype(np.uint8))
    with pytest.raises(UserError, match=r"no object that is not ignored \(\[1\]\): all 2 are empty"):
        data(str(tmp_path / "s"), ignore=[1]).build(0)
    write(tmp_path / "t", "a", IMAGE, LABELS)
    write(tmp_path / "t", "empty", IMAGE, np.zeros_like(LABELS))
    assert len(data(str(tmp_path / "t")).build(0).images) == 2, "an image without objects is one more example"
    (tmp_path / "only").mkdir()
    tifffile.imwrite(tmp_path / "only/a.tif", IMAGE)
    with pytest.raises(UserError, match="no labels were found for the 1 images"):
        data(str(tmp_path / "only")).build(0)


def test_one_object_of_one_value_is_no_mask(tmp_path):
    one = np.where(LABELS == 2, 7, 0).astype(np.uint8)
    one[39, 49] = 7
    path = folder(tmp_path, "set", IMAGE, one)
    assert len(data(path).build(0).images) == 3, "a stray voxel does not make a mask"
    with pytest.raises(UserError, match="single value"):
        data({"path": path, "names": ["odd"]}).build(0)


def test_what_does_not_fit_the_recipe_is_told(tmp_path):
    flat = write(tmp_path / "flat", "a", IMAGE, LABELS)
    deep = write(tmp_path / "deep", "a", np.stack([IMAGE] * 4), np.stack([LABELS] * 4))
    cases = [
        ({"path": flat}, {"ndim": 3}, "no z, but data.ndim=3 needs volumes"),
        ({"path": flat}, {"slices": 3}, "no z, but data.slices=3 needs volumes"),
        ({"path": flat, "channels": [1]}, {}, r"1 channels, \[1\] were asked for"),
        ({"path": deep, "z": "4:9"}, {}, "does not lie inside"),
        ({"path": deep, "bbox": "0:2,0:9,0:9", "z": "3:4"}, {}, "no section in common"),
        ({"path": flat, "mip": 1}, {}, "mip 1 does not exist"),
        (
            {"path": flat},
            {"trim": {"kind": "padding", "im_dim": 32}},
            "40 x 50 does not fit into trim.im_dim 32 x 32",
        ),
        ({"path": str(tmp_path / "none")}, {}, "does not exist"),
        ({"path": flat}, {"slices": 2}, "slices 2 must be odd"),
        ({"path": deep}, {"slices": 3, "ndim": 3}, "slices are for 2D nets"),
        ({"path": flat}, {"crop": [8, 8, 8]}, "must be one size of at least 1, or 2 of them"),
        ({"path": flat}, {"crop": 8, "context": 4}, "leaves nothing of a crop of 8"),
        ({"path": flat}, {"ignore": [0]}, "label 0 is the background"),
        ({"path": flat, "nmaes": ["a"]}, {}, "did you mean 'names'"),
    ]
    for source, changes, message in cases:
        with pytest.raises(UserError, match=message):
            data(source, **changes).build(0)
