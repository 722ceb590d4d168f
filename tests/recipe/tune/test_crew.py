"""Work in several processes: all of it is done, and none of it outlives the command that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lamella.recipe.tune.crew import abandoned, each

_SCRIPT = """
import signal
import sys
from pathlib import Path
from lamella.recipe.tune.crew import each
from tests.recipe.tune.test_crew import wait

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # commands in the background of a shell are born deaf to it
    list(each(wait, [Path(sys.argv[1]) / name for name in "abc"], 2, Path(sys.argv[1]) / "log.txt"))
"""


def wait(place: Path) -> None:
    """Work without end, until it is abandoned."""
    place.write_text(str(os.getpid()))
    while not abandoned():
        time.sleep(0.05)


def double(number: int) -> int:
    if number < 0:
        raise ValueError("negative")
    return 2 * number


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_item_is_done(tmp_path, jobs):
    assert sorted(each(double, [3, 1, 2], jobs, tmp_path / "log.txt")) == [2, 4, 6]
    with pytest.raises(ValueError, match="negative"):
        list(each(double, [-1, 1], jobs, tmp_path / "log.txt"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_command(tmp_path, number):
    root = Path(__file__).parents[3]
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    command = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], env={**os.environ, "PYTHONPATH": str(root)}
    )
    places = [tmp_path / name for name in "ab"]
    deadline = time.monotonic() + 120
    while not all(place.exists() and place.read_text() for place in places):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    command.send_signal(number)
    command.wait()
    pids = [int(place.read_text()) for place in places]
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (tmp_path / "c").exists()  # what was not begun is left out


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
