"""Embeddings of images of any size: block by block equal to the whole, exact after a kill, and of one checkpoint."""

import json
import sys

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from lamella.cli.main import main
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.volume import Meta
from lamella.data.embeddings import Origin, need_origin, origin_of
from lamella.data.inputs import find_images
from lamella.infer import InferSettings
from lamella.io import create_volume, open_volume
from lamella.ops.intensity import Percentile
from lamella.ops.principal import Principal
from lamella.tasks.contrast import embed as embedding
from lamella.tasks.contrast.config import ContrastConfig
from lamella.tasks.contrast.embed import embed_images
from lamella.tasks.contrast.embed_preview import check_preview
from lamella.tasks.contrast.embed_settings import EmbedSettings
from lamella.tasks.contrast.embedder import Embedder
from lamella.train.fit import seeded

ORIGIN = Origin("first", "best", "ab" * 32)
NETS = {
    "2D": {"kind": "unet", "features": [4, 6], "down": [2]},
    "2D valid": {"kind": "unet", "features": [4, 6], "down": [2], "convs": 1, "padding": "valid", "norm": "none"},
    "2D folded": {"kind": "unet", "features": [4, 6], "down": [2], "fold": 2, "edges": "replicate"},
    "3D anisotropic": {"kind": "unet", "ndim": 3, "features": [3, 4], "down": [[1, 2, 2]], "convs": 1},
}


def embedder(net="2D", slices=1, precision="float32"):
    name, _, beside = net.partition(" with ")
    learnt = {"h_channels": 3, "beside": [0, 9.0]} if beside else {"h_channels": 5}
    config = ContrastConfig.load({"net": NETS[name], "channels": slices, **learnt})
    built = seeded(config.build, 0).net.eval()
    return Embedder(built, ORIGIN, Percentile(), slices, settings=InferSettings(precision=precision))


def volume(path, shape, axes="zyx", seed=0):
    array = np.random.default_rng(seed).integers(0, 250, shape).astype(np.uint8)
    sizes = {"z": 40.0, "y": 8.0, "x": 8.0}
    meta = Meta.plain(
        axes, voxel_size=tuple(sizes.get(a, 1.0) for a in axes), units=tuple("nm" if a in sizes else "" for a in axes)
    )
    (made,) = create_volume(path, box=Box.of(shape), dtype="uint8", meta=meta)
    made.write(made.box, array)
    return str(path)


def embed(source, out, user, **settings):
    return embed_images(find_images([str(source)], user), str(out), user, EmbedSettings(preview="none", **settings))


def stored(path):
    found = open_volume(path)
    return found.read(found.box)


@pytest.mark.parametrize(
    ("net", "slices", "shape"),
    [
        ("2D", 1, (2, 70, 53)),
        ("2D", 3, (4, 40, 37)),
        ("2D valid", 1, (1, 61, 45)),
        ("2D folded", 1, (1, 61, 45)),
        ("3D anisotropic", 1, (7, 50, 41)),
        ("2D folded with intensities", 1, (1, 90, 75)),
        ("2D valid with intensities", 1, (1, 90, 75)),
        ("3D anisotropic with intensities", 1, (7, 50, 41)),
    ],
)
def test_blocks_equal_the_whole(tmp_path, net, slices, shape):
    user = embedder(net, slices)
    source = volume(tmp_path / "v.ome.zarr", shape)
    embed(source, tmp_path / "blocks.ome.zarr", user, dtype="float32", block=16)
    embed(source, tmp_path / "whole.ome.zarr", user, dtype="float32", block=1024)
    blocks, whole = (stored(tmp_path / f"{name}.ome.zarr") for name in ("blocks", "whole"))
    assert whole.shape == (5, *shape)
    assert whole.std() > 1e-3
    np.testing.assert_allclose(blocks, whole, atol=1e-5 * np.abs(whole).max(), rtol=1e-5)
    item = find_images([source], user).items[0]
    direct = user.op()(user.scaling(item.parts[0])(item.parts[0].read(Box.of(shape))))
    np.testing.assert_allclose(whole, direct, atol=1e-5 * np.abs(whole).max(), rtol=1e-5)


def test_what_is_written_keeps_places_and_says_where_it_came_from(tmp_path):
    source = volume(tmp_path / "v.ome.zarr", (3, 40, 44))
    embed(source, tmp_path / "e.ome.zarr", embedder())
    found = open_volume(tmp_path / "e.ome.zarr")
    assert "".join(found.meta.axes) == "czyx"
    assert found.dtype == np.float16
    assert found.meta.voxel_size == (1, 40, 8, 8)
    assert found.meta.units == ("", "nm", "nm", "nm")
    assert origin_of(found) == ORIGIN
    assert found.meta.provenance["source"] == source
    exact = tmp_path / "f.ome.zarr"
    embed(source, exact, embedder(), dtype="float32")
    np.testing.assert_array_equal(found.read(found.box), stored(exact).astype(np.float16))


def test_embeddings_of_another_checkpoint_are_refused(tmp_path):
    source = volume(tmp_path / "v.ome.zarr", (1, 32, 32))
    embed(source, tmp_path / "e.ome.zarr", embedder())
    found = open_volume(tmp_path / "e.ome.zarr")
    need_origin(found, ORIGIN)
    with pytest.raises(UserError, match=r"of first:best \(abababab\), and this needs those of first:best \(cdcdcdcd\)"):
        need_origin(found, Origin("first", "best", "cd" * 32))
    with pytest.raises(UserError, match="does not say which run made it"):
        origin_of(open_volume(source))


