"""Settings of a depth run."""

from dataclasses import dataclass, field

from depth.data.config import DataConfig
from depth.data.units import Unit, units_per_meter
from depth.evaluate import EvalConfig
from depth.losses import LossConfig
from depth.model import ModelConfig
from depth.point_cloud import require_intrinsics
from engine.config import AnytimeConfig, DistillationConfig, OptimConfig, RunConfig


@dataclass(frozen=True)
class PredictConfig:
    """Settings of a prediction on files: what it writes besides pictures.

    Args:
        unit: Unit of the predicted depth maps in 16-bit PNG, and of scored ones, in the same form as ``data.unit``;
            null takes the data's unit, or writes in a coarser one if 16 bits of it don't reach model.max_depth.
        intrinsics: fx, fy, cx, cy [px] of the images; if given, a colored point cloud is written, too.
    """

    unit: Unit | None = None
    intrinsics: list[float] | None = None

    def __post_init__(self) -> None:
        require_intrinsics(self.intrinsics, setting="predict.intrinsics")
        if self.unit is not None:
            units_per_meter(self.unit, setting="predict.unit")


@dataclass(frozen=True)
class DepthConfig:
    """Configuration of a depth run.

    Args:
        run: Where the run writes, and what makes it repeatable.
        data: Images and depth maps to read.
        model: Backbone, decoder and head.
        loss: Weights of the losses.
        eval: How predictions are compared with the ground truth.
        predict: Output of a prediction on files.
        distillation: Distillation from a trained run.
        anytime: Training for several numbers of steps.
        optim: How the weights are trained.
    """

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    anytime: AnytimeConfig = field(default_factory=AnytimeConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
