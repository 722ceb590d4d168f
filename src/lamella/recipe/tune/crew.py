"""Work in several processes of this machine, which stop when the command that started them does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_stop: Event | None = None
_busy = threading.Lock()


def each(function: Callable[[T], R], items: Sequence[T], jobs: int, log: Path) -> Iterator[R]:
    """``function`` of every item as they are done: one after another here, or in ``jobs`` processes that write to ``log``.

    When the caller is interrupted, items that are not begun are left out and ``abandoned`` becomes true in the others.
    """
    if jobs == 1 or len(items) <= 1:
        yield from map(function, items)
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    workers = min(jobs, len(items))
    with ProcessPoolExecutor(workers, context, _begin, (stop, str(log), workers)) as pool:
        try:
            for future in as_completed([pool.submit(_do, function, item) for item in items]):
                yield future.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def abandoned() -> bool:
    """Whether this is one of several processes and the command that started it has stopped or died."""
    parent = multiprocessing.parent_process()
    return _stop is not None and (_stop.is_set() or (parent is not None and not parent.is_alive()))


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_worker() -> bool:
    """Whether this is one of several processes."""
    return _stop is not None


def say(line: str) -> None:
    """A line for the user, from any of the processes."""
    print(line, file=sys.__stderr__ if is_worker() else sys.stderr, flush=True)


def _do(function: Callable[[T], R], item: T) -> R:
    with _busy:
        if abandoned():
            raise InterruptedError("the command that started this has stopped")
        return function(item)


def _begin(stop: Any, log: str, workers: int) -> None:
    global _stop  # noqa: PLW0603 one for each process, set when it begins
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command decides
    sys.stderr = open(log, "a", buffering=1)  # noqa: SIM115 open as long as the process lives
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, processors() // workers)))  # PyTorch is not imported yet


def _end_with_parent() -> None:
    """A pool whose command was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    with _busy:  # what is at work sees that it is abandoned, and ends in good order
        os._exit(1)
