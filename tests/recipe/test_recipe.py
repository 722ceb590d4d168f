import json
import shutil

import h5py
import numpy as np
import pytest
import torch
import yaml

from lamella.cli.main import main
from lamella.core.errors import UserError
from lamella.recipe.find import load_recipe, shipped
from lamella.recipe.load import load_run
from lamella.recipe.recipe import Recipe
from lamella.recipe.train import prepare, train
from lamella.runs import RunFolder

# A net of a few hundred parameters, so that a step takes no time
TINY = [
    "data.crop=32",
    "data.normaliser={kind: none}",
    "task.net={levels: 2, skip: 0, features: 2, features_step: 1, channels: [3, 3, 3, 2], kernel: 3}",
    "task.specimen=[]",
    "task.imaging=[]",
    "trainer={steps: 4, batch_size: 2, log_every: 1, checkpoint_every: 2, validate_every: 2, panels_every: 0, device: cpu, threads: 1}",
    "validation={length: 2}",
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "stacks.h5"
    with h5py.File(path, "w") as file:
        file["main"] = np.random.default_rng(0).integers(1, 256, (3, 2, 48, 48), np.uint8)
    return path


def tiny(archive, *changes):
    return load_recipe("align", [f"data.sources.0.path={archive}", *TINY, *changes])


@pytest.fixture(scope="module")
def runs(archive, tmp_path_factory):
    """A folder of runs that holds ``first``."""
    folder = tmp_path_factory.mktemp("runs")
    _, outcome = train(tiny(archive), "first", runs=folder)
    assert outcome.reason == "finished"
    return folder


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.net.state_dict().values(), b.net.state_dict().values(), strict=True))


def test_the_same_recipe_gives_the_same_weights(runs, archive, tmp_path):
    train(tiny(archive), "again", runs=tmp_path)
    assert same(load_run("again", runs=tmp_path).task, load_run("first", runs=runs).task)
    train(tiny(archive, "seed=1"), "other", runs=tmp_path)
    assert not same(load_run("other", runs=tmp_path).task, load_run("first", runs=runs).task)


def test_a_run_holds_its_recipe_as_resolved(runs, archive):
    run = RunFolder.open("first", runs)
    assert Recipe.load(run.recipe()) == tiny(archive)
    assert run.recipe()["trainer"]["optimiser"]["betas"] == [0.9, 0.999]  # defaults are written too
    assert load_recipe(run.path, ["seed=4"]) == tiny(archive, "seed=4")  # and it is a recipe to train from


def test_a_run_is_complete_in_its_folder(runs, archive, tmp_path):
    shutil.copytree(runs / "first", tmp_path / "elsewhere")
    loaded = load_run(tmp_path / "elsewhere")
    assert loaded.checkpoint == "best"
    assert same(loaded.task, load_run("first", runs=runs).task)
    assert not loaded.task.net.training
    assert load_run(f"{tmp_path / 'elsewhere'}:last").checkpoint == "last"


def test_fine_tuning_starts_from_what_fits_and_names_the_rest(runs, archive, tmp_path, capsys):
    parent = load_run("first:last", runs=runs)
    child = prepare(tiny(archive, "task.net.levels=3"), parent="first:last", runs=runs)
    ours, theirs = child.task.net.state_dict(), parent.task.net.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert child.loaded.missing == tuple(name for name in ours if name not in theirs) != ()
    run, _ = train(tiny(archive, "trainer.steps=2", "task.net.levels=3"), "tuned", runs=runs, parent="first:last")
    assert "not in the checkpoint: encoders.2" in capsys.readouterr().err
    record = run.parent()
    assert (record["name"], record["checkpoint"], record["path"]) == ("first", "last", "../first")
    assert record["not_in_parent"] == list(child.loaded.missing)


def test_resume_takes_the_same_recipe_only(runs, archive):
    _, outcome = train(tiny(archive, "trainer.num_workers=1"), "first", runs=runs, resume=True)  # where, not what
    assert outcome.step == 4
    with pytest.raises(UserError, match=r"trainer\.learning_rate was 0\.001, is 0\.1"):
        train(tiny(archive, "trainer.learning_rate=0.1"), "first", runs=runs, resume=True)
    with pytest.raises(UserError, match="began from scratch, not from first"):
        train(tiny(archive), "first", runs=runs, resume=True, parent="first")


def test_a_run_does_not_replace_its_parent(runs, archive):
    with pytest.raises(UserError, match="cannot replace the run it starts from"):
        train(tiny(archive), "first", runs=runs, parent="first", overwrite=True)
    assert load_run("first", runs=runs)


def test_resume_before_the_first_checkpoint_takes_the_same_parent_only(runs, archive, tmp_path):
    shutil.copytree(runs / "first", tmp_path / "first")
    whole, _ = train(tiny(archive), "child", runs=tmp_path, parent="first")
    for path in (whole.path / "checkpoints").iterdir():
        path.rename(tmp_path / path.name)
    train(tiny(archive), "child", runs=tmp_path, resume=True)
    assert torch.equal(
        *(
            torch.load(p / "last.ckpt")["state_dict"]["net.encoders.0.layers.0.weight"]
            for p in (tmp_path, whole.path / "checkpoints")
        )
    )
    shutil.rmtree(whole.path / "checkpoints")
    shutil.copy(tmp_path / "last.ckpt", tmp_path / "first" / "checkpoints" / "best.ckpt")
    with pytest.raises(UserError, match="its parent first:best has changed"):
        train(tiny(archive), "child", runs=tmp_path, resume=True)


