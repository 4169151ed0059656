"""Settings that all tasks share: the run and the optimization."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from timm.optim import list_optimizers

from odebackbones.errors import InputError, unknown_name
from odebackbones.models.stage_options import makes_no_step
from odebackbones.ode import METHODS
from odebackbones.transfer import TRIED_STEPS

AMP_DTYPES: dict[str, torch.dtype | None] = {"none": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Name of an autocast mode -> its dtype."""

SCHEDULES = ("cosine", "multistep")


@dataclass(frozen=True)
class RunConfig:
    """Where a run writes, and what makes it repeatable.

    Args:
        name: Name of the run, which writes to OUTPUT/NAME.
        output: Folder of all runs.
        resume: Continue from OUTPUT/NAME/last.pt if it exists.
        seed: Seed of weights, batches, augmentation and sampling.
        seeds: Train once with each of these seeds, one after another, as the runs NAME_seed0, ...; then ``seed`` is not
            used.
        device: ``auto`` (CUDA if there is one), ``cpu``, ``cuda``, ``cuda:1``, ...
        eval_every: Number of epochs between evaluations; the last epoch is always evaluated.
        save_every_minutes: Minutes between checkpoints within an epoch, from which a killed run continues; 0 saves only
            after each epoch.
        tensorboard: Also write TensorBoard events (needs ``pip install odebackbones[tensorboard]``).
    """

    name: str = "run"
    output: str = "runs"
    resume: bool = False
    seed: int = 0
    seeds: list[int] = field(default_factory=list)
    device: str = "auto"
    eval_every: int = 1
    save_every_minutes: float = 15.0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name in {".", ".."}:
            raise InputError(f"run.name={self.name!r}: expected the name of a folder below run.output")
        for name, least in (("eval_every", 1), ("save_every_minutes", 0)):
            if getattr(self, name) < least:
                raise InputError(f"run.{name}={getattr(self, name)}: expected at least {least}")
        for seed in (self.seed, *self.seeds):
            if not 0 <= seed < 2**63:
                raise InputError(f"run.seed={seed}: expected at least 0, and less than 2**63")
        if len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"run.seeds={self.seeds}: expected different numbers")


@dataclass(frozen=True)
class AnytimeConfig:
    """Training for several numbers of steps, for a dial between speed and precision on one set of weights.

    Args:
        budgets: Numbers of steps of the ODE blocks, such as [1, 2, 4]: a batch draws one for all blocks. Evaluations
            take the largest, or model.backbone_args.steps. Empty: all batches take the model's own number.
        self_distillation: Weight of the error of the states of a second, cheaper solve of every batch, whose teacher
            is the solve with the most steps; 0 for none. A batch then takes up to twice as long.
    """

    budgets: list[int] = field(default_factory=list)
    self_distillation: float = 0.0

    def __post_init__(self) -> None:
        if any(steps < 1 for steps in self.budgets):
            raise InputError(f"anytime.budgets={self.budgets}: expected numbers of steps of at least 1")
        if self.budgets and len(set(self.budgets)) < 2:
            raise InputError(f"anytime.budgets={self.budgets}: expected two or more different numbers of steps")
        if self.self_distillation < 0:
            raise InputError(f"anytime.self_distillation={self.self_distillation}: expected a number of at least 0")
        if self.self_distillation and not self.budgets:
            raise InputError("anytime.self_distillation needs anytime.budgets, such as [1, 2, 4]")


@dataclass(frozen=True)
class DistillationConfig:
    """Distillation from a trained run of the same task, beside the losses on the labels.

    Args:
        teacher: The run's folder, or its ``best.pt`` or ``last.pt``; empty for no distillation.
        feature_weight: Weight of the relative error of the backbone's features.
        map_weight: Weight of the loss toward the teacher's maps.
    """

    teacher: str = ""
    feature_weight: float = 1.0
    map_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("feature_weight", "map_weight"):
            if getattr(self, name) < 0:
                raise InputError(f"distillation.{name}={getattr(self, name)}: expected a number of at least 0")
        if self.teacher and not (self.feature_weight or self.map_weight):
            raise InputError("distillation: with both weights at 0 the teacher teaches nothing; leave it out")


