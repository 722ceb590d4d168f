"""Runs in this process: retries, poison, full disks, interruption; resumed equals uninterrupted."""

from __future__ import annotations

import _thread
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lamella.blockwise import Executor, Ledger, PoisonedBlocks, cover, run
from lamella.blockwise.job import identity
from lamella.core.box import Box
from lamella.core.errors import UserError
from tests.blockwise.jobs import Fails, Square, Stops, outputs

BLOCKS = cover(Box.of((1000,)), 10)


def squares():
    return {f"{b.index:05d}": (np.arange(b.write.start[0], b.write.stop[0]) ** 2).tobytes() for b in BLOCKS}


@pytest.mark.parametrize("workers", [1, 3])
def test_every_block_is_written_and_reported(tmp_path, workers):
    report = run(Square(str(tmp_path)), BLOCKS, label="squares", executor=Executor(workers=workers))
    assert (report.total, report.skipped, report.done, report.retried) == (100, 0, 100, 0)
    assert outputs(tmp_path) == squares()


def test_what_the_ledger_holds_is_not_done_again(tmp_path):
    job, ledger = Square(str(tmp_path)), tmp_path / "ledger"
    with Ledger(ledger, identity(job, BLOCKS), 100) as book:
        for index in range(40):
            book.record(index)
    report = run(job, BLOCKS, label="squares", ledger=ledger)
    assert (report.skipped, report.done) == (40, 60)
    assert outputs(tmp_path).keys() == set(list(squares())[40:])
    assert run(job, BLOCKS, label="squares", ledger=ledger).done == 0


def test_a_changed_job_and_changed_blocks_are_refused(tmp_path):
    ledger = tmp_path / "ledger"
    run(Square(str(tmp_path)), BLOCKS, label="squares", ledger=ledger)
    with pytest.raises(UserError, match=r"job\.pause was 0\.0, is 0\.5"):
        run(Square(str(tmp_path), 0.5), BLOCKS, label="squares", ledger=ledger)
    with pytest.raises(UserError, match=r"blocks\.size"):
        run(Square(str(tmp_path)), cover(Box.of((1000,)), 20), label="squares", ledger=ledger)


def test_a_job_that_cannot_be_compared_is_refused():
    with pytest.raises(TypeError, match="identity"):
        identity(Square(object()), BLOCKS)


def test_a_passing_failure_is_tried_again(tmp_path):
    report = run(Fails(str(tmp_path), once=(3, 50, 99)), BLOCKS, label="fails")
    assert report.retried == 3
    assert outputs(tmp_path) == squares()


def test_a_poisoned_block_is_named_the_rest_is_done_and_a_rerun_tries_only_it(tmp_path):
    ledger = tmp_path / "ledger"
    with pytest.raises(PoisonedBlocks, match=r"(?s)1 of 100.*block 7 \(70:80\).*unwell") as caught:
        run(Fails(str(tmp_path), always=(7,)), BLOCKS, label="fails", ledger=ledger)
    assert list(caught.value.failures) == [7]
    assert len(outputs(tmp_path)) == 99
    with pytest.raises(UserError, match="always"):
        run(Fails(str(tmp_path)), BLOCKS, label="fails", ledger=ledger)
    with pytest.raises(PoisonedBlocks):
        run(Fails(str(tmp_path), always=(7,)), BLOCKS, label="fails", ledger=ledger)


@pytest.mark.parametrize("retries", [0, 3])
def test_a_block_is_tried_as_often_as_asked_and_no_more(tmp_path, retries, monkeypatch):
    tried = []
    monkeypatch.setattr(Square, "read", lambda self, block: tried.append(block.index))
    with pytest.raises(PoisonedBlocks):
        run(
            Fails(str(tmp_path), always=(1,)),
            BLOCKS[:1] + BLOCKS[1:2],
            label="fails",
            executor=Executor(retries=retries),
        )
    assert tried.count(1) == retries + 1


def test_if_all_blocks_fail_the_run_stops_early(tmp_path):
    blocks = cover(Box.of((100_000,)), 1)
    with pytest.raises(PoisonedBlocks, match="not tried"):
        run(Fails(str(tmp_path), always=tuple(range(100_000))), blocks, label="fails", executor=Executor(retries=0))


@pytest.mark.parametrize(("what", "message"), [("user", "no such mip"), ("disk", "disk is full")])
def test_what_no_retry_mends_stops_at_once_and_keeps_what_is_done(tmp_path, what, message):
    ledger, job = tmp_path / "ledger", Stops(str(tmp_path), what=what)
    with pytest.raises(UserError, match=message):
        run(job, BLOCKS, label="stops", ledger=ledger)
    assert (tmp_path / "attempts").read_text() == "x"
    with Ledger(ledger, identity(job, BLOCKS), 100) as book:
        assert 40 < len(book) < 60
        assert all(f"{i:05d}" in outputs(tmp_path) for i in range(100) if i in book)


@dataclass
class Overlap:
    """Counts how many blocks are at each step at once, and how many are held in memory."""

    most_computing: int = 0
    most_held: int = 0

    def __post_init__(self):
        self.lock, self.now_computing, self.held, self.steps = threading.Lock(), 0, 0, set()

    def read(self, block):
        with self.lock:
            self.held += 1
            self.most_held = max(self.most_held, self.held)
        self._step("read")

    def compute(self, block, data):
        with self.lock:
            self.now_computing += 1
            self.most_computing = max(self.most_computing, self.now_computing)
        self._step("compute")
        with self.lock:
            self.now_computing -= 1

    def write(self, block, result):
        self._step("write")
        with self.lock:
            self.held -= 1

    def _step(self, name):
        time.sleep(0.005)


def test_steps_overlap_and_blocks_in_memory_are_bounded():
    job, blocks = Overlap(), cover(Box.of((60,)), 1)
    run(job, blocks, label="overlap", executor=Executor(workers=1))
    assert job.most_computing == 1
    assert 2 <= job.most_held <= 3  # one after another would hold a single block


@pytest.fixture
def hears_ctrl_c():
    """In the background of a shell, Python is born deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_leaves_a_ledger_to_go_on_from(tmp_path, hears_ctrl_c):
    ledger, job = tmp_path / "ledger", Square(str(tmp_path), 0.01)

    def interrupt() -> None:
        while len(outputs(tmp_path)) < 5:
            time.sleep(0.001)
        _thread.interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(job, BLOCKS, label="squares", ledger=ledger)
    report = run(job, BLOCKS, label="squares", ledger=ledger)
    assert 0 < report.skipped < 100
    assert outputs(tmp_path) == squares()


def test_killed_twice_and_resumed_gives_the_same_bytes(tmp_path):
    ledger = tmp_path / "ledger"
    command = [sys.executable, "-m", "tests.blockwise.jobs", str(tmp_path), str(ledger)]
    for pause in (0.8, 0.7):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        assert process.stdout.readline()
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert len(outputs(tmp_path)) < 100
    report = run(Square(str(tmp_path), 0.03), BLOCKS, label="squares", ledger=ledger)
    assert report.done < 100
    assert outputs(tmp_path) == squares()
