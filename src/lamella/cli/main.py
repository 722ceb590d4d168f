"""The command line. Verbs live in modules of their own that are imported when called, so ``--help`` answers at once.

One manner for all verbs: source first, output second; the same flag means the same everywhere. A user's mistake prints one
error and exits with code 2; ``--debug`` shows the traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

import lamella
from lamella.core.errors import UserError

app = App(name="lamella", help=lamella.__doc__, version=lamella.__version__, help_format="markdown")

# verb: (module:function, line in the help); imported when the verb is called
_VERBS = {
    "demo": ("lamella.cli.demo:demo", "Train, align and score a synthetic stack (or a folder of yours), with a report."),
    "info": ("lamella.cli.info:info", "Print what a volume, archive or folder holds."),
    "convert": ("lamella.cli.convert:convert", "Copy a volume into another format, with mips."),
    "train": ("lamella.cli.train:train", "Train a network from a recipe."),
    "align": ("lamella.cli.align:align", "Align a volume of serial sections with a trained run."),
    "inspect": ("lamella.cli.inspect:inspect", "Show a run's encodings and fields as pictures."),
}
_GROUPS = {
    "prep": (
        "Measure and prepare data.",
        {
            "stacks": ("lamella.cli.prep:stacks", "Sample random stacks of consecutive sections."),
            "combine": ("lamella.cli.prep:combine", "Join several stack archives in one."),
        },
    ),
    "evaluate": (
        "Score results.",
        {"alignment": ("lamella.cli.evaluate:alignment", "Score an aligned volume section by section.")},
    ),
    "runs": (
        "List, show, trace and compare training runs.",
        {
            "list": ("lamella.cli.runs:list_runs", "List runs, newest last."),
            "show": ("lamella.cli.runs:show", "Show one run: recipe, curves, scores."),
            "trace": ("lamella.cli.runs:trace", "Trace a run through its parents, with what changed."),
            "compare": ("lamella.cli.runs:compare", "Compare runs: recipes that differ, curves, scores."),
        },
    ),
}

for _name, (_target, _help) in _VERBS.items():
    app.command(_target, name=_name, help=_help)
for _group, (_group_help, _verbs) in _GROUPS.items():
    _sub = App(name=_group, help=_group_help)
    for _name, (_target, _help) in _verbs.items():
        _sub.command(_target, name=_name, help=_help)
    app.command(_sub)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one verb and exit: 0 done, 2 a mistake that the user can mend, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [w for w in words if w != "--debug"]
    try:
        app(words, exit_on_error=False, print_error=True)
    except CycloptsError:
        sys.exit(2)
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if debug:
            raise
        print("interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
