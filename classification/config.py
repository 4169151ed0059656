"""Settings of a classification run."""

from dataclasses import dataclass, field

from classification.data.config import DataConfig
from classification.distillation import ClassifierDistillationConfig
from classification.losses import LossConfig
from classification.model import ModelConfig
from engine.config import AnytimeConfig, DialConfig, OptimConfig, RunConfig


@dataclass(frozen=True)
class ClassificationConfig:
    """Settings of a classification run.

    Args:
        run: Where the run writes, and what makes it repeatable.
        data: Images and their classes.
        model: The network.
        loss: Loss on the labels.
        distillation: Distillation from a teacher.
        eval: Other solvers that the report tries, in addition to the model as it is.
        anytime: Training for several numbers of steps.
        optim: How the weights are trained.
    """

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    distillation: ClassifierDistillationConfig = field(default_factory=ClassifierDistillationConfig)
    eval: DialConfig = field(default_factory=DialConfig)
    anytime: AnytimeConfig = field(default_factory=AnytimeConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
