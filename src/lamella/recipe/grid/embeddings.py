"""The data of a head with stored embeddings in the place of its images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamella.core.errors import UserError
from lamella.io.pairs import look
from lamella.recipe.embedder import load_embedder

_KEPT = ("names", "bbox", "z", "weight", "ignore", "components")  # of a source, what is said of embeddings as of images


def embedded(values: Mapping[str, Any], run: str, folder: Path, dtype: str) -> dict[str, Any]:
    """The values of a recipe whose sources are embeddings by ``run``, in numbered folders below ``folder``.

    Embeddings that are there are taken as they are; each folder of images is embedded once.
    """
    result: dict[str, Any] = json.loads(json.dumps(values))
    for part in ("data", "validation"):
        data = result.get(part)
        if not isinstance(data, dict) or "sources" not in data:
            continue
        labelled = data.get("kind", "labelled") == "labelled"
        data["sources"] = [_source(source, run, folder, dtype, labelled=labelled) for source in data["sources"]]
    return result


def _source(source: Mapping[str, Any], run: str, folder: Path, dtype: str, *, labelled: bool) -> dict[str, Any]:
    place = _place(str(source["path"]), run, folder, dtype)
    kept = {key: source[key] for key in _KEPT if key in source}
    if not labelled:
        return {**kept, "path": str(place)}
    return {**kept, "path": str(place), "labels": _labels(source), "layout": "folders"}


def _place(path: str, run: str, folder: Path, dtype: str) -> Path:
    """The folder with the embeddings of the images at ``path``, made if it is not there or not whole."""
    index = folder / "sources.json"
    known: list[str] = json.loads(index.read_text()) if index.exists() else []
    place = folder / str(known.index(path) if path in known else len(known))
    if path not in known:
        _embed(path, run, place, dtype)
        from lamella.core.files import write_json

        write_json(index, [*known, path])
    return place


def _embed(path: str, run: str, place: Path, dtype: str) -> None:
    from lamella.blockwise.unfinished import folder_beside
    from lamella.data.inputs import find_images
    from lamella.tasks.contrast.embed import embed_images
    from lamella.tasks.contrast.embed_settings import EmbedSettings

    if place.exists() and not folder_beside(place).exists():  # finished, and killed before that was noted
        return
    embedder, facts = load_embedder(run)
    place.parent.mkdir(parents=True, exist_ok=True)
    settings = EmbedSettings.load({"dtype": dtype, "preview": "none"})
    embed_images(find_images([path], embedder), str(place), embedder, settings, facts=facts)


def _labels(source: Mapping[str, Any]) -> str:
    """The folder that holds the labels of a source's images."""
    pairs = look(str(source["path"]), source.get("labels"), source.get("layout", "auto")).pairs
    folders = {str(Path(pair.labels).parent) for pair in pairs if pair.labels}
    if len(folders) != 1 or len(pairs) < 1:
        raise UserError(
            f"the labels of {source['path']} lie in {len(folders)} folders, and a head on stored embeddings needs them in one; use "
            "reads: [base] with task.freeze_base: true, which learns the same"
        )
    return folders.pop()