@dataclass(frozen=True)
class DialConfig:
    """Other solvers that a report tries on the trained weights: accuracy, time and memory over steps or tolerance.

    Args:
        solvers: Solvers to try, e.g. ``[euler, midpoint]`` or ``[dopri5]``; none by default.
        steps: Numbers of steps to try, for methods with fixed steps: one for all ODE blocks, or a list of one for each,
            as in ``[1, 2, [1, 2, 4, 2]]``.
        tolerances: Relative and absolute tolerances to try, for adaptive methods.
        calibration: Number of training images from which norm statistics per time are estimated again for every solver;
            0 interpolates the trained statistics.
    """

    solvers: list[str] = field(default_factory=list)
    steps: list[int | list[int]] = field(default_factory=lambda: list(TRIED_STEPS))
    tolerances: list[float] = field(default_factory=lambda: [1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
    calibration: int = 0

    def __post_init__(self) -> None:
        for name in self.solvers:
            if name not in METHODS:
                raise unknown_name("solver in eval.solvers", name, METHODS)
        if any(number < 1 for steps in self.steps for number in (steps if isinstance(steps, list) else [steps])):
            raise InputError(f"eval.steps={self.steps}: expected numbers of at least 1")
        if any(not tolerance > 0 for tolerance in self.tolerances):
            raise InputError(f"eval.tolerances={self.tolerances}: expected positive numbers")
        if self.calibration < 0:
            raise InputError(f"eval.calibration={self.calibration}: expected at least 0 images")


DIAL_SETTINGS = tuple(f"eval.{name}" for name in DialConfig.__dataclass_fields__)
"""Settings of the dial, on which no weights depend."""


@dataclass(frozen=True)
class OptimConfig:
    """How the weights are trained; optimizer, schedule and EMA are timm's.

    Args:
        opt: timm's name of the optimizer: ``adamw``, ``momentum`` (SGD with momentum), ``sgd`` (with Nesterov's), ...
        lr: Peak learning rate.
        momentum: Momentum of ``momentum`` and ``sgd``.
        weight_decay: Weight decay; not applied to biases and norms.
        epochs: Number of passes over the training set.
        batch_size: Images per process and backward pass.
        accumulate: Backward passes per update; an update sees batch_size x accumulate x processes images.
        schedule: ``cosine`` decay to zero, or ``multistep``: division by ten at each milestone.
        milestones: Epochs at which ``multistep`` lowers the learning rate.
        warmup_epochs: Epochs of linear warm-up, which may be a fraction; at most half of all epochs.
        clip_grad: Bound on the gradient's norm; 0 for none.
        ema_decay: Decay of the moving average of the weights, which is then evaluated instead of them; 0 for none.
        amp: Autocast to ``bfloat16`` or ``float16``, or ``none``; a CPU that only emulates bfloat16 uses float32.
        channels_last: Keep the weights in channels-last memory order, which the activations then follow.
    """

    opt: str = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    epochs: int = 12
    batch_size: int = 8
    accumulate: int = 1
    schedule: str = "cosine"
    milestones: list[int] = field(default_factory=lambda: [8, 11])
    warmup_epochs: float = 0.5
    clip_grad: float = 10.0
    ema_decay: float = 0.0
    amp: str = "none"
    channels_last: bool = True

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise InputError(f"optim.{name}={getattr(self, name)}: expected at least 1")
        for name, bound in (("momentum", 1.0), ("ema_decay", 1.0), ("warmup_epochs", math.inf)):
            if not 0 <= getattr(self, name) < bound:
                raise InputError(f"optim.{name}={getattr(self, name)}: expected a number from 0 to below {bound:g}")
        for name in ("lr", "weight_decay", "clip_grad"):
            if getattr(self, name) < 0:
                raise InputError(f"optim.{name}={getattr(self, name)}: expected a number of at least 0")
        if self.opt.lower().removeprefix("lookahead_") not in (known := [str(name) for name in list_optimizers()]):
            raise unknown_name("optim.opt", self.opt, known)
        if self.amp not in AMP_DTYPES:
            raise unknown_name("optim.amp", self.amp, AMP_DTYPES)
        if self.schedule not in SCHEDULES:
            raise unknown_name("optim.schedule", self.schedule, SCHEDULES)


def budgeted_model(config: Any) -> Any:
    """Return the model of a task's configuration, whose backbone has the budgets, and the largest as its usual steps.

    Raises:
        InputError: The backbone's arguments have other budgets.
    """
    budgets, arguments = config.anytime.budgets, config.model.backbone_args
    if budgets and (own := arguments.get("budgets", budgets)) != budgets:
        raise InputError(f"model.backbone_args.budgets={own} and anytime.budgets={budgets}: give one of them")
    if budgets and makes_no_step(arguments):
        raise InputError(f"anytime.budgets={budgets}: model.backbone_args.steps=0 leaves no flow to solve; drop one")
    return replace(config.model, backbone_args=budgeted_arguments(arguments, budgets))


def budgeted_arguments(arguments: Mapping[str, Any], budgets: Sequence[int]) -> dict[str, Any]:
    """Return a backbone's arguments with the budgets, and the largest as its steps if it has none."""
    return {"steps": max(budgets), **arguments, "budgets": list(budgets)} if budgets else dict(arguments)
