"""Several runs that share one progress bar and one set of workers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from lamella.blockwise import Block, Crew, Executor, PoisonedBlocks, cover, run
from lamella.core import progress as progress_module
from lamella.core.box import Box
from lamella.core.progress import progress
from tests.blockwise.jobs import Fails, Square

BLOCKS = cover(Box.of((100,)), 10)


@dataclass(frozen=True)
class Signs:
    """Writes which process did it."""

    folder: str

    def read(self, block: Block) -> None:
        return None

    def compute(self, block: Block, data: None) -> int:
        return os.getpid()

    def write(self, block: Block, result: int) -> None:
        Path(self.folder, f"{block.index}-{result}").touch()


def test_a_cluster_is_started_once_for_several_runs(tmp_path):
    with Crew(Executor(dask="local:1")) as crew:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            assert run(Signs(str(tmp_path / name)), BLOCKS, label=name, executor=crew).done == 10
    first, second = ({p.name.split("-")[1] for p in (tmp_path / n).iterdir()} for n in ("first", "second"))
    assert len(first) == 1
    assert first == second != {str(os.getpid())}


@pytest.mark.parametrize("dask", [None, "local:1"])
def test_nothing_is_started_for_runs_that_are_done(tmp_path, dask, monkeypatch):
    job, ledger = Square(str(tmp_path)), tmp_path / "ledger"
    run(job, BLOCKS, label="squares", ledger=ledger)
    monkeypatch.setattr("lamella.blockwise.cluster.connected", None)
    with Crew(Executor(dask=dask)) as crew:
        assert run(job, BLOCKS, label="squares", ledger=ledger, executor=crew).skipped == 10


def test_a_shared_bar_counts_all_that_is_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress_module, "_LINE_EVERY", -1.0)
    job, ledger = Square(str(tmp_path)), tmp_path / "ledger"
    run(job, BLOCKS, label="earlier", ledger=ledger)
    capsys.readouterr()
    with progress("all", 30) as meter:
        for name in ("ledger", "other", "third"):
            run(job, BLOCKS, label=name, ledger=tmp_path / name, meter=meter)
    assert (meter.done, meter.total) == (20, 20)
    assert {line.split(":")[0] for line in capsys.readouterr().err.splitlines()} == {"all"}


def test_the_next_run_goes_on_after_a_poisoned_one(tmp_path):
    with Crew(Executor(retries=0)) as crew:
        with pytest.raises(PoisonedBlocks):
            run(Fails(str(tmp_path), always=(3,)), BLOCKS, label="fails", executor=crew)
        assert run(Square(str(tmp_path)), BLOCKS, label="squares", executor=crew).done == 10
