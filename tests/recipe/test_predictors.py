"""One verb predicts with runs of all tasks: options reach the task's settings, and those of other tasks are refused."""

import pytest

from lamella.core.errors import UserError
from lamella.recipe.predict_options import PredictOptions, Request, settings_for
from lamella.recipe.predictors import PREDICTORS, predict, settings_of_tasks
from lamella.recipe.recipe import TASKS
from lamella.runs import RunFolder
from lamella.tasks.segment.predict_settings import PredictSettings
from lamella.tasks.translate.predict_settings import TranslateSettings


def test_every_setting_of_every_task_can_be_asked_for():
    assert set(settings_of_tasks()) == set(PREDICTORS) <= set(TASKS)
    asked = {name for settings in settings_of_tasks().values() for name in settings.model_fields}
    assert asked == set(PredictOptions.model_fields)


def test_options_that_are_given_reach_the_settings_and_others_keep_their_defaults():
    found = settings_for(PredictOptions(channels=("1", "0"), flat=True), PredictSettings, "segment")
    assert found == PredictSettings(channels=(1, 0), flat=True)


def test_an_option_of_another_task_is_refused_with_its_owner():
    class Other(PredictSettings):
        pass

    owners = {"segment": ("maps",), "translate": ("format",)}
    del Other.model_fields["maps"]
    with pytest.raises(
        UserError, match=r"--maps means nothing to a run of the task translate; it is for runs of the task segment"
    ):
        settings_for(PredictOptions(maps=False), Other, "translate", owners)


def test_a_value_that_a_task_cannot_use_is_refused():
    with pytest.raises(UserError, match="channels"):
        settings_for(PredictOptions(channels=("DAPI",)), PredictSettings, "segment")
    with pytest.raises(UserError, match="frames"):
        settings_for(PredictOptions(format="frames"), PredictSettings, "segment")
    owners = {name: tuple(settings.model_fields) for name, settings in settings_of_tasks().items()}
    with pytest.raises(UserError, match=r"--flat means nothing to a run of the task translate; .* of the task segment"):
        settings_for(PredictOptions(flat=True), TranslateSettings, "translate", owners)


@pytest.mark.parametrize(("task", "verb"), [("align", "lamella align"), ("contrast", "lamella embed")])
def test_runs_of_other_verbs_name_the_verb(task, verb, tmp_path):
    folder = RunFolder.create("first", {"task": {"kind": task}}, runs=tmp_path)
    (folder.path / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(UserError, match=verb):
        predict(Request(str(folder.path), ("image.tif",), "out"))
