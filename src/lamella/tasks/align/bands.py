"""Band matrices along the sections of a stack, one for every pixel, solved directly.

A symmetric matrix A over z is kept as its lower bands: ``bands[j][i]`` is A[i, i - j], a map over pixels, for j from 0 to the largest
distance of sections that are linked. Its factors are L D Lᵀ (Golub and Van Loan, *Matrix Computations*, 4.3): D in place of the
diagonal, L below it.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

Bands = list[Float[Tensor, "z 1 h w"]]


def factored(bands: Bands) -> Bands:
    """The factors of a positive definite matrix, in the same layout."""
    factors = [band.clone() for band in bands]
    width = len(bands) - 1
    for i in range(len(bands[0])):
        for j in range(max(0, i - width), i):
            for m in range(max(0, i - width, j - width), j):
                factors[i - j][i] -= factors[i - m][i] * factors[0][m] * factors[j - m][j]
            factors[i - j][i] /= factors[0][j]
            factors[0][i] -= factors[i - j][i].square() * factors[0][j]
    return factors


def solved(factors: Bands, right: Float[Tensor, "z c h w"]) -> Float[Tensor, "z c h w"]:
    """What the factored matrix takes to ``right``."""
    x, width, num = right.clone(), len(factors) - 1, len(right)
    for i in range(num):
        for j in range(max(0, i - width), i):
            x[i] -= factors[i - j][i] * x[j]
    x /= factors[0]
    for i in range(num - 1, -1, -1):
        for j in range(i + 1, min(num, i + width + 1)):
            x[i] -= factors[j - i][j] * x[j]
    return x
