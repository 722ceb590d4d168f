"""The contract for computing one block.

```
|--------- read box ---------|
|context|  write box |context|
```
"""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray


class Op(Protocol):
    """What one block becomes.

    ``context`` is the halo in voxels, per spatial axis, that the op needs around the voxels it gives; ``stride`` what a block's
    start and size must be multiples of. Calling it with the read box's array returns the array of the write box.
    """

    context: tuple[int, ...]
    stride: tuple[int, ...]

    def __call__(self, patch: NDArray[Any]) -> NDArray[Any]: ...
