"""Kill a lamella command at random moments, go on with it, and compare what it wrote with an undisturbed run.

    python benchmarks/kill_and_resume.py --times 10 --outputs out.ome.zarr -- convert /data/volume.ome.zarr out.ome.zarr --mips 4

The words after ``--`` are what follows ``lamella`` on the command line. The command runs in a folder of its own: once undisturbed;
then it is killed (SIGKILL to it and its children) at random moments, each time repeated as a user would, and at last left to
finish. If it finishes before it was killed ``--times`` times, it begins again in another folder. The outputs of every folder are
compared byte for byte with the undisturbed ones.

Each moment is drawn from the first part of the time that the undisturbed run took (``--within``, half of it). ``--after`` leaves the
start of the program out of that time: ``--after '.out.zarr.unfinished/*'`` counts from the first note of work under way.

``--outputs`` are the paths, relative to the folder, that are compared; write the command's outputs as relative paths and its inputs
as absolute ones. ``--resume`` holds words to add when going on, where a command needs some (as ``--resume=--resume``). All runs
are told the same time of day and no commit, so that records of how an output was made do not differ.

Exits with 1 and names the files that differ, if any do.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BESIDE = ".unfinished"  # in the names of what lamella keeps beside an output while it is made


def main() -> None:
    args = parse()
    folder = Path(args.folder or tempfile.mkdtemp(prefix="kill-and-resume-"))
    whole = folder / "whole"
    whole.mkdir(parents=True)
    print(f"working in {folder}")
    seconds = undisturbed(args, whole)
    print(f"undisturbed: {seconds:.1f} s")
    moments, kills, differences, rounds = random.Random(args.seed), 0, [], 0
    while kills < args.times and rounds < 5 * args.times:
        rounds += 1
        killed = folder / f"killed-{rounds}"
        killed.mkdir()
        kills += disturbed(args, killed, seconds, args.times - kills, moments)
        differences += compare(whole, killed, args.outputs)
    total = sum(len(files(whole / name)) for name in args.outputs)
    print(f"killed {kills} times in {rounds} rounds; {total} files compared after each, {len(differences)} differ")
    for line in differences[:20]:
        print(f"  {line}")
    sys.exit(1 if differences or not total or kills < args.times else 0)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="how often to kill [10]")
    parser.add_argument("--outputs", nargs="+", required=True, help="relative paths to compare")
    parser.add_argument("--seed", type=int, default=0, help="of the moments [0]")
    parser.add_argument(
        "--within", type=float, default=0.5, help="part of the undisturbed time to draw moments from [0.5]"
    )
    parser.add_argument("--after", help="glob of files, relative; count from when the command has written one of them")
    parser.add_argument("--resume", default="", help="words to add to the command when going on")
    parser.add_argument("--finished", default="exists already", help="what a repeated command says if all is done")
    parser.add_argument("--folder", help="work here and leave it [a temporary folder]")
    parser.add_argument("command", nargs="+", help="the words after `lamella`")
    return parser.parse_args()


def undisturbed(args: argparse.Namespace, folder: Path) -> float:
    """Run the command once; how long it worked."""
    process = begin(args.command, folder)
    wait_for_work(process, folder, args.after)
    start = time.monotonic()
    code = process.wait()
    if code:
        sys.exit(f"the undisturbed command failed with exit code {code}; see {folder / 'log'}")
    return time.monotonic() - start


def disturbed(args: argparse.Namespace, folder: Path, seconds: float, times: int, moments: random.Random) -> int:
    """Kill up to ``times`` times, then let the command finish; how often it was killed."""
    kills = 0
    while True:
        said = (folder / "log").stat().st_size if kills else 0
        process = begin(args.command + (args.resume.split() if kills else []), folder)
        wait_for_work(process, folder, args.after)
        try:
            patience = moments.uniform(0, args.within * seconds) if kills < times else None
            code = process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            print(f"  {folder.name}: killed after {patience:.2f} s", flush=True)
            continue
        was_finished = kills and args.finished in (folder / "log").read_bytes()[said:].decode(errors="replace")
        if code and not was_finished:  # a kill after the last write leaves a finished output, which is then refused
            sys.exit(f"going on after {kills} kills failed with exit code {code}; see {folder / 'log'}")
        return kills


def wait_for_work(process: subprocess.Popen[bytes], folder: Path, pattern: str | None) -> None:
    """Return when a file of ``pattern`` was written since now, or the command ended."""
    start = time.time()
    while pattern and process.poll() is None:
        if any(written(path) >= start for path in folder.glob(pattern)):
            return
        time.sleep(0.01)


def written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def begin(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    # records of when, and from which commit of a checkout that may move on meanwhile, must not differ
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "GIT_DIR": os.devnull}
    with (folder / "log").open("ab") as log:
        words = [sys.executable, "-m", "lamella", *command]
        return subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)


def files(path: Path) -> dict[str, Path]:
    """The files at or below ``path`` by their relative names."""
    if path.is_file():
        return {"": path}
    found = {str(p.relative_to(path)): p for p in sorted(path.rglob("*")) if p.is_file()}
    return {name: p for name, p in found.items() if BESIDE not in name}


def compare(whole: Path, killed: Path, outputs: list[str]) -> list[str]:
    """One line per file that is not the same in both."""
    lines = []
    for output in outputs:
        expected, got = files(whole / output), files(killed / output)
        lines += [f"missing: {output}/{name}" for name in expected.keys() - got.keys()]
        lines += [f"left over: {output}/{name}" for name in got.keys() - expected.keys()]
        both = sorted(expected.keys() & got.keys())
        lines += [f"differs: {output}/{name}" for name in both if digest(expected[name]) != digest(got[name])]
        leftovers = [p for p in (killed / output).parent.glob(".*") if BESIDE in p.name]
        lines += [f"left behind: {p}" for p in leftovers]
    return lines


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
