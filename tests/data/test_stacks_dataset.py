"""Training windows: what a source holds at the place drawn, normalised as the whole section would be, the same at any time."""

import gc
import os
import pickle
import tempfile

import imageio.v3 as iio
import numpy as np
import pytest
from torch.utils.data import DataLoader

from lamella.core.box import Box
from lamella.core.config import Config
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.data.sample import collate
from lamella.data.shared import SharedSections
from lamella.data.stacks import StacksData
from lamella.io import create_archive, create_volume, open_volume
from lamella.ops.downsample import downsample_masks, downsample_sections
from lamella.ops.normalise import Local, MinMax, Plain, Rank


def tissue(shape, seed=0, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    voxels = rng.integers(1, 250, shape).astype(dtype)
    voxels[..., 3:9, 20:32] = 0
    return voxels


def write_volume(path, voxels, mips=1):
    volumes = create_volume(
        str(path), box=Box.of(voxels.shape), dtype=voxels.dtype, meta=Meta.plain("zyx"), mips=mips, chunk=(1, 64, 64)
    )
    for k, volume in enumerate(volumes):
        volume.write(volume.box, downsample_sections(voxels, 2**k))
    return str(path)


def write_archive(path, mip=0, **datasets):
    meta = Meta.plain("nzyx", provenance={"mip": mip})
    volumes = create_archive(path, {n: (Box.of(v.shape), v.dtype, meta) for n, v in datasets.items()})
    for name, volume in volumes.items():
        volume.write(volume.box, datasets[name])
    return str(path)


def data(*sources, **changes):
    values = {"crop": 16, "sections": 2, "normaliser": {"kind": "none"}, "length": 12, **changes}
    return StacksData.load({"sources": sources, **values})


def windows(samples):
    return [s["sections"].tensor.numpy()[0] for s in samples]


def is_somewhere(window, whole):
    """Whether ``window`` (s, y, x) is a piece of ``whole`` (z, y, x)."""
    view = np.lib.stride_tricks.sliding_window_view(whole, window.shape)
    return bool((view == window).all((-3, -2, -1)).any())


def test_windows_are_pieces_of_the_source(tmp_path):
    voxels = tissue((5, 40, 50))
    samples = data({"path": write_volume(tmp_path / "v.zarr", voxels)}).build(0)
    for sample, window in zip(samples, windows(samples), strict=True):
        assert sample["sections"].kind == "image"
        assert window.shape == (2, 16, 16)
        assert window.dtype == np.float32
        assert is_somewhere(window, (voxels / 255).astype(np.float32))
    assert len({w.tobytes() for w in windows(samples)}) == 12


def test_a_sample_depends_on_seed_and_index_alone(tmp_path):
    config = data({"path": write_volume(tmp_path / "v.zarr", tissue((5, 40, 50)))}, length=None)
    one, two, other = config.build(3), config.build(3), config.build(4)
    backwards = [one[i]["sections"].tensor for i in (900, 7, 2)]
    again = [two[i]["sections"].tensor for i in (2, 7, 900)][::-1]
    assert all(bool((a == b).all()) for a, b in zip(backwards, again, strict=True))
    assert not bool((other[7]["sections"].tensor == one[7]["sections"].tensor).all())
    with pytest.raises(UserError, match=r"data\.length"):
        len(one)


def test_indices_past_the_length_begin_again(tmp_path):
    samples = data({"path": write_volume(tmp_path / "v.zarr", tissue((5, 40, 50)))}, length=3).build(0)
    assert len(samples) == len(list(samples)) == 3
    assert np.array_equal(windows([samples[1]])[0], windows([samples[4]])[0])


NORMALISERS = [Rank(radius=5), Local(sigma=2), MinMax(), Plain()]


@pytest.mark.parametrize("normaliser", NORMALISERS, ids=lambda c: c.kind)
@pytest.mark.parametrize("cache_gb", [0, 1])
@pytest.mark.parametrize("bbox", [None, "1:5,6:40,9:44"])
def test_a_window_is_a_piece_of_the_normalised_section(tmp_path, normaliser, cache_gb, bbox):
    voxels = tissue((5, 40, 50))
    path = write_volume(tmp_path / "v.zarr", voxels)
    config = data({"path": path, "bbox": bbox}, normaliser=normaliser.to_dict(), cache_gb=cache_gb)
    whole = np.stack([normaliser.build()(v) for v in voxels])
    samples = config.build(1)
    assert (samples.parts[0].sections._kept is not None) == bool(cache_gb)
    for _ in range(2):  # the second time from what was kept
        assert all(is_somewhere(w, whole) for w in windows(samples))


@pytest.mark.parametrize("mip", [0, 1, 2])
def test_mips_are_read_where_stored_and_made_where_not(tmp_path, mip):
    voxels = tissue((4, 78, 90))
    path = write_volume(tmp_path / "v.zarr", voxels, mips=2)
    stored = downsample_sections(voxels, 2) if mip else voxels
    whole = (downsample_sections(stored, 2) if mip == 2 else stored).astype(np.float32)
    samples = data({"path": path, "mip": mip}, crop=9).build(0)
    assert samples.parts[0].source.images.box.shape == whole.shape
    assert all(is_somewhere(np.rint(w * 255), whole) for w in windows(samples))


def test_archives_give_all_their_data_sets_and_go_on_from_their_mip(tmp_path):
    a, b = tissue((3, 4, 24, 24), 1), tissue((2, 3, 32, 40), 2)
    path = write_archive(tmp_path / "a.h5", mip=2, a=a, b=b)
    samples = data({"path": path}, length=40).build(0)
    assert [p.source.mip for p in samples.parts] == [2, 2]
    stacks = [(s / 255).astype(np.float32) for s in (*a, *b)]
    homes = [[is_somewhere(w, s) for s in stacks].index(True) for w in windows(samples)]
    assert set(homes) == set(range(5))
    assert data({"path": path, "dataset": "b"}).build(0).parts[0].source.images.box.shape == b.shape
    coarser = data({"path": path, "dataset": "b", "mip": 3}, crop=8).build(0)
    whole = downsample_sections(b, 2).astype(np.float32)
    assert all(any(is_somewhere(np.rint(w * 255), s) for s in whole) for w in windows(coarser))
    with pytest.raises(UserError, match=r"mip 1 .* does not exist"):
        data({"path": path, "mip": 1}).build(0)


def test_mixed_sources_are_drawn_by_their_size_and_weight(tmp_path):
    big = write_volume(tmp_path / "big.zarr", np.full((4, 46, 46), 200, np.uint8))  # 3 x 31 x 31 windows
    small = write_volume(tmp_path / "small.zarr", np.full((4, 46, 26), 100, np.uint8))  # 3 x 31 x 11
    for weight, share in ((1.0, 11 / 42), (31 / 11, 0.5)):
        samples = data({"path": big}, {"path": small, "weight": weight}, length=400).build(0)
        found = np.mean([w[0, 0, 0] < 0.5 for w in windows(samples)])
        assert found == pytest.approx(share, abs=0.07)


def test_selected_and_excluded_parts_are_kept_to(tmp_path):
    voxels = np.zeros((8, 40, 40), np.uint8)
    voxels += np.arange(1, 9, dtype=np.uint8)[:, None, None]
    path = write_volume(tmp_path / "v.zarr", voxels)
    samples = data({"path": path, "z": "1:7", "exclude": ["4:5,:,:"]}, length=60).build(0)
    seen = {round(float(w[0, 0, 0] * 255)) - 1 for w in windows(samples)}
    assert seen == {1, 2, 5}
    with pytest.raises(UserError, match="exclude less"):
        data({"path": path, "z": "3:6", "exclude": ["4:5,:,:"]}).build(0)


def test_masks_come_from_the_same_place(tmp_path):
    voxels = tissue((4, 32, 40))
    masks = (voxels % 3).astype(np.uint8)
    images = write_volume(tmp_path / "v.zarr", voxels)
    write_volume(tmp_path / "m.zarr", masks)
    plain = write_volume(tmp_path / "p.zarr", np.full((4, 32, 40), 9, np.uint8))
    samples = data({"path": images, "masks": str(tmp_path / "m.zarr")}, {"path": plain}, length=30, cache_gb=0).build(0)
    for sample in samples:
        window, mask = (sample[n].tensor.numpy() for n in ("sections", "masks"))
        values = np.rint(window * 255)
        assert np.array_equal(mask, np.zeros_like(mask) if (values == 9).all() else values % 3)
    archive = write_archive(tmp_path / "a.h5", images=voxels[None], masks=masks[None])
    for sample in data({"path": archive, "mip": 1}, crop=8).build(0):
        assert is_somewhere(sample["masks"].tensor.numpy()[0], downsample_masks(masks, 2).astype(np.float32))


def test_mostly_missing_windows_are_drawn_again(tmp_path):
    voxels = tissue((3, 40, 80))
    voxels[:, :, 20:60] = 0
    path = write_volume(tmp_path / "v.zarr", voxels)
    for cache_gb in (0, 1):
        assert all((w == 0).mean() <= 0.5 for w in windows(data({"path": path}, length=40, cache_gb=cache_gb).build(0)))
    with pytest.raises(UserError, match="bbox with tissue"):
        data({"path": path, "bbox": ":,22:58"}).build(0)[0]


def test_a_folder_of_sections_is_a_source(tmp_path):
    voxels = tissue((4, 30, 30))
    (tmp_path / "sections").mkdir()
    for z, section in enumerate(voxels):
        iio.imwrite(tmp_path / "sections" / f"{z:03d}.png", section)
    samples = data({"path": str(tmp_path / "sections")}).build(0)
    assert all(is_somewhere(w, (voxels / 255).astype(np.float32)) for w in windows(samples))


def test_workers_give_the_same_samples_and_share_what_they_normalised(tmp_path):
    path = write_volume(tmp_path / "v.zarr", tissue((5, 40, 50)))
    samples = data({"path": path}, normaliser={"kind": "rank", "radius": 5}).build(0)
    expected = windows(data({"path": path}, normaliser={"kind": "rank", "radius": 5}, cache_gb=0).build(0))
    batches = DataLoader(
        samples, batch_size=4, num_workers=1, collate_fn=collate, multiprocessing_context="forkserver", timeout=60
    )
    found = np.concatenate([b["sections"].tensor.numpy() for b in batches])
    assert np.array_equal(found, np.stack(expected))
    kept = samples.parts[0].sections._kept
    assert sum(kept.get(i) is not None for i in range(5)) > 1, "the worker's sections should be seen here"


def test_samples_survive_pickling(tmp_path):
    path = write_volume(tmp_path / "v.zarr", tissue((5, 40, 50)))
    samples = data({"path": path}).build(0)
    copy = pickle.loads(pickle.dumps(samples))
    assert np.array_equal(windows(copy), windows(samples))


@pytest.mark.parametrize("in_memory", [True, False])
def test_shared_sections_are_one_memory_and_begin_anew_where_it_is_gone(tmp_path, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = SharedSections(3, (4, 5))
    packed = pickle.dumps(kept)
    other = pickle.loads(packed)
    other.put(1, np.full((4, 5), 7, np.float32))
    section = kept.get(1)
    assert section is not None
    assert (section == 7).all()
    assert kept.get(0) is None
    del kept, section
    gc.collect()
    assert not list(tmp_path.iterdir()), "the file ends with its maker"
    assert pickle.loads(packed).get(1) is None


def test_mistakes_are_told_before_training(tmp_path):
    good = tissue((5, 40, 50))
    path = write_volume(tmp_path / "v.zarr", good)
    nan = write_volume(tmp_path / "nan.zarr", np.full((5, 40, 50), np.nan, np.float32))
    wide = write_volume(tmp_path / "wide.zarr", good.astype(np.float32) * 9)
    flat = write_volume(tmp_path / "flat.zarr", good[:1])
    masks = write_volume(tmp_path / "masks.zarr", good)
    create_volume(str(tmp_path / "c.zarr"), box=Box.of((3, 2, 40, 40)), dtype=np.uint8, meta=Meta.plain("czyx"))
    cases = [
        ({"path": str(tmp_path / "none")}, {}, "does not exist"),
        ({"path": path, "dataset": "x"}, {}, "'x'"),
        ({"path": path, "z": "2:9"}, {}, "lie inside"),
        ({"path": path, "bbox": "0:90,0:90"}, {}, "lie inside"),
        ({"path": path}, {"sections": 6}, r"offers 5 sections .* needs 6 sections"),
        ({"path": path, "z": "1:2"}, {}, "offers 1 sections"),
        ({"path": path}, {"crop": 41}, "needs 41 x 41"),
        ({"path": path, "mip": 2}, {}, "needs 16 x 16"),
        ({"path": nan}, {}, "NaN"),
        ({"path": wide}, {}, "minmax"),
        ({"path": str(tmp_path / "c.zarr")}, {}, "axes c z y x"),
        ({"path": path, "masks": flat}, {}, "same voxels"),
        ({"path": path, "masks": masks}, {}, "masks hold 0"),
    ]
    for source, changes, message in cases:
        with pytest.raises(UserError, match=message):
            data(source, **changes).build(0)
    with pytest.raises(UserError, match="did you mean 'bbox'"):
        data({"path": path, "bbos": "0:1"})
    assert isinstance(data({"path": path}), Config)
    assert open_volume(path).box.shape == good.shape
