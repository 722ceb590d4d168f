"""The torn map: what a crack and a fold do to the voxels of a flat section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Tear:
    """Two halves of a flat section pulled apart or pushed over each other along a seam, by whole voxels.

    ```
    before      aaaaaaaa|bbbbbbbb         | the seam
    opened   aaaaaaaa......bbbbbbbb       opening +6: a gap that shows nothing
    closed       aaaaaa|bbbbbb            opening -4: two voxels of each half are hidden
    ```

    seam: ``(b, s, n)``, for each row the column (where ``along_x``; else for each column the row) of the first voxel of b.
    along_x: ``(b, s)``, whether the halves move along x. opening: ``(b, s)``, voxels; 0 is no tear.
    """

    seam: NDArray[np.int64]
    along_x: NDArray[np.bool_]
    opening: NDArray[np.int64]

    def pick(self, sections: Sequence[int]) -> Tear:
        """The link of these sections, in this order; a shared one stays shared."""
        return (
            self
            if self.num_sections == 1
            else replace(
                self,
                seam=self.seam[:, list(sections)],
                along_x=self.along_x[:, list(sections)],
                opening=self.opening[:, list(sections)],
            )
        )

    @property
    def num_sections(self) -> int:
        return int(self.seam.shape[1])

    @property
    def is_exact(self) -> bool:
        return True

    @property
    def is_identity(self) -> bool:
        return not self.opening.any()

    def pull(self, x: Float[Tensor, "#b #s d n"]) -> Float[Tensor, "#b #s d n"]:
        """In a gap: the seam."""
        beyond, first, second = self._across(x)
        shown = torch.where(beyond < first.clamp_max(0) - 0.5, beyond - first, torch.zeros_like(beyond))
        shown = torch.where(beyond >= second.clamp_min(0) - 0.5, beyond - second, shown)
        return self._moved(x, shown - beyond)

    def push(self, x: Float[Tensor, "#b #s d n"]) -> Float[Tensor, "#b #s d n"]:
        """Of a hidden voxel: the seam."""
        beyond, first, second = self._across(x)
        low, high = beyond + first, beyond + second
        low = torch.where(first > 0, low.clamp_max(-0.5), low)
        high = torch.where(second < 0, high.clamp_min(-0.5), high)
        return self._moved(x, torch.where(beyond < -0.5, low, high) - beyond)

    def hides(self, x: Float[Tensor, "#b #s d n"]) -> Bool[Tensor, "#b #s n"]:
        """Whether the tissue that was at ``x`` is covered by the other half."""
        beyond, first, second = self._across(x)
        return (beyond >= -first - 0.5) & (beyond < -second - 0.5)

    def near(
        self, x: Float[Tensor, "#b #s d n"], reach: Float[Tensor, "#b #s"] | float = 0.0
    ) -> Bool[Tensor, "#b #s n"]:
        """Whether ``x`` afterwards lies in the gap, or within ``reach`` voxels of it or of the closed seam."""
        beyond, first, second = self._across(x)
        reach = torch.as_tensor(reach, device=x.device)[..., None]
        torn = first != second
        return torn & (beyond >= first.clamp_max(0) - 0.5 - reach) & (beyond < second.clamp_min(0) - 0.5 + reach)

    def _across(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Voxels beyond the seam, which lies at -0.5 between -1 and 0; and by how much the first and second half move."""
        along = self._tensor(self.along_x, x)[..., None]
        row, column = torch.where(along, x[:, :, 0], x[:, :, 1]), torch.where(along, x[:, :, 1], x[:, :, 0])
        seam = self._tensor(self.seam, x)
        index = (row + 0.5).floor().nan_to_num().clamp(0, seam.shape[-1] - 1).long()
        place = seam.expand(*index.shape[:2], -1).gather(2, index).to(x.dtype)
        half = np.sign(self.opening) * (np.abs(self.opening) // 2)
        first, second = self._tensor(-half, x)[..., None], self._tensor(self.opening - half, x)[..., None]
        return column - place, first.to(x.dtype), second.to(x.dtype)

    def _moved(self, x: Tensor, by: Tensor) -> Tensor:
        along = self._tensor(self.along_x, x)[..., None]
        zero = torch.zeros_like(by)
        return x + torch.stack([torch.where(along, zero, by), torch.where(along, by, zero)], 2)

    @staticmethod
    def _tensor(values: NDArray[Any], like: Tensor) -> Tensor:
        return torch.as_tensor(values).to(like.device)
