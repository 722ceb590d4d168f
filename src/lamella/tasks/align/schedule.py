"""When which level of the pyramid trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field as Setting

from lamella.core.config import Config
from lamella.nets.aligner import AlignerConfig
from lamella.train.task import Phase


class Together(Config):
    """All levels from the first step, each scored: the finest level, where neighbours match best, teaches the encoders."""

    kind: Literal["together"] = "together"

    def phases(self, net: AlignerConfig, steps: int) -> Sequence[Phase]:
        return (Phase(),)

    def stop_level(self, net: AlignerConfig, step: int, steps: int) -> int:
        return net.skip


class LevelByLevel(Config):
    """From the coarsest level down, as the original was trained (its ``trunc``).

    Each level has a stretch of steps: first its aligner trains alone at the full learning rate (in the first stretch with all
    encoders), then everything at ``tune_factor`` of it. After the finest level everything trains at ``tune_factor``.
    """

    kind: Literal["level_by_level"] = "level_by_level"
    share: float = Setting(
        0.5, gt=0, le=1, description="share of the steps spent on the stretches, the rest is fine-tuning"
    )
    tune_share: float = Setting(0.5, ge=0, le=1, description="share of a stretch in which everything trains")
    tune_factor: float = Setting(0.2, gt=0, description="learning rate of that part, against the full one")
    fresh_optimiser: bool = Setting(True, description="forget the optimiser's moments at each change")

    def phases(self, net: AlignerConfig, steps: int) -> Sequence[Phase]:
        levels = range(net.levels - 1, net.skip - 1, -1)
        stretch = self._stretch(net, steps)
        tune = Phase(train={"": self.tune_factor})
        phases = []
        for n, level in enumerate(levels):
            start = n * stretch
            alone = {f"aligners.{level}": 1.0} | ({"encoders": 1.0} if n == 0 else {})
            phases.append(Phase(start, f"level {level}", alone, self.fresh_optimiser))
            turn = start + max(1, round(stretch * (1 - self.tune_share)))
            if turn < start + stretch:
                phases.append(Phase(turn, f"tune to level {level}", tune.train, self.fresh_optimiser))
        end = len(levels) * stretch
        if end < steps:
            phases.append(Phase(end, "tune all", tune.train, self.fresh_optimiser))
        return phases

    def stop_level(self, net: AlignerConfig, step: int, steps: int) -> int:
        return max(net.skip, net.levels - 1 - step // self._stretch(net, steps))

    def _stretch(self, net: AlignerConfig, steps: int) -> int:
        return max(2, int(steps * self.share) // (net.levels - net.skip))
