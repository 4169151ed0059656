"""Operations of the tools: train a run, load one, and report on it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from tqdm import tqdm

from engine.atomic_files import write_atomically
from engine.distributed import main_process_first, pick_device, processes, rank
from engine.log import History, warn
from engine.measure.dial import measure_dial, with_dial
from engine.report.files import write_report
from engine.report.records import CONTROL, TASK, Report
from engine.runs.overrides import overridden_settings, override_facts
from engine.runs.reports import DIGEST, SOLVER, report_folder, weights_digest
from engine.runs.sources import describe_sources
from engine.task import Task
from engine.training.fit import LOG, Trainer, to_device
from engine.training.optimization import precision, warmup_of
from engine.training.record import read_history, training_curves, training_facts, training_quantities
from engine.training.resume import load_to_resume
from engine.training.settings import CONVERTED, PRETRAINED, to_dict
from engine.weights.checkpoint import BEST, LAST, load_checkpoint, load_weights
from engine.weights.pretrained import WeightTransfer
from engine.weights.solver_change import changed_solver, require_ode_blocks, solver_changes
from odebackbones.convert.solver import calibrate
from odebackbones.errors import InputError
from odebackbones.models.stage_options import makes_no_step


def train_run(task_class: type[Task], config: Any) -> Path:
    """Train a run as ``config`` says.

    Returns:
        The run's folder, with ``config.yaml``, ``log.csv``, ``last.pt`` and ``best.pt``.

    Raises:
        InputError: The run exists already and was not to be resumed, or something in the input is wrong.
    """
    folder = run_folder(config)
    last = folder / LAST
    require_nothing_lost(folder, resume=config.run.resume)
    asked_to_resume, config = config.run.resume, replace(config, run=replace(config.run, resume=False))
    if last.exists():  # cheap mistakes show before the data is read
        load_to_resume(last, task_class, config)
    sources = describe_sources(config, task=task_class.name, resume=last.exists())
    task_class.check_model(config)
    device = pick_device(config.run.device)
    with processes(device):
        with main_process_first():
            task = task_class(config)
        if config.optim.amp != "none" and precision(device, config.optim) != config.optim.amp:
            warn(f"optim.amp: this CPU only emulates {config.optim.amp}; trains in float32, which is faster")
        if rank() == 0:
            if asked_to_resume and not last.exists():
                tqdm.write(f"{folder}: no run to resume; it starts from the beginning")
            describe_start(task, config, sources)
        trainer = Trainer(task, config, folder=folder, device=device, resume=last.exists())
        if rank() == 0:
            for name, record in pretraining_facts(trainer.pretrained).items():
                tqdm.write(f"{name}: {record}")
            if len(trainer.history) == config.optim.epochs and not trainer.pending:
                tqdm.write(f"{folder}: was trained to its last epoch before; nothing is left to do")
        if len(trainer.history) < config.optim.epochs:
            trainer.try_evaluation()
        folder.mkdir(parents=True, exist_ok=True)
        if rank() == 0:
            write_atomically(folder / "config.yaml", yaml.safe_dump(to_dict(config), sort_keys=False).encode())
        trainer.fit()
    return folder


def run_folder(config: Any) -> Path:
    """Return the folder of the run that a configuration describes."""
    return Path(config.run.output) / config.run.name


def require_nothing_lost(folder: Path, *, resume: bool) -> None:
    """Refuse to train into the folder of a run that would be replaced.

    Raises:
        InputError: There is a run, and it is not to be resumed or lacks what that takes.
    """
    last = folder / LAST
    if last.exists() and not resume:
        raise InputError(f"{folder}: this run exists; pass --run.resume true to go on with it, or another --run.name")
    left = [name for name in (BEST, LOG) if (folder / name).exists()]
    if left and not last.exists():
        raise InputError(
            f"{folder}: a run without {LAST}, from which to go on, but with {' and '.join(left)}, which would be "
            f"replaced; move it away, or take another --run.name"
        )


def describe_start(task: Task, config: Any, sources: Mapping[str, str]) -> None:
    """Print what is trained on, the runs that it takes weights from, and a warm-up that is shorter than asked for."""
    for line in (*task.describe_data(), *(f"{setting}: {told}" for setting, told in sources.items())):
        tqdm.write(line)
    if warmup_of(config.optim) < config.optim.warmup_epochs:
        tqdm.write(
            f"optim.warmup_epochs: {warmup_of(config.optim):g} in place of {config.optim.warmup_epochs:g}, half of "
            f"optim.epochs"
        )


def pretraining_facts(record: Mapping[str, Any] | None) -> dict[str, str]:
    """Describe the weights that a run's model started from, if it was given any."""
    return {PRETRAINED: str(WeightTransfer(**record))} if record else {}


