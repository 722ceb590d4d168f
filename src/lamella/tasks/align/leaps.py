"""Leaps of a field beside damage that nobody has marked: places take over vectors from places around them that fit far better.

Beside a crack a net answers with a ramp, where the truth is a jump. No gradient leads from the one to the other, which may be ten
pixels away; but the true vector is already known on each side, a little further from the crack (as in PatchMatch, Barnes et al. 2009).

```
the net    -6 -6 -5 -3 -1 | 1  3  5  6  6
leapt      -6 -6 -6 -6 -6 | 6  6  6  6  6
```

Tissue that differs from section to section fits by chance here or there, so a vector is taken only if the images then correlate well
in a window, and much better than before.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from lamella.tasks.align.compared import Compared, Field, Map

_WINDOW = 10.0  # pixels (standard deviation); smaller ones fit by chance
_GOOD = 0.6  # correlation that a vector must reach
_BETTER = 0.15  # and by how much it must be above that of the vector that is there
_TRUSTED = 0.5  # trust in the surroundings without which nothing leaps
_SEEN = 0.3  # share of a window that must hold data of both images


def leapt(pair: Compared, field: Field, trust: Map, distance: int) -> Field:
    """The field with vectors of places ``distance`` away, in eight directions, where those fit far better; all on the grid of ``pair``."""
    best, found = field, _fit(pair, field) + _BETTER
    for y, x in product((-distance, 0, distance), repeat=2):
        vectors = _moved(field, y, x)
        fit = _fit(pair, vectors)
        better = (fit > found) & (fit > _GOOD) & (trust > _TRUSTED)
        best, found = torch.where(better, vectors, best), torch.where(better, fit, found)
    return best


def _fit(pair: Compared, field: Field) -> Map:
    """Correlation of the images in windows, through a field of the grid; -1 where too little is seen."""
    a, b, both = pair.compared(field)
    sums = pair.windows(torch.cat([a * b, a * a, b * b, a, b, both], 1) * both, None, _WINDOW)
    mass = sums[:, 5:]
    ab, aa, bb, ma, mb = (sums[:, :5] / mass.clamp_min(1e-3)).split(1, 1)
    fit = (ab - ma * mb) * ((aa - ma * ma).clamp_min(0.02) * (bb - mb * mb).clamp_min(0.02)).rsqrt()
    return torch.where(mass > _SEEN, fit, -1)


def _moved(field: Field, y: int, x: int) -> Tensor:
    """The field's vectors (y, x) places further, of the last place at the edges."""
    reach = max(abs(y), abs(x))
    h, w = field.shape[-2:]
    return F.pad(field, (reach,) * 4, mode="replicate")[..., reach + y : reach + y + h, reach + x : reach + x + w]
