"""Settings of a detection run."""

from dataclasses import dataclass, field

from detection.data.config import DataConfig
from detection.model import ModelConfig
from engine.config import AnytimeConfig, DialConfig, DistillationConfig, OptimConfig, RunConfig


@dataclass(frozen=True)
class DetectionConfig:
    """Settings of a detection run.

    Args:
        run: Where the run writes, and what makes it repeatable.
        data: Images and boxes.
        model: Backbone and detector.
        eval: Other solvers that the report tries, in addition to the model as it is.
        distillation: Distillation from a trained run.
        anytime: Training for several numbers of steps.
        optim: How the weights are trained.
    """

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    eval: DialConfig = field(default_factory=DialConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    anytime: AnytimeConfig = field(default_factory=AnytimeConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
