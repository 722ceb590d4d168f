"""How a net is applied, apart from what it was trained to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lamella.core.config import Config

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16", "float16"]


class InferSettings(Config):
    """Precision, averaging over turned copies, and how much is computed at once."""

    precision: Precision = Field(
        "auto", description="numbers inside the net; auto: bfloat16 where the processor computes with it, else float32"
    )
    flips: bool = Field(False, description="average over mirrored copies, 4 of an image and 8 of a volume")
    rotations: bool = Field(False, description="and over copies turned by 90 degrees in the plane, twice as many")
    tile: int | None = Field(
        None, ge=16, description="largest side in voxels that goes through the net at once; whole blocks if not given"
    )
    batch: int = Field(1, ge=1, description="tiles or sections that go through the net together; more help a GPU only")
    overlap: int | None = Field(
        None,
        ge=0,
        description="blend tiles over so many voxels, instead of giving them all the context that the net looks at",
    )

    def dtype(self, device: str) -> torch.dtype:
        """The numbers to compute with on ``device``."""
        import torch

        if self.precision != "auto":
            return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[self.precision]
        return torch.bfloat16 if has_bfloat16(device) else torch.float32


def has_bfloat16(device: str) -> bool:
    """Whether a device computes with bfloat16 faster than with float32, and not by imitation."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device != "cpu":
        return False
    known = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(ask is not None and ask() for ask in known)
