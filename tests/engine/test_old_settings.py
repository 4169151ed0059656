"""Settings by the names of before 0.2.0: taken, with a line that says today's."""

import json

import pytest
import yaml

from engine.old_settings import current_arguments, current_settings
from engine.weights.checkpoint import load_checkpoint, save_checkpoint
from odebackbones.errors import InputError

OLD = {
    "data": {"dataset": "mnist", "augment": "shift"},
    "model": {"name": "odenet_mnist", "args": {"steps": 4, "name": "kept"}},
    "distillation": {"teacher": {"name": "resnet56_cifar", "args": {}}},
}
NOW = {
    "data": {"format": "mnist", "augment": "shift"},
    "model": {"backbone": "odenet_mnist", "backbone_args": {"steps": 4, "name": "kept"}},
    "distillation": {"teacher": {"backbone": "resnet56_cifar", "backbone_args": {}}},
}


def test_groups_of_settings_get_todays_names_and_stay_as_they_were_themselves():
    before = json.dumps(OLD)
    assert current_settings(OLD) == NOW and json.dumps(OLD) == before
    assert current_settings(NOW) == NOW
    assert current_settings({"distillation": {"teacher": None}, "run": {"name": "a"}}) == {
        "distillation": {"teacher": None},
        "run": {"name": "a"},
    }


def test_values_get_todays_names():
    assert current_settings({"data": {"augment": "hflip"}}) == {"data": {"augment": "flip"}}


def test_a_setting_by_both_names_is_refused():
    with pytest.raises(InputError, match=r"model\.name and model\.backbone are two names of one setting"):
        current_settings({"model": {"name": "a", "backbone": "b"}})


def test_an_argument_by_both_names_is_refused():
    with pytest.raises(InputError, match=r"model\.name and model\.backbone are two names of one setting"):
        current_arguments(["--model.name=a", "--model.backbone", "b"])


ARGUMENTS = [
    (["--data.dataset", "mnist"], ["--data.format", "mnist"], "--data.dataset is called --data.format now"),
    (["--print_config", "--model.name=a"], ["--print_config", "--model.backbone=a"], "--model.name is called"),
    (["--model.args.steps=4"], ["--model.backbone_args.steps=4"], "--model.args.steps is called"),
    (["--data.augment", "hflip"], ["--data.augment", "flip"], "--data.augment=hflip is called --data.augment=flip now"),
    (
        ["--distillation.teacher={name: resnet18}"],
        ['--distillation.teacher={"backbone": "resnet18"}'],
        "is {'backbone': 'resnet18'} by today's names",
    ),
    (["--data.augment=hflip"], ["--data.augment=flip"], "--data.augment=hflip is called --data.augment=flip now"),
]


@pytest.mark.parametrize(("given", "expected", "line"), ARGUMENTS)
def test_arguments_get_todays_names_with_a_line(given, expected, line, caplog):
    assert current_arguments(given) == expected
    assert line in caplog.text


def test_other_arguments_stay_without_a_word(caplog):
    given = ["--run.name=args", "--model.backbone", "name", "--data.root", "hflip", "--config", "missing.yaml"]
    given += ["--model={backbone: a}", "--model=[", "--model", "file.yaml"]
    assert current_arguments(given) == given
    assert caplog.text == ""


@pytest.mark.parametrize("form", [["--config", "{}"], ["--config={}"]])
def test_a_file_of_old_settings_is_taken_by_todays_names(tmp_path, form, caplog):
    file = tmp_path / "old.yaml"
    file.write_text(yaml.safe_dump(OLD))
    *_, last = current_arguments([argument.format(file) for argument in form])
    assert json.loads(last.removeprefix("--config=")) == NOW
    assert f"{file}: has names from before 0.2.0: data.dataset is called data.format now, model.name is" in caplog.text
    file.write_text(yaml.safe_dump(NOW))
    assert current_arguments(["--config", str(file)]) == ["--config", str(file)]


def test_a_checkpoints_settings_have_todays_names(tmp_path):
    save_checkpoint(tmp_path / "last.pt", task="classification", model={}, config=OLD)
    assert load_checkpoint(tmp_path / "last.pt")["config"] == NOW
