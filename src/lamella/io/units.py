"""Units of length: one name for each, whatever a format calls it.

Inside lamella, units have the long names that OME-Zarr asks for ("nanometer"); names that are not known here are kept as they are.
"""

from __future__ import annotations

from lamella.core.errors import UserError

_NM = {
    "angstrom": 0.1,
    "picometer": 1e-3,
    "nanometer": 1.0,
    "micrometer": 1e3,
    "millimeter": 1e6,
    "centimeter": 1e7,
    "meter": 1e9,
}
_SHORT = {
    "angstrom": "Å",
    "picometer": "pm",
    "nanometer": "nm",
    "micrometer": "µm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "second": "s",
    "millisecond": "ms",
}
_LONG = {short: long for long, short in _SHORT.items()} | {
    "um": "micrometer",
    "μm": "micrometer",  # Greek mu; the micro sign is above
    "micron": "micrometer",
    "microns": "micrometer",
    "micrometre": "micrometer",
    "nanometre": "nanometer",
    "\\u00B5m": "micrometer",
    "sec": "second",
}


def long_unit(name: str | None) -> str:
    """The unit's long name, "" for none.

    >>> long_unit("nm"), long_unit("pixel")
    ('nanometer', '')
    """
    name = (name or "").strip()
    return "" if name.lower() in ("pixel", "pixels", "px", "reference frame") else _LONG.get(name, name)


def short_unit(name: str) -> str:
    """The unit's symbol, or its name if it has none here."""
    return _SHORT.get(name, name)


def to_nm(value: float, unit: str) -> float:
    """``value`` in nanometres; a length without unit is taken as nanometres."""
    if unit and unit not in _NM:
        raise UserError(f"unit {unit!r} is not a length that converts to nanometres; use one of {', '.join(_NM)}")
    return value * _NM.get(unit, 1.0)
