"""Align a whole volume of serial sections, of any size.

```
section 0 ── section 1 ── section 2 ── section 3 ── section 4      one chain: each to its aligned neighbour
section 0 ── section 1 ── section 2                                chains of 2, side by side, ...
                          section 2 ── section 3 ── section 4      ... stitched by composing fields
```

That is the sequence (``walk``); ``joint`` links each section to several others.

A section's field leads from its place in the aligned volume straight to the source, so every pixel is resampled once however long
the chain. Memory holds a few tiles. Everything that is done is recorded (see ``blockwise``), and a killed job that is
started again ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lamella.blockwise import Executor, Unfinished
from lamella.blockwise.unfinished import folder_beside
from lamella.core.box import Box
from lamella.core.errors import UserError
from lamella.core.provenance import provenance
from lamella.core.volume import Volume
from lamella.io import open_volume
from lamella.io.coarse import Placed
from lamella.io.place import Place
from lamella.tasks.align.applied import made_on
from lamella.tasks.align.drift import record
from lamella.tasks.align.estimate import Estimator
from lamella.tasks.align.frame import coarse_facts
from lamella.tasks.align.joint import Together
from lamella.tasks.align.masked import Masked
from lamella.tasks.align.settings import AlignSettings
from lamella.tasks.align.walk import Outputs, Walk

ENDINGS = (".ome.zarr", ".zarr", ".n5", ".h5", ".hdf5", ".tif", ".tiff")


def fields_path(out: str) -> str:
    """Where the fields of an aligned volume lie: beside it, ``NAME.fields.ome.zarr``."""
    return _beside(out, "fields")


def masks_path(out: str) -> str:
    """Where the masks of an aligned volume lie, if it was aligned with masks: ``NAME.masks.ome.zarr``."""
    return _beside(out, "masks")


def drift_path(out: str) -> str:
    """Where it is told how far an aligned volume drifted: beside it, ``NAME.drift.json``."""
    return _beside(out, "drift", ".json")


def misalignment_path(out: str) -> str:
    """Where the map of places of an aligned volume that do not fit lies, if it was asked for: ``NAME.misalignment.ome.zarr``."""
    return _beside(out, "misalignment")


def _beside(out: str, what: str, kind: str = ".ome.zarr") -> str:
    url = Place.parse(out).url
    ending = next((e for e in ENDINGS if url.lower().endswith(e)), "")
    return f"{url[: len(url) - len(ending)]}.{what}{kind}"


def align_volume(
    source: Volume,
    out: str,
    estimator: Estimator,
    config: AlignSettings,
    *,
    box: Box | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    facts: dict[str, Any] | None = None,
) -> Outputs:
    """Align ``source`` (axes z y x) inside ``box`` and write the aligned volume to ``out`` and its fields beside it.

    If the source is ``Placed`` by a coarse alignment, sections are aligned as they are placed, and the fields lead to the raw source.
    If it is ``Masked``, what is inside defects is not matched, fields may jump there, and the aligned masks are written beside.
    How far the sections have drifted is told in a small file beside. ``facts`` (run, checkpoint, recipe, mip, data set) are stored in all. Raises UserError for a source that is no stack of
    sections, a box outside it, fewer than two sections, a folder of section files as output, or outputs that exist.
    """
    box, facts = _checked(source, source.box if box is None else box), dict(facts or {})
    check_output(out, source.path)
    masks = source.masks if isinstance(source, Masked) else None
    shown = source.source if isinstance(source, Masked) else source
    coarse = coarse_facts(shown)
    plan = {
        "source": source.path,
        "of_source": {key: facts[key] for key in ("mip", "dataset") if key in facts},
        "source_box": str(source.box),
        "box": str(box),
        "config": config.to_dict(),
        "checkpoint": _digest(estimator),
        "normaliser": repr(estimator.normalise),
        **({} if masks is None else {"masks": masks.path}),
        **coarse,
    }
    others = {"fields": fields_path(out), "drift": drift_path(out)}
    work = _begin(out, plan, overwrite, others | ({} if masks is None else {"masks": masks_path(out)}))
    paths = Outputs(out, fields_path(out), _scratch(out, work), None if masks is None else masks_path(out))
    walk = (Walk if config.method == "sequence" else Together)(source, box, estimator, config, paths)
    facts |= {**({} if masks is None else {"masks": masks.path}), **coarse}
    if not work.created:
        facts |= made_on(shown.source if isinstance(shown, Placed) else shown, torn=walk.jumps)
        with work.creating():
            walk.check()
            walk.create(provenance(source=source.path, box=str(box), config=config.to_dict(), **facts))
    walk.do(work, executor or Executor())
    drift = walk.drift()
    folder, _, name = drift_path(out).rpartition("/")
    Place.parse(folder or ".").write_json(name, record(drift))
    work.finish()
    if Place.parse(out).local is None:
        Place.parse(paths.scratch).clear()
    return replace(paths, drift=tuple(drift))


def _begin(out: str, plan: dict[str, Any], overwrite: bool, others: dict[str, str]) -> Unfinished:
    place = Place.parse(out)
    aligned = str(place.local) if place.local else out
    exists = _exists(aligned)
    what = next((what for what, path in others.items() if _exists(path)), None)
    if not exists and what and not overwrite and not folder_beside(aligned).exists():
        raise UserError(
            f"{what} {others[what]} exist already, where those of {out} would go; choose another name, or replace them with --overwrite"
        )
    return Unfinished.begin(aligned, plan, exists=exists, overwrite=overwrite)


def _scratch(out: str, work: Unfinished) -> str:
    """Where all workers can reach what is needed on the way: beside the output, be it in a bucket."""
    place = Place.parse(out)
    return str(work.folder) if place.local else f"{place.url}.unfinished"


def check_output(out: str, source: str, what: str = "the source") -> None:
    """Refuse an output that cannot be written piece by piece, or that would replace ``source``, which is ``what`` it is made of."""
    if "*" in out:
        raise UserError(
            f"output {out} is a folder of whole sections, and sections are aligned piece by piece; write NAME.ome.zarr and "
            "then run: lamella convert NAME.ome.zarr " + repr(out)
        )
    taken, local = Place.parse(source).local, Place.parse(out).local
    if local is not None and taken is not None and local.resolve() in (taken.resolve(), *taken.resolve().parents):
        raise UserError(f"output {out} is {what}, or holds it; choose another name")


def check_grey(source: Volume) -> None:
    """Refuse values that are not grey, which cannot be averaged."""
    if source.dtype.kind not in "iuf" or source.dtype in ("int64", "uint64"):
        raise UserError(
            f"{source.path} holds {source.dtype}, not grey values; give integers of up to 32 bits or floats (see lamella convert "
            "--dtype)"
        )


def _checked(source: Volume, box: Box) -> Box:
    if source.meta.axes != ("z", "y", "x"):
        raise UserError(
            f"{source.path} has axes {''.join(source.meta.axes)}; aligning needs a stack of grey sections with axes zyx, so "
            "convert one channel or sample of it first"
        )
    if not box.within(source.box):
        raise UserError(f"box {box} does not lie inside {source.path}, whose box is {source.box}; choose one within it")
    if box.shape[0] < 2:
        raise UserError(f"box {box} holds {box.shape[0]} section; give 2 or more to align")
    check_grey(source)
    return box


def _digest(estimator: Estimator) -> str:
    """Fingerprint of the net: a changed checkpoint must not go on with another's sections."""
    buffer = io.BytesIO()
    for name, value in sorted(estimator.net.state_dict().items()):
        buffer.write(name.encode())
        buffer.write(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return hashlib.sha256(buffer.getvalue()).hexdigest()[:16]


def _exists(path: str) -> bool:
    if "://" not in path:
        return Path(path).exists()
    try:
        open_volume(path)
    except UserError:
        return False
    return True
