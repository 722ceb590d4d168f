"""What ``lamella defects`` can be asked for; kept apart so that ``--help`` imports nothing heavy."""

from __future__ import annotations

from pydantic import Field

from lamella.core.config import Config


class FindSettings(Config):
    """How masks are made of a detector's maps, where not as its recipe says; sizes in pixels of the mip that is read."""

    crack: float | None = Field(None, ge=0, le=1, description="probability above which a pixel lies in a crack")
    fold: float | None = Field(None, ge=0, le=1, description="probability above which a pixel lies on a fold")
    cover: float | None = Field(None, ge=0, le=1, description="probability above which a pixel is covered or bare")
    max_pool: int | None = Field(None, ge=1, description="side of the square whose highest probability counts, odd")
    mean_pool: int | None = Field(None, ge=1, description="side of the square over which these are averaged, odd")
    min_size: int | None = Field(None, ge=0, description="pixels below which a connected defect is dropped")
    near: int | None = Field(None, ge=0, description="pixels around a defect that are marked 1")
    missing: bool | None = Field(None, description="missing data (0) are inside too; otherwise they are normal")
    maps: bool = Field(False, description="write the probabilities too, beside the masks")
    plot: bool = Field(False, description="draw the sections with most defects, beside the masks")
    block: int = Field(1024, ge=64, description="side of the blocks that are computed at once, in pixels")

    @property
    def changes(self) -> dict[str, float | int | bool]:
        """What is to be otherwise than the recipe of the run says."""
        others = ("maps", "plot", "block")
        return {k: v for k, v in self.model_dump().items() if k not in others and v is not None}
