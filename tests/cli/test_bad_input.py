"""Mistakes get one clear line before work starts, exit with 2, and leave nothing behind."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from lamella.cli.main import main
from lamella.core.errors import UserError

# (command, words that its error must hold: what was given, what is needed, what to do)
MISTAKES = [
    # a path that is no volume
    ("info nothing.zarr", "nothing.zarr does not exist; "),
    ("info raw.zar", "does not exist; did you mean raw.zarr?"),
    ("info notes.txt", "notes.txt is no volume that lamella reads (OME-Zarr ... it is a file ending in '.txt'"),
    ("info there", "there is no volume ... holds work.txt"),
    ("convert nothing.zarr out.zarr", "nothing.zarr does not exist"),
    ("prep stacks notes.txt out.h5 --count 2", "notes.txt is no volume"),
    ("prep combine nothing.h5 out.h5", "nothing.h5 does not exist"),
    ("train align data.sources.0.path=nothing.h5 --name new", "nothing.h5 does not exist"),
    ("align first nothing.zarr out.zarr", "nothing.zarr does not exist"),
    ("evaluate alignment nothing.zarr out", "nothing.zarr does not exist"),
    ("render nothing.zarr raw.zarr out.zarr", "nothing.zarr does not exist"),
    ("evaluate alignment raw.zarr out --source notes.txt", "notes.txt is no volume"),
    ("inspect first nothing.zarr", "nothing.zarr does not exist"),
    ("demo --data nothing --out out", "nothing does not exist"),
    ("prep meta nothing", "nothing is not a folder; give the folder that holds the frames"),
    ("prep meta there", "no name of the 0 image files in there fits im_c{c}_z{z}_t{t}_p{p} or img_"),
    ("prep shading nothing.zarr out", "nothing.zarr does not exist"),
    ("prep run none.yaml", "none.yaml holds list, not keys with values"),
    ("prep shading channels.zarr out --order 9", "--order is '9'"),
    ("prep shading channels.zarr out --channels GFP", "channel 'GFP' is not in channels.zarr, which has 0, 1; choose"),
    ("prep statistics raw.zarr out --positions p003", "positions p003 are not in raw.zarr"),
    ("prep statistics raw.zarr out --clip 98 2", "two percentiles, the lower first"),
    (
        "prep statistics raw.zarr out --foreground",
        "need masks, and there are none; make them with 'lamella prep masks'",
    ),
    ("prep masks raw.zarr out --method outsu", "--method ... outsu"),
    ("prep tiles raw.zarr out --size 99 99", "a tile of 99 by 99 px does not fit into 72 by 80"),
    ("prep tiles raw.zarr out --size 32 32 --depth 4", "depth 4 is even ... choose 3 or 5"),
    ("prep tiles raw.zarr out --size 32 32 --depth 7", "depth 7 is more than the 5 slices"),
    ("prep resize raw.zarr out --yx 0", "--yx is '0'"),
    # a mip that does not exist
    ("convert raw.zarr out.zarr --mip 7", "mip 7 does not exist ... only mip 0; choose"),
    ("prep stacks raw.zarr out.h5 --mip 7 --count 2", "mip 7 does not exist ... only mip 0"),
    ("align first raw.zarr out.zarr --mip 7", "mip 7 does not exist ... only mip 0"),
    ("evaluate alignment raw.zarr out --mip 7", "mip 7 does not exist"),
    ("train align 'data.sources.0={path: raw.zarr, mip: 7}' --name new", "raw.zarr at mip 7 ... choose a finer mip"),
    ("inspect first --mip -1", "--mip is '-1' ... greater than or equal to 0"),
    # a box outside
    ("convert raw.zarr out.zarr --bbox 0:5,0:72,0:999", "0:999 does not lie inside ... 0:5,0:72,0:80; choose"),
    ("prep stacks raw.zarr out.h5 --bbox 0:5,900:999,0:80 --count 2", "900:999,0:80 does not lie inside"),
    ("align first raw.zarr out.zarr --bbox 0:9,0:72,0:80", "0:9,0:72,0:80 does not lie inside"),
    ("align first raw.zarr out.zarr --bbox 0-9", "'0-9' is not START:STOP"),
    ("train align 'data.sources.0={path: raw.zarr, bbox: \"0:9,0:72,0:80\"}' --name new", "does not lie inside"),
    ("inspect first --bbox 0:10,70:90", "does not lie inside"),
    ("inspect first --z 5", "section 5 ... choose --z from 1 to 4"),
    ("evaluate alignment raw.zarr out --source other.zarr", "do not overlap; give the volume that was aligned"),
    # wrong rank or type
    ("convert channels.zarr 'out/*.png'", "holds the axes zyx, not czyx; write a .zarr"),
    ("convert raw.zarr out.zarr --dtype uint9", "'uint9' is not a type; write for example uint8"),
    ("convert labels.zarr 'out/*.png'", ".png files do not hold int64 ... convert"),
    ("convert raw.zarr out.xyz", "out.xyz does not tell its format; end it in"),
    ("prep stacks channels.zarr out.h5 --count 2", "axes ... z y x"),
    ("prep stacks raw.zarr out.txt --count 2", "out.txt ... .h5 ... .zarr"),
    ("prep combine raw.zarr out.h5", "raw.zarr ... n z y x"),
    ("train align data.sources.0.path=channels.zarr --name new", "axes c z y x; training needs sections, z y x"),
    ("align first channels.zarr out.zarr", "axes czyx; aligning needs ... zyx"),
    ("align first labels.zarr out.zarr", "holds int64, not grey values; give integers of up to 32 bits"),
    ("align first raw.zarr 'out/*.png'", "lamella convert"),
    (
        "render raw.zarr raw.zarr out.zarr",
        "axes zyx ... fields have axes czyx and channels dy and dx, so give the fields",
    ),
    ("render raw.zarr raw.zarr out.zarr --labels --masks", "labels and masks are different kinds of volumes; choose"),
    ("evaluate alignment channels.zarr out", "channels.zarr has axes c z y x"),
    ("evaluate alignment raw.zarr out --fields raw.zarr", "raw.zarr has axes z y x ... c z y x"),
    ("inspect first channels.zarr", "axes c z y x"),
    ("demo --data channels.zarr --out out", "axes c z y x ... z y x"),
    # a stack shorter than asked, or smaller
    (
        "prep stacks raw.zarr out.h5 --depth 9 --size 32 --count 2",
        "9 sections of 32 x 32 ... 4 x 72 x 80 ... smaller --depth",
    ),
    ("prep stacks raw.zarr out.h5 --depth 2 --size 999 --count 2", "999"),
    (
        "train align data.sources.0.path=stacks.h5 data.crop=32 data.sections=9 --name new",
        "offers 3 sections ... needs 9",
    ),
    (
        "train align data.sources.0.path=stacks.h5 data.crop=999 --name new",
        "64 x 64 ... needs 999 x 999; lower data.crop",
    ),
    ("align first raw.zarr out.zarr --bbox 3:4,0:72,0:80", "holds 1 section; give 2 or more"),
    ("demo --data raw.zarr --out out", "at least 4 sections of 128 by 128"),
    # unknown or misspelt keys, flags, verbs
    ("train broken.yaml --name new", "broken.yaml: unknown key 'task.nett'; did you mean 'net'?"),
    (
        "train align data.sources.0.path=raw.zarr task.smothness.weight=2 --name new",
        "unknown key 'task.smothness'; did you mean 'smoothness'?",
    ),
    ("train align data.sources.0.path=raw.zarr trainer.steps=-5 --name new", "'trainer.steps' is -5"),
    ("train align trainer.steps --name new", "'trainer.steps' is not KEY=VALUE; write for example"),
    ("train align 'data.sources.0={path: raw.zarr' --name new", "'data.sources.0={path: raw.zarr' ... not valid YAML"),
    ("train algin --name new", "no recipe 'algin' ... did you mean 'align'?"),
    ("train torn.yaml --name new", "torn.yaml is not valid YAML"),
    ("train none.yaml --name new", "none.yaml holds list, not keys with values"),
    ("train elsewhere.yaml --name new", "'task.kind' is 'denoise'; this lamella has the tasks align, segment"),
    ("align first raw.zarr out.zarr --tiel 64", "--tiel ... --tile"),
    ("align first raw.zarr out.zarr --tile 3", "--tile is '3': input should be greater than or equal to 64"),
    ("align first raw.zarr out.zarr --joint.neighbours 0", "--joint.neighbours is '0': input should be greater than"),
    ("align first raw.zarr out.zarr --refine.steps=-1", "--refine.steps is '-1': input should be greater than"),
    ("align first raw.zarr s3://nowhere/out.zarr --misalignment", "is an address ... local path"),
    ("align first raw.zarr out.zarr --refine.least 0.5", "--refine: least 0.5 must be below sure 0.2"),
    ("align first raw.zarr out.zarr --decay 5", "decay 5 ... give chain too"),
    ("align first raw.zarr", "--out"),
    ("convert raw.zarr out.zarr --mips many", "--mips is 'many'"),
    ("prep stack raw.zarr out.h5", "no verb 'stack'; did you mean 'stacks'?"),
    ("alin first raw.zarr out.zarr", "no verb 'alin'; did you mean 'align'?"),
    ("evaluate alignment raw.zarr out --chunk a", "--chunk is 'a' ... whole numbers"),
    ("inspect first --maps 0", "--maps is '0'"),
    ("inspect first --centre 5,5 --bbox 0:9,0:9", "give one of them"),
    ("demo --steps -3 --out out", "--steps is '-3'"),
    ("prep combine stacks.h5", "1 path ... give the archives to join, then the file to write"),
    # a run's name in use, runs and checkpoints that are not there or of another task
    ("train align data.sources.0.path=raw.zarr --name first", "run 'first' exists in runs; choose another --name"),
    ("train align data.sources.0.path=raw.zarr --name ../up", "run name '../up' must be letters"),
    (
        "train align data.sources.0.path=raw.zarr --name new --from other",
        "run 'other': 'task.kind' is 'denoise'",
    ),
    ("train align data.sources.0.path=raw.zarr --name new --from frist", "no run 'frist' ... did you mean 'first'?"),
    ("train align data.sources.0.path=raw.zarr --name first --resume --overwrite", "give one of them"),
    ("align other raw.zarr out.zarr", "'task.kind' is 'denoise'; this lamella has the tasks align, segment"),
    ("align frist raw.zarr out.zarr", "no run 'frist' ... did you mean 'first'?"),
    ("align first:bets raw.zarr out.zarr", "has no checkpoint 'bets'; it has last"),
    ("align empty raw.zarr out.zarr", "has no checkpoint 'last'; it has none yet"),
    ("align first raw.zarr out.zarr --device cuda:9", "cuda:9"),
    ("inspect other", "'task.kind' is 'denoise'"),
    ("inspect empty", "has no checkpoint 'last'"),
    ("evaluate alignment raw.zarr out --run frist", "no run 'frist'"),
    ("runs show frist", "no run 'frist' ... did you mean 'first'?"),
    ("runs trace frist", "no run 'frist'"),
    ("runs compare first frist", "no run 'frist'"),
    ("runs show first --plot chart.doc", "chart.doc"),
    # a cluster that is none
    ("align first raw.zarr out.zarr --dask nowhere.yaml", "nowhere.yaml is neither local:N"),
    ("convert raw.zarr out.zarr --dask none.yaml", "none.yaml holds list"),
    ("prep stacks raw.zarr out.h5 --count 1 --dask local:0", "local:0 asks for '0' processes; write a number"),
    # tuning
    ("tune lr align out data.sources.0.path=raw.zarr", "no 'validation' ... validation.length"),
    ("tune lr align out data.sources.0.path=nothing.h5 validation.length=2", "nothing.h5 does not exist"),
    ("tune lr align out data.sources.0.path=raw.zarr --low 1 --high 0.1", "low 1 must be below high 0.1"),
    (
        "tune lr align there data.sources.0.path=raw.zarr data.crop=40 validation.length=2",
        "there exists and holds no tuning",
    ),
    ("tune batch align out data.sources.0.path=raw.zarr --sizes 4,2", "--sizes is '4,2' ... whole numbers that rise"),
    (
        "tune search align out data.sources.0.path=raw.zarr validation.length=2",
        "nothing to search ... trainer.learning_rate=log",
    ),
    (
        "tune search align out data.sources.0.path=raw.zarr data.crop=40 validation.length=2 'trainer.lerning_rate=log(1e-5,1e-2)'",
        "unknown key 'trainer.lerning_rate'; did you mean 'learning_rate'?",
    ),
    ("tune instances first raw.zarr out", "first ... of the task 'align'; this needs one of the task 'segment'"),
    ("tune rates align out", "no verb 'rates'"),
    # an output that exists
    ("convert raw.zarr there.zarr", "there.zarr exists already; choose another name, or replace it with --overwrite"),
    ("convert raw.zarr raw.zarr --overwrite", "raw.zarr is the source"),
    ("convert raw.zarr there.zarr --overwrite", "there.zarr is not overwritten"),
    ("prep stacks raw.zarr there.h5 --depth 2 --size 32 --count 2", "there.h5 exists already"),
    ("prep combine stacks.h5 there.h5", "there.h5 exists already"),
    ("align first raw.zarr there.zarr", "there.zarr exists already"),
    ("align first raw.zarr raw.zarr --overwrite", "raw.zarr is the source"),
    ("align first raw.zarr there.zarr --overwrite", "there.zarr is not overwritten"),
    ("evaluate alignment raw.zarr scores", "scores/scores.json exists already"),
    ("inspect first --out there", "there exists already"),
    ("inspect first --out there --overwrite", "there is not replaced, since it holds no inspection"),
    ("demo --out there", "there ... exists"),
]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


@pytest.mark.parametrize(("command", "words"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_mistake_gets_one_line_and_leaves_nothing(command, words, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    before = contents(place)
    with pytest.raises(SystemExit) as stopped:
        main(shlex.split(command))
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1, said.err
    rest = said.err
    for part in words.split(" ... "):
        assert part in rest, f"{part!r} is not in {said.err!r}"
        rest = rest.partition(part)[2]
    assert not said.out
    assert contents(place) == before


@pytest.mark.parametrize("command", ["info nothing.zarr", "align first raw.zarr out.zarr --tile 3"])
def test_debug_shows_where_it_went_wrong(command, place, monkeypatch):
    monkeypatch.chdir(place)
    with pytest.raises((UserError, CycloptsError)):
        main([*shlex.split(command), "--debug"])


def test_debug_prints_a_traceback(place):
    command = [sys.executable, "-m", "lamella", "info", "nothing.zarr", "--debug"]
    result = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "Traceback" in result.stderr
    assert "UserError: nothing.zarr does not exist" in result.stderr
