"""The configs that the project ships are ones that the tools take, and so are the demos' settings."""

from pathlib import Path

import pytest
import timm

from engine.runs.cli import config_parser, parse
from tools.demo import CONFIGS, DEMOS
from tools.tasks import TASKS

FILES = sorted(CONFIGS.glob("*/*.yaml"))


def read(file, *arguments):
    task = TASKS[file.parent.name]
    return parse(config_parser(task, ""), task, [f"--config={file}", *arguments])[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_config_is_read_and_states_its_command_its_result_and_its_cost(file):
    read(file)
    head = [line for line in file.read_text().splitlines() if line.startswith("#")]
    text = " ".join(head)
    assert f"tools/train.py {file.parent.name} --config configs/{file.parent.name}/{file.name}" in text
    assert "Expected" in text and "Cost" in text, text


@pytest.mark.parametrize("name", DEMOS)
def test_a_demo_has_models_that_timm_makes(name):
    demo = DEMOS[name]
    assert len(demo.runs) == 4
    backbones = {run: read(CONFIGS / demo.config, *settings).model.backbone for run, settings in demo.runs.items()}
    assert all(timm.is_model(backbone) for backbone in backbones.values())
    assert any(backbone.startswith("ode_") for backbone in backbones.values())
    assert not backbones[next(iter(demo.runs))].startswith("ode_"), "the first is what is replaced"


def test_every_task_has_configs():
    assert {Path(file).parent.name for file in FILES} == set(TASKS)
