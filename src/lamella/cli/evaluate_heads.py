"""``lamella evaluate heads`` and ``lamella evaluate affinities``: objects at several thresholds, scored against labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lamella.cli.place import Hardware
from lamella.infer.settings import InferSettings
from lamella.recipe.validate.settings import ValidateSettings

if TYPE_CHECKING:
    from lamella.recipe.validate.tables import Validation

_FLAT = Parameter(name="*")


@dataclass(frozen=True)
class Checkpoints(Hardware):
    """Which checkpoints are validated, and on which hardware."""

    checkpoints: str = ""
    "Checkpoints of the run with commas between them, or all; that of RUN, or its best, if not given."

    @property
    def names(self) -> list[str]:
        return [part.strip() for part in self.checkpoints.split(",") if part.strip()]


def heads(
    run: str,
    source: str,
    out: Path,
    *changes: str,
    settings: Annotated[ValidateSettings, _FLAT] = ValidateSettings(),  # noqa: B008 immutable
    net: Annotated[InferSettings, _FLAT] = InferSettings(),  # noqa: B008 immutable
    checkpoints: Annotated[Checkpoints, _FLAT] = Checkpoints(),
    overwrite: bool = False,
) -> None:
    """Validate checkpoints of a head run: objects at several thresholds, scored against labels.

    Of affinities, fragments are made and merged (or objects made by mutex watershed); of classes, objects are made of the probability
    of the foreground. OUT gets VOI and Rand (split, merge, both) and AP of each checkpoint, sample and threshold as tables, their
    means over samples with the best, the samples as OME-Zarr, the history of merges, and report.html. A command that was stopped goes
    on when it is repeated.

    Examples
    --------
    ```
    lamella evaluate heads head labelled/ validated
    lamella evaluate heads head labelled/ validated --checkpoints all --thresholds 0.3,0.5,0.7
    lamella evaluate heads head labelled/ validated seeds=minima scorer=mean has_background=true --best AP50
    lamella evaluate heads head sections/ validated --components --background ignored --kind mutex
    ```

    Parameters
    ----------
    run
        Trained head run: RUN or RUN:CHECKPOINT.
    source
        Images with labels, in any layout that training takes; embeddings where the head was trained on them.
    out
        Folder for tables, volumes and the report.
    changes
        Settings of how objects are made, KEY=VALUE: those of the method in docs/validation.md.
    overwrite
        Replace the validation that OUT holds.
    """
    from lamella.core.memory import keep_freed_memory
    from lamella.recipe.find import split_checkpoint
    from lamella.recipe.validate.candidates import heads as find
    from lamella.recipe.validate.run import validate
    from lamella.runs import RunFolder

    keep_freed_memory()
    found = find(run, checkpoints.names, net, device=checkpoints.device, runs=checkpoints.runs)
    facts = {"run": run, "checkpoints": [head.name for head in found]}
    done = validate(found, source, out, settings, _fields(changes), overwrite=overwrite, facts=facts)
    folder = RunFolder.open(split_checkpoint(run)[0], checkpoints.runs)
    folder.score(f"heads_{out.resolve().name}", done.best()[0])
    _tell(done, out)


def affinities(
    volumes: str,
    source: str,
    out: Path,
    *changes: str,
    settings: Annotated[ValidateSettings, _FLAT] = ValidateSettings(),  # noqa: B008 immutable
    overwrite: bool = False,
) -> None:
    """Validate stored affinities, whoever made them: objects at several thresholds, scored against labels.

    VOLUMES is a volume with axes c z y x (or c y x), or a folder with one for each image of SOURCE, of the same name. Two channels are
    the affinities to the voxel before along y x, three along z y x; others need offsets=[[...], ...]. OUT gets what
    lamella evaluate heads writes.

    Examples
    --------
    ```
    lamella evaluate affinities predicted/ labelled/ validated
    lamella evaluate affinities stack.affinities.ome.zarr stack.tif validated --labels stack_labels.tif
    lamella evaluate affinities predicted/ labelled/ validated "offsets=[[-1,0],[0,-1],[-9,0],[0,-9]]" --kind mutex
    ```

    Parameters
    ----------
    volumes
        Affinities from 0 to 1.
    source
        Images with labels, in any layout that training takes.
    out
        Folder for tables, volumes and the report.
    changes
        Settings of how objects are made, KEY=VALUE: those of the method in docs/validation.md.
    overwrite
        Replace the validation that OUT holds.
    """
    from lamella.recipe.validate.candidates import stored
    from lamella.recipe.validate.run import validate

    fields = _fields(changes)
    found = stored(volumes, fields.get("offsets"))
    _tell(validate([found], source, out, settings, fields, overwrite=overwrite, facts={"affinities": volumes}), out)


def _fields(changes: Sequence[str]) -> dict[str, Any]:
    from lamella.core.config import override

    return override({}, changes)


def _tell(found: Validation, out: Path) -> None:
    from lamella.recipe.validate.report import headlines

    for figure in headlines(found):
        print(f"{figure.name}: {figure.value}" + (f"  ({figure.note})" if figure.note else ""))
    print(f"report: {out / 'report.html'}")
