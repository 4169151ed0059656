"""What a task gives the engine: detection, depth and classification differ in this, and in nothing else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from engine.config import OptimConfig, RunConfig
from engine.report.records import Report

TRIED = 2
"""Images of the evaluation before a training."""


class TaskConfig(Protocol):
    """A task's configuration: a dataclass with these two among its fields."""

    @property
    def run(self) -> RunConfig:
        """Where the run goes."""
        ...

    @property
    def optim(self) -> OptimConfig:
        """How the weights are trained."""
        ...


@dataclass(frozen=True)
class Probe:
    """A model call to be measured: one inference, and one training step's loss, on images of the run's size.

    Attributes:
        infer: Runs the model once on a batch of one image.
        loss: Runs the model in training mode on a batch and returns the loss.
        parts: Name -> modules whose time counts as that part of the inference.
        image_size: (H, W) [px] of what ``infer`` sees.
        batch_size: Images in a ``loss`` call.
        body_loss: As ``loss``, through the backbone alone, if the model is more than that.
        infer_batch: As ``infer``, on several images, if the task infers them at once.
        infer_batch_size: Images in an ``infer_batch`` call.
    """

    infer: Callable[[], Any]
    loss: Callable[[], Tensor]
    parts: Mapping[str, Sequence[nn.Module]]
    image_size: tuple[int, int]
    batch_size: int
    body_loss: Callable[[], Tensor] | None = None
    infer_batch: Callable[[], Any] | None = None
    infer_batch_size: int = 1


@dataclass(frozen=True)
class Prediction:
    """What a model finds in an image.

    Attributes:
        picture: Picture of it, ``(3, H', W')`` uint8.
        facts: The same as plain data.
        files: Further files: what follows the image's name -> content.
        counts: How much of what was found, by kind, to be added up.
    """

    picture: Tensor
    facts: dict[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


class Task(Protocol):
    """One vision task on one data set, as the training loop and the tools see it."""

    name: ClassVar[str]
    """The word on the command line: ``detection``, ..."""
    monitor: ClassVar[str]
    """The metric, higher is better, that picks the best checkpoint."""
    config_class: ClassVar[type[Any]]
    """Its configuration, a :class:`TaskConfig`."""
    free_settings: ClassVar[tuple[str, ...]]
    """Settings, and groups of them, that the weights do not depend on."""
    workers: int
    """Processes that load data."""

    def __init__(self, config: Any, metadata: dict[str, Any] | None = None) -> None:
        """Read the data; with a checkpoint's ``metadata``, only what an evaluation needs."""
        ...

    def build_model(self, *, loaded: bool = False) -> nn.Module:
        """The model with fresh or pretrained weights; with any if a checkpoint's will be ``loaded``."""
        ...

    def describe_data(self) -> list[str]:
        """A line about each split, for before the training; what is suspicious has been warned of."""
        ...

    def trial(self, model: nn.Module, device: torch.device) -> None:
        """Evaluate a little, so that what would stop an evaluation stops the training before it starts."""
        ...

    def train_dataset(self) -> Dataset[Any]:
        """The training samples; random augmentation draws from torch's generator."""
        ...

    def collate(self, samples: list[Any]) -> Any:
        """A batch of samples."""
        ...

    def losses(self, model: nn.Module, batch: Any, device: torch.device) -> dict[str, Tensor]:
        """The named losses of a batch; their sum is minimized."""
        ...

    def evaluate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """The metrics on the validation set; called in every process, each takes its share."""
        ...

    def metadata(self) -> dict[str, Any]:
        """Plain data that a checkpoint needs besides weights and config, e.g. the class names."""
        ...

    def report(self, model: nn.Module, device: torch.device) -> tuple[Report, dict[str, bytes]]:
        """The full evaluation of a trained model, and further files (name -> content) to keep beside it."""
        ...

    @classmethod
    def predict_settings(cls, metrics: Mapping[str, float]) -> dict[str, Any]:
        """Settings, by their dotted names, that a prediction starts from in place of the checkpoint's.

        Args:
            metrics: What the checkpoint's evaluation found.
        """
        ...

    def predict(self, model: nn.Module, image: Tensor, device: torch.device) -> Prediction:
        """What the model finds in ``image: (3, H, W)`` uint8."""
        ...

    def probe(self, model: nn.Module, device: torch.device) -> Probe:
        """What the profiler measures."""
        ...


@runtime_checkable
class ScoresPredictions(Protocol):
    """A task that can evaluate predictions in files, without a model."""

    def score(self, predictions: Path) -> Report:
        """The evaluation of a folder of predictions on the validation set."""
        ...
