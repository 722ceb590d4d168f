"""Embedding throughput: ``lamella embed`` beside a plain loop over tiles.

    python benchmarks/embedding.py --side 2048 --threads 1

Prints megapixels per second of the shipped recipe's net. The plain loop cuts the image into tiles with the same context, calls the
net for each without fusing or memory formats, and keeps the result in memory; ours also reads from and writes to OME-Zarr.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch

from lamella.blockwise import Executor
from lamella.core.box import Box
from lamella.core.volume import Meta
from lamella.data.embeddings import Origin
from lamella.data.inputs import find_images
from lamella.io import create_volume
from lamella.ops.intensity import Percentile
from lamella.recipe.find import load_recipe
from lamella.tasks.contrast.embed import embed_images
from lamella.tasks.contrast.embed_settings import EmbedSettings, NetSettings
from lamella.tasks.contrast.embedder import Embedder


@torch.no_grad()
def plain(net: torch.nn.Module, image: np.ndarray, tile: int) -> np.ndarray:
    """Embeddings of an image (y, x), tile by tile with the net's context."""
    context = [-(-c // s) * s for c, s in zip(net.context, net.stride, strict=True)]
    padded = np.pad(image.astype(np.float32), [(c, c) for c in context], mode="reflect")
    result = np.empty((net.out_channels, *image.shape), np.float16)
    for y, x in product(range(0, image.shape[0], tile), range(0, image.shape[1], tile)):
        seen = torch.from_numpy(padded[y : y + tile + 2 * context[0], x : x + tile + 2 * context[1]])[None, None]
        found = net(seen)[0, :, context[0] : context[0] + tile, context[1] : context[1] + tile]
        result[:, y : y + tile, x : x + tile] = found.numpy()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tile", type=int, default=512)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    task = load_recipe("contrast", ["data.sources.0.path=none"]).task.build()
    net = task.net.eval()
    image = np.random.default_rng(0).integers(0, 255, (given.side, given.side)).astype(np.uint8)
    pixels = image.size / 1e6
    with tempfile.TemporaryDirectory() as folder:
        source, done = Path(folder) / "image.ome.zarr", Path(folder) / "done.ome.zarr"
        (volume,) = create_volume(source, box=Box.of(image.shape), dtype="uint8", meta=Meta.plain("yx"))
        volume.write(volume.box, image)
        start = time.process_time()
        plain(net.base, image, given.tile)
        print(f"plain loop:             {pixels / (time.process_time() - start):.2f} Mpx/s of one core")
        for precision in ("float32", "bfloat16"):
            user = Embedder(net, Origin("none", "none", ""), Percentile(), settings=NetSettings(precision=precision))
            found = find_images([str(source)], user)
            start = time.process_time()
            embed_images(
                found,
                str(done),
                user,
                EmbedSettings(preview="none"),
                executor=Executor(workers=1),
                overwrite=True,
            )
            spent = time.process_time() - start
            print(f"lamella embed, {precision}: {pixels / spent:.2f} Mpx/s of one core")


if __name__ == "__main__":
    main()
