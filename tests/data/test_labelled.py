"""Samples of labelled images: what the files hold at the place drawn, what counts of it, and the same at any time."""

import json
import pickle

import numpy as np
import pytest
import tifffile
from torch.utils.data import DataLoader

from lamella.core.box import Box
from lamella.core.volume import Meta
from lamella.data.sample import collate
from lamella.io import create_volume
from lamella.ops.intensity import Percentile
from lamella.ops.trim import Padding, Reflect, Resize, trim, untrim
from tests.data.labelled import arrays, cells, data, find, write


@pytest.fixture
def folder(tmp_path):
    """Two images with labels."""
    for k, shape in enumerate([(40, 50), (33, 61)]):
        write(tmp_path / "set", f"i{k}", *cells(shape, k))
    return str(tmp_path / "set")


def test_crops_are_pieces_of_image_and_labels(folder):
    wholes = [cells((40, 50), 0), cells((33, 61), 1)]
    samples = data(folder).build(0)
    assert samples.num_channels == 1
    for i in range(20):
        image, labels, valid = arrays(samples[i])
        places = [(find(image[0], whole.astype(np.float32)), marked) for whole, marked in wholes]
        ((y, x), marked) = next((p, m) for p, m in places if p is not None)
        assert np.array_equal(labels, marked[y : y + 16, x : x + 16])
        assert valid.all()


def test_a_sample_depends_on_seed_and_index_alone(folder):
    first, second = data(folder).build(3), data(folder, cache_gb=0).build(3)
    later = [arrays(second[i]) for i in (4, 3, 2, 1, 0)][::-1]
    for i in range(5):
        assert all(np.array_equal(a, b) for a, b in zip(arrays(first[i]), later[i], strict=True))
    assert any((arrays(first[i])[0] != arrays(data(folder).build(4)[i])[0]).any() for i in range(5))
    short = data(folder, length=2).build(3)
    assert len(short) == 2
    assert np.array_equal(arrays(short[0])[0], arrays(short[2])[0])


def test_workers_give_the_same_samples_from_one_memory(folder):
    samples = data(folder, length=6).build(0)
    loaded = DataLoader(samples, batch_size=3, num_workers=1, collate_fn=collate, multiprocessing_context="spawn")
    whole = collate([samples[i] for i in range(6)])
    for k, batch in enumerate(loaded):
        for name, layer in batch.items():
            assert (layer.tensor == whole[name].tensor[3 * k : 3 * k + 3]).all()
    copy = pickle.loads(pickle.dumps(samples))
    samples.images[0].kept_labels.array[:] = 7
    assert (copy.images[0].kept_labels.array == 7).all()


def test_without_the_shared_memory_copies_read_files(folder):
    samples = data(folder).build(0)
    expected = [arrays(samples[i]) for i in range(4)]
    stored = pickle.dumps(samples)
    del samples
    copy = pickle.loads(stored)
    assert copy.images[0].kept_image.array is None
    assert all(np.array_equal(a, b) for i in range(4) for a, b in zip(arrays(copy[i]), expected[i], strict=True))


def test_the_image_is_scaled_as_a_whole(folder):
    whole = cells((40, 50), 0)[0]
    samples = data({"path": folder, "names": ["i0"]}, normaliser={"kind": "percentile"}).build(0)
    scaled = Percentile().measure(whole[None])(whole[None])[0]
    assert all(find(arrays(samples[i])[0][0], scaled) is not None for i in range(5))


def test_ignored_labels_do_not_count_and_stay_in_the_image(tmp_path):
    image, labels = cells((40, 50), num=6)  # label 1 is a blob, cells are from 2
    path = write(tmp_path, "a", image, labels)
    for sources in ([{"path": path, "ignore": [1]}], [path]):
        samples = data(*sources, crop=[40, 50], **({} if isinstance(sources[0], dict) else {"ignore": [1]})).build(0)
        shown, marked, valid = arrays(samples[0])
        assert np.array_equal(shown[0], image)
        assert np.array_equal(marked, np.where(labels == 1, 0, labels))
        assert np.array_equal(valid, labels != 1)
    assert arrays(data(path, crop=[40, 50]).build(0)[0])[2].all()
    inner = data(path, ignore=[1], objects=1, crop=3).build(0)
    assert all(arrays(inner[i])[1].any() for i in range(30)), "no crop around what is no object"


