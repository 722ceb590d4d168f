"""What ``lamella evaluate images`` is asked for; kept apart so that ``--help`` imports nothing heavy."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from lamella.core.config import Config
from lamella.ops.image_metrics import Metric, Orientation


class ImageSettings(Config):
    """Options of ``lamella evaluate images``."""

    metrics: tuple[Metric, ...] = Field(
        ("mae", "mse", "r2", "pearson", "ssim", "ms_ssim", "psnr"),
        min_length=1,
        description="what to compute; dice and accuracy are of objects, see threshold",
    )
    orientations: tuple[Orientation, ...] = Field(
        ("xy",), min_length=1, description="planes to compare: xy, xz, yz, and xyz for whole stacks"
    )
    window: int = Field(
        7, ge=3, description="side of SSIM's window, odd: 7 as in scikit-image and Guo et al. 2020, 21 as in microDL"
    )
    masks: str | None = Field(
        None, description="where to count once more: folder of 'lamella prep masks', or masks of the same positions"
    )
    prep: str | None = Field(
        None,
        description="folder of 'lamella prep': take its shading off the truth, since translations are under even light",
    )
    percentiles: str | None = Field(
        None,
        description="LOW,HIGH: bring these percentiles of each true channel to 0 and 1, and cut both images there, before all",
    )
    data_range: float | None = Field(
        None,
        gt=0,
        description="intensities that SSIM and PSNR rest on; greatest less least of each true channel if not given",
    )
    threshold: float = Field(0.5, description="voxels above it are objects, for dice and accuracy")
    positions: tuple[str, ...] | None = Field(
        None, min_length=1, description="positions or images to compare, by name; all that are predicted if not given"
    )
    channels: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="PREDICTED=TRUE by name or number, where names differ; of equal names if not given",
    )
    inputs: str | None = Field(
        None,
        description="what was translated, to be shown beside; a channel of the truth that is not compared if not given",
    )
    sort_by: Metric | None = Field(None, description="metric that puts the worst images first; pearson if not given")
    panels: int = Field(12, ge=0, description="worst planes to show, besides one that is usual and one that is best")

    @field_validator("window")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"a window needs a middle; choose {value - 1} or {value + 1}")
        return value

    @field_validator("percentiles")
    @classmethod
    def _two(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                low, high = (float(part) for part in value.split(","))
            except ValueError:
                raise ValueError("give two numbers with a comma between them, for example 1,99.9") from None
            if not 0 <= low < high <= 100:
                raise ValueError("give two numbers from 0 to 100, the lower first")
        return value

    @field_validator("channels")
    @classmethod
    def _pairs(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        bad = [pair for pair in value or () if pair.count("=") != 1]
        if bad:
            raise ValueError(f"{bad[0]!r} is not PREDICTED=TRUE; write for example 0=DAPI")
        return value

    @model_validator(mode="after")
    def _known(self) -> ImageSettings:
        if self.sort_by is not None and self.sort_by not in self.metrics:
            raise ValueError(f"sort_by {self.sort_by} is not among the metrics {', '.join(self.metrics)}; add it")
        return self

    @property
    def order(self) -> Metric:
        """The metric that images are sorted by: Pearson's correlation where it is computed."""
        if self.sort_by is not None:
            return self.sort_by
        return "pearson" if "pearson" in self.metrics else self.metrics[0]

    @property
    def ends(self) -> tuple[float, float] | None:
        """The two percentiles."""
        if self.percentiles is None:
            return None
        low, high = self.percentiles.split(",")
        return float(low), float(high)
