"""Tables as CSV, and plain values that JSON can hold."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as CSV, a column for every key that occurs; floats with six digits.

    >>> csv_text([{"a": 1, "b": 0.5}])
    'a,b\\n1,0.5\\n'
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, keys, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return text.getvalue()


def finite(value: Any) -> Any:
    """``value`` with NaN and infinity as None, which JSON can hold."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