def test_crops_of_small_images_are_mirrored_and_do_not_count_outside(tmp_path):
    image, labels = cells((20, 30))
    samples = data(write(tmp_path, "a", image, labels), crop=48, objects=0).build(0)
    corners = set()
    for i in range(12):
        shown, marked, valid = arrays(samples[i])
        y, x = (int(v) for v in np.argwhere(valid)[0])
        corners.add((y, x))
        assert valid.sum() == image.size
        assert np.array_equal(shown[0, y : y + 20, x : x + 30], image)
        width = [(y, 28 - y), (x, 18 - x)]
        assert np.array_equal(shown[0], np.pad(image, width, mode="reflect"))
        assert np.array_equal(marked, np.pad(labels, width, mode="reflect"))
    assert len(corners) > 3


def test_context_is_shown_and_does_not_count(tmp_path):
    image, labels = cells((40, 50))
    samples = data(write(tmp_path, "a", image, labels), crop=24, context=5, objects=0).build(0)
    padded = np.pad(image, 5, mode="reflect").astype(np.float32)
    counted = np.zeros(image.shape)
    for i in range(300):
        shown, _, valid = arrays(samples[i])
        assert valid.sum() == 14 * 14
        y, x = find(shown[0], padded)
        assert valid[5:-5, 5:-5].all()
        counted[y : y + 14, x : x + 14] += 1
    assert counted.any(0).all(), "the image's own edges count too"
    assert counted.any(1).all()


def test_crops_around_objects_come_as_often_as_asked(tmp_path):
    image, labels = np.zeros((2, 200, 200), np.uint8)
    labels[150:154, 30:34] = 5
    image[0, 0] = 1
    path = write(tmp_path, "a", image, labels)

    def share(objects):
        samples = data(path, objects=objects).build(0)
        return np.mean([arrays(samples[i])[1].any() for i in range(300)])

    assert share(1.0) == 1
    assert share(0.0) < 0.05
    assert 0.4 < share(0.5) < 0.6
    samples = data(path, objects=1.0).build(0)
    places = np.array([np.argwhere(arrays(samples[i])[1])[0] for i in range(60)])
    assert places.std(0).min() > 1, "an object is not always at the same place of the crop"


def test_images_are_drawn_alike_or_by_their_size(tmp_path):
    image, labels = np.zeros((2, 100, 100), np.uint8)
    labels[0, 0] = 1
    write(tmp_path / "s", "big", image + 1, labels)
    write(tmp_path / "s", "small", image[:50, :50] + 2, labels[:50, :50])
    write(tmp_path / "t", "other", image[:50, :50] + 3, labels[:50, :50])

    def shares(**changes):
        sources = {"path": str(tmp_path / "s")}, {"path": str(tmp_path / "t"), "weight": 2}
        samples = data(*sources, objects=0, **changes).build(0)
        values = [arrays(samples[i])[0][0, 0, 0] for i in range(400)]
        return [values.count(v) / 400 for v in (1, 2, 3)]

    assert shares() == pytest.approx([0.25, 0.25, 0.5], abs=0.06)
    assert shares(draw="voxels") == pytest.approx([4 / 7, 1 / 7, 2 / 7], abs=0.06)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("crop", "context"), [(16, 0), (16, 3), (64, 0), (64, 20), (21, 1)])
def test_tiles_count_every_voxel_once(tmp_path, ndim, crop, context):
    shape = (40, 50) if ndim == 2 else (9, 30, 40)
    image, labels = cells(shape)
    image[...] = np.arange(image.size).reshape(shape) % 251
    path = write(tmp_path, "a", image, labels)
    tiles = data(path, ndim=ndim, crop=crop, context=context, ignore=[1]).held_out(0)
    wide = np.pad(image, crop, mode="reflect").astype(np.float32)
    seen = []
    for k in range(len(tiles)):
        shown, marked, valid = arrays(tiles[k])
        assert shown.shape == (1, *(crop,) * ndim)
        start = tiles._tiles[k][1][-ndim:]
        inner = tuple(slice(a + crop, a + 2 * crop) for a in start)
        assert np.array_equal(shown[0], wide[inner])
        seen += [(*(p + start), marked[tuple(p)]) for p in np.argwhere(valid)]
    assert len(seen) == len(set(seen)) == (labels != 1).sum()
    assert all(labels[tuple(p[:-1])] == p[-1] for p in seen)


