"""The command line. Verbs live in modules of their own that are imported when called, so ``--help`` answers at once.

One manner for all verbs: source first, output second; the same flag means the same everywhere. A user's mistake prints one
error and exits with code 2; ``--debug`` shows the traceback.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Mapping, Sequence

from cyclopts import App, CycloptsError

import lamella
from lamella.core.errors import UserError

# PyTorch's threads wait for each other actively, which on processors that are shared with other work makes training and aligning
# several times slower (5.5 s against 0.7 s a step on two busy cores). Read when PyTorch is imported; set it yourself to overrule.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# verb: (module:function, line in the help); imported when the verb is called
_VERBS = {
    "demo": (
        "lamella.cli.demo:demo",
        "Show a task from beginning to end on synthetic images (or on yours), with a report.",
    ),
    "info": ("lamella.cli.info:info", "Print what a volume, archive or folder holds."),
    "convert": ("lamella.cli.convert:convert", "Copy a volume into another format, with mips."),
    "train": ("lamella.cli.train:train", "Train a network from a recipe."),
    "align": ("lamella.cli.align:align", "Align a volume of serial sections with a trained run."),
    "render": ("lamella.cli.render:render", "Apply an alignment to a finer mip, or to labels, masks and other images."),
    "defects": ("lamella.cli.defects:defects", "Find cracks, folds and covered tissue in sections with a trained run."),
    "predict": ("lamella.cli.predict:predict", "Predict images with a trained run: instances, or other channels."),
    "embed": ("lamella.cli.embed:embed", "Embed images with a trained contrast run."),
    "study": ("lamella.cli.study:study", "Compare embeddings with other methods for numbers of points."),
    "inspect": ("lamella.cli.inspect:inspect", "Show a run's encodings and fields as pictures."),
}
_GROUPS = {
    "prep": (
        "Measure and prepare data.",
        {
            "stacks": ("lamella.cli.prep:stacks", "Sample random stacks of consecutive sections."),
            "combine": ("lamella.cli.prep:combine", "Join several stack archives in one."),
            "coarse": ("lamella.cli.prep_coarse:coarse", "Measure where sections lie, over any distance and angle."),
            "points": ("lamella.cli.prep_points:points", "Draw points with classes from labelled images."),
            "meta": ("lamella.cli.prep:meta", "Make or check the table of a folder of frames."),
            "run": ("lamella.cli.prep_frames:run", "Do all the preprocessing of frames that a config names."),
            "shading": ("lamella.cli.prep_frames:shading", "Measure how unevenly each channel is lit."),
            "resize": ("lamella.cli.prep_frames:resize", "Keep the factors by which images are resized."),
            "masks": ("lamella.cli.prep_frames:masks", "Find where the specimen is; border weight maps."),
            "statistics": ("lamella.cli.prep_frames:statistics", "Measure intensities for normalisation."),
            "tiles": ("lamella.cli.prep_frames:tiles", "Choose tiles, and cut them into an archive."),
        },
    ),
    "tune": (
        "Find good settings for a recipe.",
        {
            "lr": ("lamella.cli.tune:lr", "Find a learning rate: staged search or range finder."),
            "batch": ("lamella.cli.tune:batch", "Find a batch size: speed, memory and learning of each."),
            "search": ("lamella.cli.tune:search", "Search over any keys of a recipe with Optuna."),
            "instances": ("lamella.cli.tune:instances", "Tune how a run's maps become instances."),
        },
    ),
    "grid": (
        "Train and validate all combinations of settings.",
        {
            "plan": ("lamella.cli.grid:plan", "Number and check the combinations of a grid."),
            "run": ("lamella.cli.grid:run", "Run what is left of a grid, or one combination."),
            "status": ("lamella.cli.grid:status", "Show which combinations are done, killed or failed."),
            "collect": ("lamella.cli.grid:collect", "Write the best rows of a grid into one table."),
        },
    ),
    "evaluate": (
        "Score results.",
        {
            "alignment": ("lamella.cli.evaluate:alignment", "Score an aligned volume section by section."),
            "misalignment": ("lamella.cli.misalignment:misalignment", "Map where an aligned volume does not fit."),
            "instances": ("lamella.cli.evaluate:instances", "Score predicted cells against true ones."),
            "heads": ("lamella.cli.evaluate_heads:heads", "Validate checkpoints of a head run at several thresholds."),
            "affinities": (
                "lamella.cli.evaluate_heads:affinities",
                "Validate stored affinities at several thresholds.",
            ),
            "images": ("lamella.cli.evaluate:images", "Score predicted images against true ones."),
        },
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

_EXAMPLES = "**Examples**\n\n"
# examples where no verb is named, in the order in which one comes to need them
_FIRST = (
    "lamella demo",
    "lamella info sections/",
    "lamella train align data.sources.0.path=sections/ --name first",
    "lamella align first sections/ aligned.ome.zarr",
    "lamella evaluate alignment aligned.ome.zarr scores --source sections/",
    "lamella align --help",
)
_FIRST_OF = {
    "prep": (
        "lamella prep stacks volume.ome.zarr train.h5 --count 200 --depth 10 --size 1024",
        "lamella prep combine a.h5 b.h5 all.h5",
    ),
    "tune": (
        "lamella tune lr align rates data.sources.0.path=stacks.h5 validation.length=32",
        "lamella tune instances first cells/ tuned --apply",
    ),
    "grid": ("lamella grid plan grid.yaml", "lamella grid run grid.yaml --jobs 2", "lamella grid collect grid.yaml"),
    "evaluate": (
        "lamella evaluate alignment aligned.ome.zarr scores --source sections/",
        "lamella evaluate instances predicted/ labels/ scores --images images/",
        "lamella evaluate images predicted/ frames/ scores",
    ),
    "runs": ("lamella runs list", "lamella runs show first", "lamella runs compare first second"),
}


def build_app(words: Sequence[str] = ()) -> App:
    """The command line for ``words``. Only the verb that they name takes its help from its own docstring: the others show
    the line above, so that listing them imports nothing.
    """
    app = App(
        name="lamella",
        help=lamella.__doc__,
        version=lamella.__version__,
        help_format="markdown",
        help_epilogue=_listed(_FIRST),
        suppress_keyboard_interrupt=False,  # ``main`` says what to do next
    )
    _add(app, _VERBS, words[:1])
    for group, (help_, verbs) in _GROUPS.items():
        sub = App(name=group, help=help_, help_epilogue=_listed(_FIRST_OF[group]))
        _add(sub, verbs, words[1:2] if list(words[:1]) == [group] else ())
        app.command(sub)
    return app


def _check(words: Sequence[str]) -> None:
    """Refuse a word that is no verb. The parser would too, but imports every verb to look for the nearest."""
    verbs, group = [*_VERBS, *_GROUPS], "lamella"
    for word in words[:2]:
        if word.startswith("-"):
            return
        if word not in verbs:
            from lamella.cli.mistakes import unknown_verb

            raise unknown_verb(word, verbs, group)
        if word not in _GROUPS:
            return
        verbs, group = [*_GROUPS[word][1]], f"lamella {word}"


def _add(app: App, verbs: Mapping[str, tuple[str, str]], called: Sequence[str]) -> None:
    for name, (target, line) in verbs.items():
        if name in called:
            app.command(target, name=name, help_epilogue=_examples(target))
        else:
            app.command(target, name=name, help=line)


def _examples(target: str) -> str:
    """The Examples section of a verb's docstring, which the help would leave out."""
    module, _, name = target.partition(":")
    text = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
    _, found, rest = text.partition("Examples\n--------\n")
    return _EXAMPLES + re.split(r"\n\n\w+\n---", rest)[0] if found else ""


def _listed(commands: Sequence[str]) -> str:
    return "\n".join([f"{_EXAMPLES}```", *commands, "```"])


def main(argv: Sequence[str] | None = None) -> None:
    """Run one verb and exit: 0 done, 2 a mistake that the user can mend, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [w for w in words if w != "--debug"]
    try:
        _check(words)
        build_app(words)(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        if debug:
            raise
        from lamella.cli.mistakes import explain_words

        print(f"error: {explain_words(error, words)}", file=sys.stderr)
        sys.exit(2)
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        from lamella.cli.mistakes import full_disk

        if debug or (told := full_disk(error)) is None:
            raise
        print(f"error: {told}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if debug:
            raise
        print("interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
