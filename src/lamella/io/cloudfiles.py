"""Precomputed volumes on a local disk in the way that cloud-volume keeps them: a chunk may be a compressed file of its own.

A web server or bucket tells the compression beside the data, and TensorStore undoes it; on a disk the file's ending tells
(``0-64_0-64_0-16.gz``), and TensorStore would find no such chunk and read zeros. Here the chunks that a box touches are
decompressed into memory and decoded there.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.io.base import Header
from lamella.io.store import StoreVolume, arrange

_DECODERS: dict[str, Callable[[bytes], bytes | bytearray]] = {
    ".gz": gzip.decompress,
    ".br": imagecodecs.brotli_decode,
    ".zstd": imagecodecs.zstd_decode,
    ".xz": lzma.decompress,
    ".bz2": bz2.decompress,
}


class CompressedFilesVolume(StoreVolume):
    """A scale, at ``folder / key``, any of whose chunks may be compressed files."""

    def __init__(
        self, header: Header, spec: dict[str, Any], stored_axes: Sequence[str], folder: Path, scale: dict[str, Any]
    ) -> None:
        super().__init__(header, spec, stored_axes)
        self.folder, self.scale = folder, scale

    def _read(self, box: Box) -> NDArray[Any]:
        compressed = {name: file for name in self._chunks(box) if (file := self._compressed(name)) is not None}
        return self._decoded(box, compressed) if compressed else super()._read(box)

    def _write(self, box: Box, array: NDArray[Any]) -> None:
        if any(self._compressed(name) is not None for name in self._chunks(box)):
            raise UserError(
                f"{self.path} keeps its chunks as compressed files, which are only read; write a copy of it elsewhere"
            )
        super()._write(box, array)

    def _chunks(self, box: Box) -> list[str]:
        """Names of the chunks that ``box`` touches; a scale's first chunk begins at its voxel offset."""
        spans = []
        for axis, letter in enumerate("xyz"):
            first, size = self.scale.get("voxel_offset", (0, 0, 0))[axis], self.scale["size"][axis]
            chunk = self.scale["chunk_sizes"][0][axis]
            at = self.meta.axes.index(letter) if letter in self.meta.axes else None
            low, high = (0, size) if at is None else (box.start[at] - first, box.stop[at] - first)
            starts = range(low // chunk * chunk, high, chunk)
            spans.append([f"{first + s}-{first + min(s + chunk, size)}" for s in starts])
        return ["_".join(parts) for parts in product(*spans)]

    def _compressed(self, name: str) -> Path | None:
        """The chunk's compressed file, if that is how it is kept."""
        plain = self.folder / self.scale["key"] / name
        if plain.exists():
            return None
        return next((f for s in _DECODERS if (f := plain.with_name(name + s)).exists()), None)

    def _decoded(self, box: Box, compressed: dict[str, Path]) -> NDArray[Any]:
        private = ts.Context()
        memory = ts.KvStore.open({"driver": "memory"}, context=private).result()
        memory.write("info", (self.folder / "info").read_bytes()).result()
        for name in self._chunks(box):
            file = compressed.get(name)
            plain = self.folder / self.scale["key"] / name
            if file is not None:
                memory.write(f"{self.scale['key']}/{name}", bytes(_DECODERS[file.suffix](file.read_bytes()))).result()
            elif plain.exists():
                memory.write(f"{self.scale['key']}/{name}", plain.read_bytes()).result()
        store = ts.open({**self.spec, "kvstore": {"driver": "memory"}}, context=private).result()
        arranged = arrange(store, self.stored_axes, self.meta.axes, self.box.start)
        return np.asarray(arranged[box.slices()].read(order="C").result())