def test_validation_of_a_given_length_is_drawn(folder):
    samples = data(folder, length=5).held_out(0)
    assert len(samples) == len(list(samples)) == 5


def test_neighbouring_sections_are_channels_and_repeat_at_the_ends(tmp_path):
    image, labels = cells((6, 20, 24))
    image = (image // 10 + 30 * np.arange(6, dtype=np.uint8)[:, None, None]).astype(np.uint8)
    path = write(tmp_path, "a", image, labels)
    samples = data(path, slices=3, crop=[20, 24]).build(0)
    assert samples.num_channels == 3
    seen = set()
    for i in range(40):
        shown, marked, _ = arrays(samples[i])
        z = int(shown[1, 0, 0]) // 30
        assert np.array_equal(shown, image[[max(z - 1, 0), z, min(z + 1, 5)]])
        assert np.array_equal(marked, labels[z])
        seen.add(z)
    assert seen == set(range(6))
    assert len(data(path, slices=3, crop=[20, 24]).held_out(0)) == 6


def test_channels_are_taken_in_turn_with_their_neighbours(tmp_path):
    voxels = np.random.default_rng(0).integers(0, 99, (3, 4, 20, 24)).astype(np.uint8)
    (volume,) = create_volume(
        str(tmp_path / "a.zarr"), box=Box.of(voxels.shape), dtype=np.uint8, meta=Meta.plain("czyx")
    )
    volume.write(volume.box, voxels)
    tifffile.imwrite(tmp_path / "labels.tif", cells((4, 20, 24))[1], photometric="minisblack")
    source = {"path": str(tmp_path / "a.zarr"), "labels": str(tmp_path / "labels.tif"), "channels": [2, 0], "z": "2:3"}
    for cache_gb in (0, 1):
        samples = data(source, slices=3, crop=[20, 24], cache_gb=cache_gb).build(0)
        assert samples.num_channels == 6
        shown = arrays(samples[0])[0]
        assert np.array_equal(shown, voxels[[2, 2, 2, 0, 0, 0], [2, 2, 2, 2, 2, 2]]), "z cuts off the neighbours"


def test_volumes(tmp_path):
    image, labels = cells((9, 30, 40))
    path = write(tmp_path, "a", image, labels)
    for cache_gb in (0, 1):
        samples = data(path, ndim=3, crop=[5, 16, 12], cache_gb=cache_gb).build(0)
        for i in range(6):
            shown, marked, valid = arrays(samples[i])
            place = find(shown[0], image.astype(np.float32))
            assert place is not None
            inner = tuple(slice(a, a + n) for a, n in zip(place, (5, 16, 12), strict=True))
            assert np.array_equal(marked, labels[inner])
            assert valid.all()


def test_single_annotated_sections_of_a_volume(tmp_path):
    image, labels = cells((6, 20, 24))
    (tmp_path / "01_GT/SEG").mkdir(parents=True)
    (tmp_path / "01").mkdir()
    tifffile.imwrite(tmp_path / "01/t003.tif", image, photometric="minisblack")
    for z in (2, 4):
        tifffile.imwrite(tmp_path / f"01_GT/SEG/man_seg_003_00{z}.tif", labels[z])
    tiles = data(str(tmp_path), slices=3, crop=[20, 24]).held_out(0)
    assert len(tiles) == 2
    for tile, z in zip(tiles, (2, 4), strict=True):
        shown, marked, _ = arrays(tile)
        assert np.array_equal(shown, image[z - 1 : z + 2])
        assert np.array_equal(marked, labels[z])
    samples = data(str(tmp_path), crop=[20, 24], cache_gb=0).build(0)
    assert {find(arrays(samples[i])[0], image.astype(np.float32))[0] for i in range(20)} == {2, 4}


def test_time_points_are_images_of_their_own(tmp_path):
    image, labels = cells((20, 24))
    shown = np.stack([image, image + 50, image + 99])
    for name, voxels in (("a", shown), ("b", np.stack([labels] * 3))):
        meta = Meta.plain("tyx")
        (volume,) = create_volume(
            str(tmp_path / f"{name}.zarr"), box=Box.of(voxels.shape), dtype=voxels.dtype, meta=meta
        )
        volume.write(volume.box, voxels)
    source = {"path": str(tmp_path / "a.zarr"), "labels": str(tmp_path / "b.zarr")}
    tiles = data(source, crop=[20, 24]).held_out(0)
    assert [np.array_equal(arrays(t)[0][0], s) for t, s in zip(tiles, shown, strict=True)] == [True] * 3


def test_a_part_of_a_volume_with_an_offset(tmp_path):
    image, labels = cells((40, 50))
    meta = Meta.plain("yx")
    (volume,) = create_volume(str(tmp_path / "a.zarr"), box=Box((100, 200), (140, 250)), dtype=np.uint8, meta=meta)
    volume.write(volume.box, image)
    tifffile.imwrite(tmp_path / "b.tif", labels)
    source = {"path": str(tmp_path / "a.zarr"), "labels": str(tmp_path / "b.tif"), "bbox": "0:30,10:50"}
    for cache_gb in (0, 1):
        (tile,) = data(source, crop=[30, 40], cache_gb=cache_gb).held_out(0)
        shown, marked, _ = arrays(tile)
        assert np.array_equal(shown[0], image[:30, 10:])
        assert np.array_equal(marked, labels[:30, 10:])


def test_ome_zarr_with_labels(tmp_path):
    image, labels = cells((40, 50))
    path = tmp_path / "a.ome.zarr"
    for place, voxels in ((path, image), (path / "labels" / "nuclei.zarr", labels)):
        (volume,) = create_volume(str(place), box=Box.of((40, 50)), dtype=voxels.dtype, meta=Meta.plain("yx"), mips=1)
        volume.write(volume.box, voxels)
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"labels": ["nuclei.zarr"]}}}
    (path / "labels" / "zarr.json").write_text(json.dumps(group))
    (tile,) = data(str(path), crop=[40, 50]).held_out(0)
    assert np.array_equal(arrays(tile)[0][0], image)
    assert np.array_equal(arrays(tile)[1], labels)


