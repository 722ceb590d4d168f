"""What a grid is: a YAML file that says which settings are varied, and how the heads that come of them are validated.

```yaml
out: grids/first                        # where everything goes; the file's name without its ending if not given
contrastive:
  recipe: contrast                      # a shipped recipe, a YAML file, or a run
  set: {data.sources.0.path: cells/train/images, trainer.steps: 4000}
  grid: {task.temperature: [0.05, 0.1]}
  checkpoints: [last]                   # heads are put on each of these; or [all]
models:                                 # each as it stands; no product is made inside
  - {}
  - {task.h_channels: 32}
seg:
  recipe: head_points
  set: {data.points: points.csv, data.sources.0.path: cells/train/images}
  grid: {data.num_points: [20, 200]}
  reads: [embeddings]                   # base, embeddings, scratch or images; several are part of the product
validation:
  source: cells/val
  checkpoints: [best]
  settings: {thresholds: "0.3,0.5,0.7"}
  method: {min_size: 20}
```

Combinations are the product of all lists of ``contrastive.grid``, times ``models``. Inside each, seg combinations are the product
of all lists of ``seg.grid`` and ``reads``, crossed with the contrast checkpoints, and every head checkpoint named is validated.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from lamella.core.config import Config, read_yaml
from lamella.core.errors import UserError
from lamella.recipe.validate.settings import ValidateSettings

Reads = Literal["base", "embeddings", "scratch", "images"]
"""What a head reads: images through the base of the contrast checkpoint, stored embeddings of it, images through the same net from
its first weights, or images themselves."""

Changes = dict[str, Any]
"""Dotted keys of a recipe to values."""


class Varied(Config):
    """A recipe, what is changed in it for all combinations, and what is varied."""

    recipe: str = Field(description="a shipped recipe, a YAML file, or the folder of a run")
    set: Changes = Field({}, description="keys of the recipe to values, for all combinations")
    grid: dict[str, list[Any]] = Field({}, description="keys of the recipe to lists of values")

    @field_validator("grid", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            for key, values in value.items():
                if not isinstance(values, list) or not values:
                    raise ValueError(f"{key} must be a list of values to try, not {values!r}; write [{values}]")
                if any(values.index(one) != n for n, one in enumerate(values)):
                    raise ValueError(f"{key} tries a value twice, in {values}; leave one out")
        return value

    def products(self) -> list[Changes]:
        """A mapping of keys to values for each combination, the last key varying fastest."""
        return [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]


class Contrastive(Varied):
    """How contrast nets are trained, and which of their checkpoints are used."""

    recipe: str = "contrast"
    checkpoints: tuple[str, ...] = Field(("last",), min_length=1, description="checkpoints to put heads on, or [all]")


class Seg(Varied):
    """How heads are trained, and what they read."""

    recipe: str = "head"
    reads: tuple[Reads, ...] = Field(
        ("base",), min_length=1, description="base, embeddings, scratch or images; several vary"
    )
    dtype: Literal["float16", "float32"] = Field("float16", description="numbers of the embeddings that are stored")


class GridValidation(Config):
    """What every head is scored on."""

    source: str = Field(description="images with labels, in any layout that training takes")
    checkpoints: tuple[str, ...] = Field(("best",), min_length=1, description="checkpoints of heads to score, or [all]")
    settings: ValidateSettings = ValidateSettings(samples=0)
    method: Changes = Field({}, description="settings of the method by which objects are made")


class GridConfig(Config):
    """A grid; see the module."""

    contrastive: Contrastive = Contrastive()
    models: tuple[Changes, ...] = Field(
        ({},), min_length=1, description="changes of the contrast recipe, each as it is"
    )
    seg: Seg = Seg()
    validation: GridValidation
    out: str = Field("", description="folder of the grid")


def read_grid(path: str | Path) -> GridConfig:
    """The grid of a YAML file; raises UserError for what is no grid."""
    config = GridConfig.load(read_yaml(path), str(path))
    out = config.out or str(Path(path).with_suffix(""))
    if Path(out).resolve() == Path(path).resolve():
        raise UserError(f"{path} needs 'out', the folder of the grid, since its name has no ending to leave out")
    return config.model_copy(update={"out": out})
