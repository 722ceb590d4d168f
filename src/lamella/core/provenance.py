"""What an output says of its making: command, versions, commit, seed, parent."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import lamella

_REPORTED = ("numpy", "torch", "lightning", "tensorstore", "scikit-image", "h5py", "tifffile")


@cache
def versions() -> dict[str, str]:
    """Versions of lamella, Python and the libraries that shape results."""
    found = {"lamella": lamella.__version__, "python": platform.python_version()}
    for name in _REPORTED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def git_commit() -> str | None:
    """Commit of the checkout that lamella runs from, with ``+`` if it has changes; None when installed as a package."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changes else "")


def _now() -> datetime:
    """The time, or what SOURCE_DATE_EPOCH says it is: two runs under one such time can be compared byte by byte."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.fromtimestamp(int(epoch), UTC) if epoch and epoch.isdigit() else datetime.now(UTC)


def provenance(**facts: Any) -> dict[str, Any]:
    """A record to store in an output: how it was made, with ``facts`` (config, seed, parent, source) added."""
    return {
        "command": sys.argv,
        "time": _now().isoformat(timespec="seconds"),
        "versions": versions(),
        "git_commit": git_commit(),
        **facts,
    }
