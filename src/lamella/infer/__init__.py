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

from lamella.infer.blend import Blended
from lamella.infer.maps import MapsJob, Target, predict_maps
from lamella.infer.op import NetOp
from lamella.infer.planes import PlaneOp
from lamella.infer.settings import InferSettings

__all__ = ["Blended", "InferSettings", "MapsJob", "NetOp", "PlaneOp", "Target", "predict_maps"]
