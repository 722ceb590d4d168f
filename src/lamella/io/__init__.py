"""Volumes of any format and size. The formats' libraries are imported when a name is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamella.io.description import Description, describe
    from lamella.io.frames import present
    from lamella.io.hdf5 import create_archive
    from lamella.io.open import create_volume, open_volume
    from lamella.io.plan import mip_factors
    from lamella.io.positions import positions_of
    from lamella.io.preprocessing import Preprocessing

_WHERE = {
    "open_volume": "open",
    "create_volume": "open",
    "create_archive": "hdf5",
    "Description": "description",
    "describe": "description",
    "mip_factors": "plan",
    "positions_of": "positions",
    "present": "frames",
    "Preprocessing": "preprocessing",
}

__all__ = [
    "Description",
    "Preprocessing",
    "create_archive",
    "create_volume",
    "describe",
    "mip_factors",
    "open_volume",
    "positions_of",
    "present",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
