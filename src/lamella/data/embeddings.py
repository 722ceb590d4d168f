"""Which checkpoint stored embeddings come from, so that nothing is trained or predicted on those of another."""

from __future__ import annotations

from collections.abc import Mapping
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


def origin_of(volume: Volume) -> Origin:
    """The checkpoint that the embeddings of ``volume`` come from; raises UserError for a volume that is none."""
    found = volume.meta.provenance.get(KEY)
    if not isinstance(found, Mapping):
        raise UserError(f"{volume.path} does not say which run made it; give embeddings that `lamella embed` wrote")
    return Origin(**{name: str(found[name]) for name in ("run", "checkpoint", "sha256")})


def need_origin(volume: Volume, wanted: Origin) -> None:
    """Refuse embeddings of another checkpoint than the ``wanted`` one, be it of the same name."""
    found = origin_of(volume)
    if found.sha256 != wanted.sha256:
        raise UserError(
            f"{volume.path} holds embeddings of {found}, and this needs those of {wanted}; embed the images again: "
            f"lamella embed {wanted.run}:{wanted.checkpoint} IMAGES OUT"
        )
