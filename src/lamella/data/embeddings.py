"""Which checkpoint stored embeddings come from, so that nothing is trained or predicted on those of another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lamella.core.errors import UserError
from lamella.core.volume import Volume

KEY = "embedding"  # of the record in a volume's provenance


@dataclass(frozen=True)
class Origin:
    """The run, its checkpoint, and the SHA-256 of that checkpoint's file."""

    run: str
    checkpoint: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.run}:{self.checkpoint} ({self.sha256[:8]})"

    def record(self) -> dict[str, Any]:
        """What a volume of embeddings keeps of it."""
        return {KEY: asdict(self)}

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Origin | None:
        """What a record (a volume's provenance, a run's) keeps of an origin; None if nothing."""
        found = record.get(KEY)
        if not isinstance(found, Mapping):
            return None
        return cls(**{name: str(found[name]) for name in ("run", "checkpoint", "sha256")})


def origin_of(volume: Volume) -> Origin:
    """The checkpoint that the embeddings of ``volume`` come from; raises UserError for a volume that is none."""
    found = Origin.read(volume.meta.provenance)
    if found is None:
        raise UserError(f"{volume.path} does not say which run made it; give embeddings that `lamella embed` wrote")
    return found


def is_embedding(volume: Volume) -> bool:
    """Whether a volume says that it holds embeddings."""
    return KEY in volume.meta.provenance


def common_origin(volumes: Iterable[Volume]) -> Origin | None:
    """The checkpoint that all ``volumes`` are embeddings of; None if they are images.

    Raises UserError for embeddings of several checkpoints, and for embeddings among images.
    """
    first, *others = volumes
    if not is_embedding(first):
        if mixed := next((v.path for v in others if is_embedding(v)), None):
            raise UserError(f"{mixed} holds embeddings and {first.path} an image; give one or the other")
        return None
    origin = origin_of(first)
    for other in others:
        need_origin(other, origin)
    return origin


def need_origin(volume: Volume, wanted: Origin) -> None:
    """Refuse embeddings of another checkpoint than the ``wanted`` one, be it of the same name."""
    found = origin_of(volume)
    if found.sha256 != wanted.sha256:
        raise UserError(
            f"{volume.path} holds embeddings of {found}, and this needs those of {wanted}; embed the images again: "
            f"lamella embed {wanted.run}:{wanted.checkpoint} IMAGES OUT"
        )
