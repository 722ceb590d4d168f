"""Synthetic nuclei: the labels are true, the two densities differ, heaps are set apart, and the seed decides all."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import find_boundaries

from lamella.data.labelled import LabelledData
from lamella.tasks.segment.baseline import otsu_instances
from lamella.tasks.segment.specimen import BLOB, SETS, SpecimenConfig, make_field, write_specimen
from lamella.tasks.segment.specimen_camera import Light

CONFIG = SpecimenConfig(size=(160, 192))


def test_the_same_seed_gives_the_same_image():
    first, again = (make_field(CONFIG, 3, "a", "dense", heap=True) for _ in range(2))
    other = make_field(CONFIG, 4, "a", "dense", heap=True)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, other.labels)
    assert first.image.shape == first.labels.shape == CONFIG.size


def test_labels_are_the_nuclei():
    plain = CONFIG.model_copy(update={"light": Light(falloff=0, haze=0, read_noise=0, photons=1000), "debris": 0})
    made = make_field(plain, 0, "a", "sparse", heap=False)
    inside, outside = (made.image[made.labels > 0], made.image[ndimage.distance_transform_edt(made.labels == 0) > 4])
    assert np.median(inside) > 3 * np.median(outside)
    assert set(np.unique(made.labels)) == {0, *range(2, made.labels.max() + 1)}
    regions = [ndimage.label(made.labels == k)[1] for k in range(2, made.labels.max() + 1)]
    assert np.mean(np.array(regions) == 1) > 0.9


def test_dense_images_are_dense_and_their_nuclei_touch():
    def measure(density):
        made = [make_field(CONFIG, k, "a", density, heap=False).labels for k in range(3)]
        edges = np.mean(
            [find_boundaries(m, mode="inner").sum() - find_boundaries(m > 0, mode="inner").sum() for m in made]
        )
        return np.mean([m > 0 for m in made]), edges

    (sparse, few), (dense, many) = measure("sparse"), measure("dense")
    assert sparse == pytest.approx(CONFIG.sparse, rel=0.4)
    assert 0.3 < dense < 0.6
    assert many > 5 * max(few, 1)


def test_heaps_are_blobs_of_their_own_label():
    without, with_heap = (make_field(CONFIG, 1, "a", "dense", heap=heap) for heap in (False, True))
    assert BLOB not in without.labels
    assert (with_heap.labels == BLOB).sum() > 300
    assert with_heap.labels.max() > 10


def test_it_is_hard_enough_for_a_threshold_to_fail():
    made = make_field(SpecimenConfig(), 0, "a", "dense", heap=False)
    num = made.labels.max() - 1
    assert otsu_instances(made.image).max() < 0.9 * num


def test_written_sets_are_read_as_labelled_data(tmp_path):
    write_specimen(SpecimenConfig(train=2, val=1, test=1, size=(96, 96), heaps=1), 0, tmp_path / "cells")
    for part, count in zip(SETS, (2, 1, 1), strict=True):
        data = LabelledData.load({"sources": [{"path": str(tmp_path / "cells" / part)}], "ignore": [BLOB], "crop": 96})
        samples = data.held_out(0)
        assert len(samples) == count
        assert samples.voxel_size == (0.325, 0.325)
        for sample in samples:
            assert (sample["labels"].tensor > BLOB).any()
            assert (sample["valid"].tensor == 0).any()
    names = {p.name for part in SETS for p in (tmp_path / "cells" / part / "images").iterdir()}
    assert names == {"sparse_00.tif", "dense_01.tif"}