@pytest.mark.parametrize("cache_gb", [0, 1])
def test_masks_become_one_object_per_region(tmp_path, cache_gb):
    image, labels = cells((40, 50))
    mask = np.where(labels > 0, 255, 0).astype(np.uint8)
    mask[labels == 6] = 3
    path = write(tmp_path, "a", image, mask, ".png")
    samples = data({"path": path, "components": True, "ignore": [3]}, crop=[40, 50], cache_gb=cache_gb).build(0)
    _, marked, valid = arrays(samples[0])
    assert np.array_equal(valid, mask != 3)
    assert np.array_equal(marked > 0, mask == 255)
    pairs = {(int(a), int(b)) for a, b in zip(labels[mask == 255], marked[mask == 255], strict=True)}
    assert len(pairs) == len({b for _, b in pairs}) == 5


@pytest.mark.parametrize("method", [Resize(im_dim=64), Padding(im_dim=64), Reflect(im_dim=64)], ids=lambda m: m.kind)
def test_whole_images_are_trimmed(tmp_path, method):
    image, labels = cells((40, 50))
    config = data(write(tmp_path, "a", image, labels), trim=method.to_dict(), ignore=[1])
    (tile,) = config.held_out(0)
    for sample in (config.build(0)[5], tile):
        shown, marked, valid = arrays(sample)
        assert shown.shape == (1, 64, 64)
        assert np.allclose(shown[0], trim(image.astype(np.float32), method, 2))
        assert np.array_equal(untrim(marked, method, (40, 50), "labels"), np.where(labels == 1, 0, labels))
        assert np.array_equal(untrim(valid, method, (40, 50), "valid"), labels != 1)
        assert (valid.sum() == (labels != 1).sum()) == (method.kind != "resize")


def test_large_label_values_are_kept(tmp_path):
    image, labels = cells((40, 50))
    labels = np.where(labels > 0, labels.astype(np.uint32) + 3_000_000_000, 0).astype(np.uint32)
    samples = data(write(tmp_path, "a", image, labels), crop=[40, 50]).build(0)
    assert np.array_equal(arrays(samples[0])[1], labels.astype(np.int64))
    assert len(samples.images[0].places) == 6
