"""A trained net as an operation on images of any size.

```
op = PlaneOp(NetOp(net, scaling, settings=InferSettings(flips=True)), slices=1)   # 2D nets; NetOp alone for volumes
maps = op(image)                                     # (c, z, y, x) raw intensities to (k, z, y, x) float32
predict_maps(part, op, out, size=(1, 1024, 1024))    # the same, block by block, for volumes larger than memory
```

**Law**: blockwise equals whole. What an op gives at a voxel depends on at most ``op.context`` voxels around it, so each block reads
that much more than it writes. Both compute the same sums; libraries may order them otherwise for arrays of another size, so
single-precision results agree to about 1e-6 and are mostly equal to the bit. ``Blended`` cuts every image into the same tiles
wherever the blocks lie, and is equal to the bit.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamella.infer.blend import Blended
    from lamella.infer.maps import MapsJob, Target, predict_maps
    from lamella.infer.op import NetOp
    from lamella.infer.planes import PlaneOp
    from lamella.infer.settings import InferSettings
    from lamella.infer.trimmed import TrimmedOp

_WHERE = {
    "Blended": "blend",
    "InferSettings": "settings",
    "MapsJob": "maps",
    "NetOp": "op",
    "PlaneOp": "planes",
    "Target": "maps",
    "TrimmedOp": "trimmed",
    "predict_maps": "maps",
}  # imported when first used: settings are needed for help, which is to come without PyTorch

__all__ = ["Blended", "InferSettings", "MapsJob", "NetOp", "PlaneOp", "Target", "TrimmedOp", "predict_maps"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