def test_validation_takes_what_it_leaves_out_from_the_data(archive):
    recipe = tiny(archive, "validation={length: 3, crop: 40}")
    assert recipe.validation.sources == recipe.data.sources
    assert (recipe.validation.crop, recipe.data.crop, recipe.validation.length) == (40, 32, 3)
    with pytest.raises(UserError, match=r"validation\.length is missing"):
        tiny(archive, "validation={crop: 40}")


def test_held_out_samples_do_not_depend_on_the_seed(archive):
    first, second = (prepare(tiny(archive, f"seed={seed}")) for seed in (1, 2))
    assert torch.equal(first.held_out[0]["sections"].tensor, second.held_out[0]["sections"].tensor)
    assert not torch.equal(first.samples[0]["sections"].tensor, second.samples[0]["sections"].tensor)


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_are_complete_but_for_the_data(name, archive):
    channels = ["data.inputs=[0]", "data.targets=[1]"] if "translate" in name else []
    load_recipe(name, [f"data.sources.0.path={archive}", *channels])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("trainer.stesp=1", r"unknown key 'trainer\.stesp'; did you mean 'steps'"),
        ("task.smothness.weight=1", r"unknown key 'task\.smothness'; did you mean 'smoothness'"),
        ("task.kind=denoise", "'task.kind' is 'denoise'; this lamella has the tasks align, segment"),
        ("trainer.optimiser.kind=sgd", "adam"),
        ("trainer.steps=0", "trainer.steps"),
        (
            "task.apart=3",
            r"data\.sections 2 holds no pair of sections 3 apart; set it to 4 or more, or lower task\.apart",
        ),
    ],
)
def test_recipes_that_cannot_be_are_refused(archive, change, message):
    with pytest.raises(UserError, match=message):
        tiny(archive, change)


def test_a_run_of_another_task_is_refused(runs, archive, tmp_path):
    shutil.copytree(runs / "first", tmp_path / "cells")
    values = yaml.safe_load((tmp_path / "cells" / "recipe.yaml").read_text())
    values["task"]["kind"] = "denoise"
    (tmp_path / "cells" / "recipe.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match="'denoise'"):
        train(tiny(archive), "child", runs=tmp_path, parent="cells")
    with pytest.raises(UserError, match="'denoise'"):
        load_run("cells", runs=tmp_path)
    with pytest.raises(UserError, match="is of the task 'align'; this needs one of the task 'segment'"):
        load_run("first", runs=runs, task="segment")


def test_a_net_that_is_not_that_of_the_recipe_is_refused(runs, tmp_path):
    shutil.copytree(runs / "first", tmp_path / "changed")
    file = tmp_path / "changed" / "recipe.yaml"
    file.write_text(file.read_text().replace("levels: 2", "levels: 3"))
    with pytest.raises(UserError, match=r"does not hold the net of its own recipe\.yaml"):
        load_run("changed", runs=tmp_path)


def lamella(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return stop.value.code, capsys.readouterr()


def test_a_dry_run_checks_and_writes_nothing(archive, tmp_path, capsys):
    words = ["train", "align", f"data.sources.0.path={archive}", *TINY, "--runs", tmp_path / "runs", "--dry-run"]
    code, said = lamella(capsys, *words)
    assert not code
    assert Recipe.load(yaml.safe_load(said.out)) == tiny(archive)
    assert "parameters" in said.err
    assert not (tmp_path / "runs").exists()


def test_the_verb_trains_and_guards_names(archive, tmp_path, capsys):
    words = ["train", "align", f"data.sources.0.path={archive}", *TINY, "--runs", tmp_path, "--name", "one"]
    code, said = lamella(capsys, *words)
    assert not code
    assert "finished at step 4" in said.out
    assert json.loads((tmp_path / "one" / "provenance.json").read_text())["state"] == "finished"
    code, said = lamella(capsys, *words)
    assert code == 2
    assert "run 'one' exists" in said.err
    assert not lamella(capsys, *words, "--resume")[0]
    assert not lamella(capsys, *words, "--overwrite")[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "alin"], "did you mean 'align'"),
        (["train", "align", "data.sources.0.path=nowhere.h5"], "nowhere.h5"),
        (["train", "align"], "'data.sources.0.path' is missing"),
        (["train", "align", "data.sources.0.path=x", "--resume", "--overwrite"], "give one of them"),
    ],
)
def test_the_verb_refuses_before_work_starts(words, message, tmp_path, capsys):
    code, said = lamella(capsys, *words, "--runs", tmp_path)
    assert code == 2
    assert message in said.err
    assert not list(tmp_path.iterdir())


def test_tuning_an_aligner_changes_the_loss_and_the_length_and_nothing_else():
    new, tuned = (load_recipe(name, ["data.sources=[{path: x}]"]).to_dict() for name in ("align", "align_tune"))
    loss = {"smoothness", "consensus", "known", "known_weight"}
    assert {k for k in new["task"] if new["task"][k] != tuned["task"][k]} == loss
    assert {k for k in new["trainer"] if new["trainer"][k] != tuned["trainer"][k]} == {"steps"}
    assert new["data"] == tuned["data"]
