"""The ledger: one file that says which blocks of a job are done, so that a killed job goes on where it stopped.

The first line is JSON and tells whose blocks these are; each further line is the index of a block that is done. Lines are only
ever added, after the block's write returned. What a crash leaves of a last line is dropped on opening: at worst a block is done
again, which changes nothing. Lines are kept back for up to a fifth of a second, so that many small blocks cost one write.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lamella.core.errors import UserError
from lamella.core.files import write_text

try:
    import fcntl
except ImportError:  # Windows has no such lock: there, running one job twice at once is the user's to avoid
    fcntl = None  # type: ignore[assignment]

_FLUSH_EVERY = 0.2  # seconds
_FORMAT = 1
_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some network file systems know no locks


class Ledger:
    """Which of ``count`` blocks are done. Use as a context manager; without a path it only counts in memory."""

    def __init__(self, path: Path | None, identity: Mapping[str, Any], count: int) -> None:
        self.path, self._done, self._num_done = path, bytearray(count), 0
        self._kept_back: list[int] = []
        self._flushed = time.monotonic()
        self._file = None
        if path is not None:
            identity = json.loads(json.dumps(identity))
            if not path.exists():
                write_text(path, json.dumps({"ledger": _FORMAT, "count": count, **identity}) + "\n")
            self._file = path.open("rb+", buffering=0)
            self._lock()
            self._load(identity)

    def __len__(self) -> int:
        """How many blocks are done."""
        return self._num_done

    def __contains__(self, index: int) -> bool:
        return bool(self._done[index])

    def pending(self) -> Iterator[int]:
        """The indices that are not done, in order; blocks recorded meanwhile are left out."""
        return (i for i, done in enumerate(self._done) if not done)

    def record(self, index: int) -> None:
        """Note that block ``index`` is written."""
        if self._done[index]:
            return
        self._done[index] = 1
        self._num_done += 1
        if self._file is not None:
            self._kept_back.append(index)
            if time.monotonic() - self._flushed > _FLUSH_EVERY:
                self.flush()

    def flush(self) -> None:
        """Put what was recorded on disk."""
        self._flushed = time.monotonic()
        if self._file is not None and self._kept_back:
            lines = "".join(f"{i}\n" for i in self._kept_back).encode()
            while lines:
                lines = lines[self._file.write(lines) :]
            os.fsync(self._file.fileno())
            self._kept_back.clear()

    def close(self) -> None:
        if self._file is not None:
            try:
                self.flush()
            finally:
                self._file.close()
                self._file = None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self) -> None:
        if fcntl is None or self._file is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS_HERE:
                self._file.close()
                raise UserError(f"another process is at work with {self.path}; wait for it or stop it") from None

    def _load(self, identity: Mapping[str, Any]) -> None:
        assert self._file is not None
        text = self._file.read()
        head, _, rest = text.partition(b"\n")
        self._check(head, identity)
        good = len(head) + 1
        for line in rest.splitlines(keepends=True):
            index = _index(line, len(self._done))
            if index is None:
                break
            self._num_done += not self._done[index]
            self._done[index] = 1
            good += len(line)
        self._file.truncate(good)
        self._file.seek(good)

    def _check(self, head: bytes, identity: Mapping[str, Any]) -> None:
        stored: Any = None
        with contextlib.suppress(ValueError):
            stored = json.loads(head)
        if not isinstance(stored, dict) or stored.get("ledger") != _FORMAT:
            raise UserError(f"{self.path} is not a ledger of blocks; move it away and run again")
        changed = differences({k: stored.get(k) for k in identity}, identity)
        if changed:
            raise UserError(
                f"{self.path} was begun by another job ({'; '.join(changed)}); "
                "run with the former settings to finish it, or start anew with --overwrite or another output"
            )


def _index(line: bytes, count: int) -> int | None:
    """The index that a whole line holds, None for a torn or damaged one."""
    text = line[:-1]
    if not line.endswith(b"\n") or not text.isdigit() or int(text) >= count:
        return None
    return int(text)


def differences(before: Any, now: Any, where: str = "") -> list[str]:
    """One phrase per value that differs between two trees of plain values: ``"job.dtype was 'uint8', is 'float32'"``."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = [*before, *(k for k in now if k not in before)]
        return [d for k in keys for d in differences(before.get(k), now.get(k), f"{where}.{k}" if where else str(k))]
    return [] if before == now else [f"{where} was {before!r}, is {now!r}"]
