"""Help answers at once and shows how each verb is called."""

import os
import subprocess
import sys
import time

import pytest

from lamella.cli.main import _GROUPS, _VERBS, main

WORDS = [[verb] for verb in _VERBS] + [[group, verb] for group, (_, verbs) in _GROUPS.items() for verb in verbs]


@pytest.mark.parametrize("words", [[], *([group] for group in _GROUPS)], ids=" ".join)
def test_lamella_alone_lists_verbs_and_shows_examples(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    said = capsys.readouterr().out
    assert stopped.value.code in (0, None)
    for verb in _GROUPS[words[0]][1] if words else [*_VERBS, *_GROUPS]:
        assert f" {verb} " in said
    assert f" {' '.join(['lamella', *words])} " in said.partition("Examples")[2]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_the_help_of_every_verb_shows_examples(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--help"])
    assert stopped.value.code in (0, None)
    assert f" {' '.join(['lamella', *words])}" in capsys.readouterr().out.partition("Examples")[2]


def test_help_takes_little_time():
    """Less than 0.7 s of one processor, so that it answers at once also on a machine that has other work."""
    command = [
        sys.executable,
        "-c",
        "import sys; sys.argv = ['lamella', '--help']; from lamella.cli.main import main; main()",
    ]
    before = os.times()
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert min(spent, time.monotonic() - start) < 0.7