@dataclass(frozen=True)
class LoadedRun:
    """A trained model with its task, ready to evaluate.

    Attributes:
        task: Data and metrics.
        model: Model with the trained weights.
        device: Device of the model.
        checkpoint: Weight file of the model, in the run's folder.
        digest: Digest of the weights and of the log of their training.
        history: Log of the training.
        facts: Facts about the training.
        changes: Arguments of the backbone that differ from the trained ones, and how many images calibrated it then.
        overridden: Other settings on which the evaluation depends and that differ from the trained ones, with values.
    """

    task: Task
    model: nn.Module
    device: torch.device
    checkpoint: Path
    digest: str
    history: History
    facts: dict[str, str]
    changes: Mapping[str, Any]
    overridden: Mapping[str, Any]

    @property
    def report_folder(self) -> Path:
        """Folder of the report: one of its own with changed settings."""
        return report_folder(self.checkpoint, {**self.changes, **self.overridden})


def load_run(task_class: type[Task], config: Any, checkpoint: Path) -> LoadedRun:
    """Load the model of ``checkpoint``, on the device and with the data and the solver that ``config`` names.

    Raises:
        InputError: The checkpoint is of another task or model, or its model can't be solved like this.
    """
    digest = weights_digest(checkpoint)  # first, so that what changes meanwhile is told from what is read
    content = load_checkpoint(checkpoint, task=task_class.name)
    trained_with = content["config"]["model"]["backbone_args"]
    changes = solver_changes(trained_with, config.model.backbone_args)
    require_same_backbone(content["config"]["model"]["backbone"], config.model.backbone)
    device = pick_device(config.run.device)
    config = replace(config, model=replace(config.model, backbone_args=trained_with))
    task = task_class(config, content["metadata"])
    model = task.build_model(loaded=True)
    load_weights(model, content.get("ema") or content["model"], origin=str(checkpoint))
    if changes:
        require_ode_blocks(model, config.model.backbone, trained_with, checkpoint.parent)
    model = to_device(changed_solver(model, changes), device, channels_last=config.optim.channels_last).eval()
    if changes and config.eval.calibration:
        calibrate(model, task.calibration_batches(config.eval.calibration, device))
    history = read_history(checkpoint.parent / LOG)
    trained = training_facts(
        content, to_dict(task_class.config_class()), free=task_class.free_settings, epochs=len(history)
    )
    facts = trained | pretraining_facts(content["metadata"].get(PRETRAINED))
    if converted := content["metadata"].get(CONVERTED):
        facts[CONVERTED] = describe_conversion(converted)
    if changes:
        facts[SOLVER] = f"changed after training: {', '.join(f'{name}={value}' for name, value in changes.items())}"
        if config.eval.calibration:
            facts[SOLVER] += f"; statistics of norms estimated again on {config.eval.calibration} training images"
            changes = {**changes, "calibration": config.eval.calibration}
    overridden = overridden_settings(task_class, content["config"], config)
    facts |= dict(override_facts(overridden))
    return LoadedRun(task, model, device, checkpoint, digest, history, facts, changes, overridden)


def require_same_backbone(trained: str, given: str) -> None:
    """Refuse weights of another backbone."""
    if trained != given:
        raise InputError(f"model.backbone={given}: the weights are of {trained}; leave it out")


def describe_conversion(record: Mapping[str, Any]) -> str:
    """Say from what a run was converted, and how well the new backbone computes what the old one did."""
    fitted = f"weights fitted on {record['fitted on']} training images, " if record["fitted on"] else ""
    return (
        f"from {record['from']} ({record['backbone']}), {fitted}its features differ by at most "
        f"{record['difference']:.1e} of their largest value"
    )


def report_run(run: LoadedRun, out: Path, *, facts: Mapping[str, str]) -> Report:
    """Evaluate a run and write the report to ``out``; ``facts`` are added to the task's and the training's."""
    if run.task.config.eval.solvers:
        trained = run.task.config.model
        require_ode_blocks(run.model, trained.backbone, trained.backbone_args, run.checkpoint.parent)
    if run.changes and run.task.config.eval.solvers:
        raise InputError(
            f"eval.solvers={run.task.config.eval.solvers} starts from the solver that the weights were trained with: "
            f"leave {', '.join(run.changes)} out, or set --eval.solvers '[]'"
        )
    if run.task.config.eval.calibration and not (run.changes or run.task.config.eval.solvers):
        warn(f"eval.calibration={run.task.config.eval.calibration}: no other solver is tried; give eval.solvers")
    tqdm.write(f"{run.checkpoint}: evaluation, then cost and speed")
    dial = measure_dial(run.task, run.model, run.device)  # first, as it refuses what the model can't do
    report, files = run.task.report(run.model, run.device)
    report = with_dial(report, dial, front=run.task.front)
    own = {**report.facts, **run.facts, **control_facts(run.task.config.model.backbone_args)}
    own |= {TASK: run.task.name, DIGEST: run.digest}
    if run.changes:
        own["model"] += f", with {', '.join(f'{name}={value}' for name, value in run.changes.items())}"
    report = replace(
        report,
        facts={**own, **facts},
        quantities=(*report.quantities, *training_quantities(run.history)),
        curves=(*report.curves, *training_curves(run.history, monitor=run.task.monitor)),
    )
    write_report(report, out)
    for name, content in files.items():
        write_atomically(out / name, content)
    return report


def control_facts(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Say of a backbone whose flows make no step that it is the control without depth."""
    return {CONTROL: "no step in any flow: the layers around them alone"} if makes_no_step(arguments) else {}