def test_a_folder_of_images_of_several_sizes_and_times(tmp_path):
    for k, shape in enumerate([(30, 34), (41, 20)]):
        (tmp_path / "set").mkdir(exist_ok=True)
        tifffile.imwrite(
            tmp_path / "set" / f"i{k}.tif", np.random.default_rng(k).integers(0, 99, shape).astype(np.uint8)
        )
    user = embedder()
    done = embed_images(
        find_images([str(tmp_path / "set")], user), str(tmp_path / "out"), user, EmbedSettings(block=16)
    )
    assert [open_volume(path).box.shape for path in done.volumes] == [(5, 30, 34), (5, 41, 20)]
    record = json.loads((tmp_path / "out" / "embed.json").read_text())
    assert [row["name"] for row in record["images"]] == ["i0", "i1"]
    assert record["embedding"]["sha256"] == ORIGIN.sha256
    fitted = Principal.from_dict(json.loads((tmp_path / "out" / "components.json").read_text()))
    shown = iio.imread(tmp_path / "out" / "previews" / "i1.png")
    np.testing.assert_array_equal(shown[:, -20:], fitted.colours(stored(done.volumes[1])))
    film = volume(tmp_path / "film.ome.zarr", (3, 32, 32), "tyx")
    embed(film, tmp_path / "film-e.ome.zarr", user)
    again = open_volume(tmp_path / "film-e.ome.zarr")
    assert "".join(again.meta.axes) == "tcyx"
    assert (stored(tmp_path / "film-e.ome.zarr")[0] != stored(tmp_path / "film-e.ome.zarr")[2]).any()


def test_a_killed_job_goes_on_and_ends_with_the_same(tmp_path, monkeypatch):
    user, source = embedder(), volume(tmp_path / "v.ome.zarr", (1, 80, 80))
    embed(source, tmp_path / "whole.ome.zarr", user, block=32)
    written = []
    write = embedding.EmbedJob.write

    def dying(job, block, result):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(block.index)
        write(job, block, result)

    out = tmp_path / "e.ome.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(embedding.EmbedJob, "write", dying)
        with pytest.raises(UserError, match="KeyboardInterrupt"):
            embed(source, out, user, block=32)
    with pytest.raises(UserError, match="begun with other settings"):
        embed(source, out, user, block=32, dtype="float32")
    later = []
    monkeypatch.setattr(embedding.EmbedJob, "write", lambda job, b, r: (later.append(b.index), write(job, b, r))[1])
    embed(source, out, user, block=32)
    assert len(later) < 9
    assert set(later) | set(written) == set(range(9))
    np.testing.assert_array_equal(stored(out), stored(tmp_path / "whole.ome.zarr"))
    with pytest.raises(UserError, match="exists already"):
        embed(source, out, user, block=32)


def test_numbers_beyond_float16_are_named(tmp_path):
    user = embedder()
    user.net.base.head.conv.weight.data *= 1e7
    source = volume(tmp_path / "v.ome.zarr", (1, 32, 32))
    with pytest.raises(UserError, match="use --dtype float32"):
        embed(source, tmp_path / "e.ome.zarr", user)
    embed(source, tmp_path / "f.ome.zarr", user, dtype="float32")


def test_mistakes_are_named_before_anything_is_written(tmp_path):
    (tmp_path / "set").mkdir()
    for k in range(2):
        tifffile.imwrite(tmp_path / "set" / f"i{k}.tif", np.zeros((30, 34), np.uint8))
    user = embedder()
    for source, out, message in (
        (tmp_path / "set", tmp_path / "e.ome.zarr", "one volume, but there are 2 images"),
        (tmp_path / "set" / "i0.tif", tmp_path / "e.tif", r"written as OME-Zarr; end .* in \.ome\.zarr"),
        (tmp_path / "set", tmp_path / "set", "is, or holds, the image"),
        (tmp_path / "set", tmp_path, "is, or holds, the image"),
    ):
        with pytest.raises(UserError, match=message):
            embed(source, out, user)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]
    volumes = embedder("3D anisotropic")
    with pytest.raises(UserError, match="the net was trained on volumes"):
        find_images([str(tmp_path / "set" / "i0.tif")], volumes)


def test_umap_is_asked_for_before_anything_is_embedded(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    check_preview("pca")
    with pytest.raises(UserError, match=r"install lamella\[umap\]"):
        check_preview("umap")


def test_the_verbs_from_images_to_embeddings(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "set").mkdir()
    for k in range(2):
        tifffile.imwrite(tmp_path / "set" / f"i{k}.tif", rng.integers(0, 99, (40, 40)).astype(np.uint8))
    small = "task.net={kind: unet, features: [4, 4], down: [2]}"
    steps = ["trainer.steps=2", "trainer.batch_size=2", "trainer.precision='32'", "trainer.validate_every=2"]
    data = [
        "data.sources.0.path=set",
        "data.crop=32",
        "data.overhang=0",
        "task.point_density=0.1",
        "validation.length=2",
    ]
    with pytest.raises(SystemExit) as stopped:
        main(["train", "contrast", *data, small, *steps, "--name", "first"])
    assert not stopped.value.code
    with pytest.raises(SystemExit) as stopped:
        main(["embed", "first:last", "set", "out"])
    assert not stopped.value.code
    assert "embeddings of 2 images, 16 channels of float16: out" in capsys.readouterr().out
    found = origin_of(open_volume("out/i1.ome.zarr"))
    assert (found.run, found.checkpoint) == ("first", "last")
    with pytest.raises(SystemExit) as stopped:
        main(["embed", "first:none", "set", "other"])
    assert stopped.value.code == 2
