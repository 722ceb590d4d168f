"""The field from source to target that agrees with the one found from target to source.

Both ways are estimated as if the other did not exist, so what they have in common was seen twice. Where they hardly differ the result
lies half way between the one and the inverse of the other, and then going there and back ends where it began. Where they differ by
pixels, as beside damage, at least one of them is wrong and their mean is too: there the one under which the images correlate better has
the say.

Beyond the edges of the field that is turned round its edge values go on: of a tile, this is wrong as far in as sections lie apart.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lamella.ops.field import invert
from lamella.tasks.align.compared import GRID, Compared, Map, Seen, halved

_WINDOW = 30.0  # pixels (standard deviation) in which images are correlated
_APART = 2.0  # pixels by which two ways differ where the correlation has half its say
_CHOICE = 8.0  # power of the correlation by which ways count that differ by far more
_LEAST = 0.15  # correlation below which one is as good as another: unrelated sections reach as much by chance


def agreed(
    there: Float[Tensor, "b 2 hc wc"],
    back: Float[Tensor, "b 2 hc wc"],
    source: Float[Tensor, "b 1 hs ws"],
    target: Map,
    levels: int,
    margin: int,
) -> Float[Tensor, "b 2 hc wc"]:
    """One field of ``there`` and the inverse of ``back``, all ``levels`` halvings coarser than the images, in their own pixels.

    ``source`` is ``margin`` pixels, an even number, larger than ``target`` on each side.
    """
    other = invert(back)
    pair = Compared(Seen.of(halved(source)), Seen.of(halved(target)), levels - 1, margin // 2, GRID - 1)
    apart = (there - other).square().sum(1, keepdim=True) * 4**levels
    power = _CHOICE * apart / (apart + _APART**2)
    mine, its = (_worth(pair, field) ** power for field in (there, other))
    return (mine * there + its * other) / (mine + its)


def _worth(pair: Compared, field: Float[Tensor, "b 2 hc wc"]) -> Float[Tensor, "b 1 hc wc"]:
    """How well the images correlate through ``field``, on its grid."""
    alike = pair.correlation(field, _WINDOW).clamp_min(_LEAST)
    return F.interpolate(alike, field.shape[-2:], mode="bilinear") if field.shape[-2:] != alike.shape[-2:] else alike
