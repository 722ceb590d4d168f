"""Instances from maps: which voxels are one object.

Maps are float arrays (*space), two or three axes ``(z) y x``, that a network predicts with values from 0 to 1: ``objects`` (a voxel lies in an
object), ``boundaries`` (it lies on the edge of one), ``distance`` (1 in the middle of its object, falling to 0 at its edge). A
method gives labels: int32 (*space), 0 background, objects from 1.

```
method = Basins().build()
labels = method({"objects": p, "distance": d}, voxel_size=(2.0, 0.5, 0.5))
```

Images that do not fit in memory are labelled block by block. From the maps of a read box, ``parts`` labels the write box: its
labels are *pieces* of objects. Each part also tells how large its pieces are, and which voxels *outside* the block belong to, or
touch, which piece (``Links``). With all parts at hand, the links are looked up in the neighbours' labels, and ``join`` says which
pieces are one object:

```
for block in cover(box, size, method.context, bounds=box):      # 1. any order, in parallel
    part = method.parts(maps of block.read, block.write, block.read, voxel_size)
    store part.labels; keep part.pieces, part.links
first = numbers of pieces in the parts before each part         # 2. all pieces in one table
pairs = rows (first[part] + links.labels - 1, first[q] + q.labels[link's voxel] - 1), q being the part that holds the voxel
objects = method.join(Pieces.stack(all pieces), pairs, all saddles)
labels of a block = concatenate([[0], objects[first:first + n]])[its stored labels]    # 3.
```

**Law**: the result equals ``method(all maps)`` up to renumbering, for any blocks. It is exact for ``Components``, ``Basins`` and ``Membranes``,
whatever the size of the objects, since what crosses a block's edge is followed through links, not guessed from an overlap.
``DistanceWatershed`` floods, and a flood can come from far: see its ``reach``. Where a patch of foreground is larger, a link's voxel
may be background in its own block (label 0), and such links are passed over. ``Agglomeration`` and ``Mutex``, too, look no farther than
their ``reach``; they take the map ``affinities`` (n, *space), a value for each offset (see ``lamella.ops.affinities``).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lamella.ops.instances.affine import Merge, Segmentation, SeriesMethod
from lamella.ops.instances.agglomeration import Agglomeration, AgglomerationMethod
from lamella.ops.instances.base import Links, Maps, Method, Parts, Pieces
from lamella.ops.instances.basins import Basins, BasinsMethod
from lamella.ops.instances.components import Components, ComponentsMethod
from lamella.ops.instances.membranes import Membranes, MembranesMethod
from lamella.ops.instances.mutex import Mutex, MutexMethod
from lamella.ops.instances.watershed import DistanceWatershed, DistanceWatershedMethod

InstancesConfig = Annotated[
    Components | DistanceWatershed | Basins | Membranes | Agglomeration | Mutex, Field(discriminator="kind")
]

__all__ = [
    "Agglomeration",
    "AgglomerationMethod",
    "Basins",
    "BasinsMethod",
    "Components",
    "ComponentsMethod",
    "DistanceWatershed",
    "DistanceWatershedMethod",
    "InstancesConfig",
    "Links",
    "Maps",
    "Membranes",
    "MembranesMethod",
    "Merge",
    "Method",
    "Mutex",
    "MutexMethod",
    "Parts",
    "Pieces",
    "Segmentation",
    "SeriesMethod",
]
