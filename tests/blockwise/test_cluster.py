"""Runs on a Dask cluster of this machine: workers die, hang and come back; one block always kills its worker."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import yaml

from lamella.blockwise import Executor, Ledger, PoisonedBlocks, cover, run
from lamella.blockwise.cluster import ClusterFile, Keeper, LocalCluster, Lsf, Scheduler, Slurm, close, parse_cluster
from lamella.blockwise.job import identity
from lamella.core.box import Box
from lamella.core.errors import UserError
from tests.blockwise.jobs import Fails, Kills, Square, Stops, outputs
from tests.blockwise.test_runner import squares

BLOCKS = cover(Box.of((1000,)), 10)


@pytest.fixture(scope="module")
def scheduler():
    """A scheduler that runs already, with a worker."""
    with LocalCluster(workers=1).build() as cluster:
        yield cluster.scheduler_address


def test_killed_workers_change_nothing_and_a_killer_is_told_from_its_neighbours(tmp_path):
    job = Kills(str(tmp_path), once=(2, 60), kill_once=(5, 40), kill_always=(17,), hang_once=(80,))
    executor = Executor(dask="local:2", retries=1, timeout_s=4.0)
    with pytest.raises(PoisonedBlocks, match=r"block 17 \(170:180\): its worker died every time") as caught:
        run(job, BLOCKS, label="kills", ledger=tmp_path / "ledger", executor=executor)
    assert list(caught.value.failures) == [17]
    assert outputs(tmp_path) == {k: v for k, v in squares().items() if k != "00017"}


def test_a_run_begun_on_a_cluster_goes_on_in_this_process(tmp_path, scheduler):
    job, ledger = Fails(str(tmp_path), once=(30, 31), always=(50,)), tmp_path / "ledger"
    with pytest.raises(PoisonedBlocks, match=r"block 50.*unwell"):
        run(job, BLOCKS, label="fails", ledger=ledger, executor=Executor(dask=scheduler, retries=1))
    assert len(outputs(tmp_path)) == 99
    with Ledger(ledger, identity(job, BLOCKS), 100) as book:
        assert list(book.pending()) == [50]
    with pytest.raises(PoisonedBlocks):
        run(job, BLOCKS, label="fails", ledger=ledger, executor=Executor(retries=0))


def test_a_users_mistake_on_a_worker_stops_the_run(tmp_path, scheduler):
    with pytest.raises(UserError, match="no such mip") as caught:
        run(Stops(str(tmp_path), what="user"), BLOCKS, label="stops", executor=Executor(dask=scheduler))
    assert not isinstance(caught.value, PoisonedBlocks)
    assert (tmp_path / "attempts").read_text() == "x"


def test_a_worker_that_hangs_while_it_starts_does_not_keep_a_cluster_open():
    others = _workers()
    cluster = LocalCluster(workers=1).build()
    (first,) = _workers() - others
    os.kill(first, signal.SIGKILL)
    until = time.monotonic() + 30
    while not (again := _workers() - others - {first}) and time.monotonic() < until:
        time.sleep(0.001)
    (second,) = again
    os.kill(second, signal.SIGSTOP)
    close(cluster, within_s=3.0)
    while second in _workers() and time.monotonic() < until:
        time.sleep(0.1)
    assert second not in _workers()


def _workers() -> set[int]:
    """Process numbers of the Dask workers that this process has started and that live."""
    alive = multiprocessing.active_children()
    return {child.pid for child in alive if child.name.startswith("Dask Worker") and child.pid is not None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("local:none", "write a number"),
        ("local:0", "write a number"),
        ("nowhere.yaml", "neither local:N"),
        ("lots.yaml", "'cluster.memory' is 'lots'.*as '4GB'"),
    ],
)
def test_words_that_name_no_cluster_are_refused_before_any_run(text, message, tmp_path, monkeypatch):
    (tmp_path / "lots.yaml").write_text("kind: local\nmemory: lots\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        Executor(dask=text)


def test_a_scheduler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("lamella.blockwise.cluster._CONNECT_S", 0.5)
    with pytest.raises(UserError, match="no scheduler answers"):
        run(Square("."), BLOCKS, label="squares", executor=Executor(dask="tcp://127.0.0.1:1"))


def test_a_worker_that_does_not_come_back_is_replaced(tmp_path):
    with LocalCluster(workers=1).build() as cluster, Keeper(cluster, grace_s=0.3, every_s=0.1):
        address = cluster.scheduler_address
        assert run(Square(str(tmp_path)), BLOCKS[:3], label="squares", executor=Executor(dask=address)).done == 3
        cluster.sync(cluster.workers[0].close)  # as when its process dies while it starts
        assert run(Square(str(tmp_path)), BLOCKS[:3], label="squares", executor=Executor(dask=address)).done == 3


def test_words_for_clusters():
    assert parse_cluster("local:4") == LocalCluster(workers=4)
    assert parse_cluster("tcp://host:8786") == Scheduler(address="tcp://host:8786")


def test_a_cluster_file_is_checked_word_by_word(tmp_path):
    file = tmp_path / "cluster.yaml"
    file.write_text("kind: slurm\nmemory: 16GB\nwalltme_hours: 2\n")
    with pytest.raises(UserError, match="did you mean 'walltime_hours'"):
        parse_cluster(str(file))
    file.write_text("kind: slurm\nmemory: 16GB\njobs: 0\n")
    with pytest.raises(UserError, match="jobs"):
        parse_cluster(str(file))


def test_the_examples_of_the_documentation_are_clusters():
    text = (Path(__file__).parents[2] / "docs" / "blocks.md").read_text()
    examples = [yaml.safe_load(part.split("```")[0]) for part in text.split("```yaml")[1:]]
    kinds = [ClusterFile.load({"cluster": e}).cluster.kind for e in examples]
    assert kinds == ["slurm", "lsf", "local"]


ASKED = {
    "cores": 4,
    "memory": "16GB",
    "walltime_hours": 1.5,
    "jobs": 10,
    "queue": "short",
    "account": "lab",
    "directives": ["--gres=gpu:1"],
    "prologue": ["module load cuda"],
    "log_folder": "logs",
    "scratch": "/scratch",
}


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        (
            "slurm",
            ["-p short", "-A lab", "--cpus-per-task=4", "--mem=15G", "-t 01:30:00", "-e logs/", "--gres=gpu:1"],
        ),
        ("lsf", ["-q short", '-P "lab"', "-n 4", "-M 16000", "-W 01:30", "-e logs/", "--gres=gpu:1"]),
    ],
)
def test_the_batch_system_is_asked_for_what_the_file_says(kind, lines, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lsf.conf").write_text("LSF_UNIT_FOR_LIMITS=MB\n")
    monkeypatch.setenv("LSF_ENVDIR", str(tmp_path))
    config = ClusterFile.load({"cluster": {"kind": kind, **ASKED}}).cluster
    assert isinstance(config, Slurm | Lsf)
    with config.build() as cluster:
        script = cluster.job_script()
    for line in [*lines, "module load cuda", "--nthreads 1", "--nworkers 4", "--local-directory /scratch"]:
        assert line in script
