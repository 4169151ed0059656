"""What the user can set about a detection run."""

from dataclasses import dataclass, field

from detection.data.config import DataConfig
from detection.model import ModelConfig
from engine.config import OptimConfig, RunConfig


@dataclass(frozen=True)
class DetectionConfig:
    """A detection run.

    Args:
        run: Where it goes, and what makes it repeatable.
        data: Images and boxes.
        model: Backbone and detector.
        optim: Training.
    """

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
