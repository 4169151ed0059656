"""Interface of a task to the engine: detection, depth and classification differ in this, and in nothing else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from engine.config import AnytimeConfig, DialConfig, OptimConfig, RunConfig
from engine.report.records import Report

TRIED = 2
"""Number of images in the trial evaluation before training."""


class TaskConfig(Protocol):
    """Configuration of a task: a dataclass with these fields among others."""

    @property
    def run(self) -> RunConfig:
        """Where the run writes, and what makes it repeatable."""
        ...

    @property
    def eval(self) -> DialConfig:
        """Other solvers that a report tries."""
        ...

    @property
    def anytime(self) -> AnytimeConfig:
        """Training for several numbers of steps."""
        ...

    @property
    def optim(self) -> OptimConfig:
        """How the weights are trained."""
        ...


@dataclass(frozen=True)
class Probe:
    """Model calls to measure: one inference, and the loss of one training step, on images of the run's size.

    Attributes:
        infer: Runs the model once on a batch of one image.
        loss: Runs the model in training mode on a batch and returns the loss.
        parts: Name -> modules whose time counts as that part of the inference.
        image_size: (H, W) [px] of the image that ``infer`` sees.
        batch_size: Number of images in a ``loss`` call.
        body_loss: Like ``loss``, but through the backbone alone, if the model has other parts.
        infer_batch: Like ``infer``, but on several images, if the task infers several at once.
        infer_batch_size: Number of images in an ``infer_batch`` call.
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
    """Prediction of a model for an image.

    Attributes:
        picture: Picture of the prediction, ``(3, H', W')`` uint8.
        facts: The prediction as plain data.
        files: Further files: the part of the name after the image's name -> content.
        counts: Counts of what was found, by kind, to be added up over images.
    """

    picture: Tensor
    facts: dict[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


class Task(Protocol):
    """One vision task on one data set, as the training loop and the tools see it."""

    name: ClassVar[str]
    """Name on the command line: ``detection``, ..."""
    front: ClassVar[tuple[str, ...]]
    """Labels of the report's figures that are drawn over the cost, the most telling first."""
    body: ClassVar[str]
    """Name of the backbone in the model; empty if it is the model."""
    monitor: ClassVar[str]
    """Metric that picks the best checkpoint; higher is better."""
    config_class: ClassVar[type[Any]]
    """Class of the configuration, a :class:`TaskConfig`."""
    free_settings: ClassVar[tuple[str, ...]]
    """Settings, and groups of settings, that the weights do not depend on."""
    config: Any
    """Configuration, a :class:`TaskConfig`."""
    workers: int
    """Number of processes that load data."""

    def __init__(self, config: Any, metadata: dict[str, Any] | None = None) -> None:
        """Read the data; with a checkpoint's ``metadata``, only what an evaluation needs."""
        ...

    @classmethod
    def check_model(cls, config: Any) -> None:
        """Refuse a model that can't be built, before any data is read."""
        ...

    def build_model(self, *, loaded: bool = False) -> nn.Module:
        """Build the model with fresh or pretrained weights, or with any if a checkpoint's will be ``loaded``."""
        ...

    def describe_data(self) -> list[str]:
        """Return a line about each split, printed before training; warnings of suspicious data have come earlier."""
        ...

    def trial(self, model: nn.Module, device: torch.device) -> None:
        """Evaluate a few images, so that an error that would stop an evaluation stops the training before it starts."""
        ...

    def train_dataset(self) -> Dataset[Any]:
        """Return the training samples; random augmentation draws from torch's generator."""
        ...

    def collate(self, samples: list[Any]) -> Any:
        """Make a batch of samples."""
        ...

    def losses(self, model: nn.Module, batch: Any, device: torch.device) -> dict[str, Tensor]:
        """Return the named losses of a batch; their sum is minimized."""
        ...

    def evaluate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Compute the metrics on the validation set; called in every process, each of which takes its share."""
        ...

    def figures(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Compute the figures of ``front``, by their labels, on the validation set."""
        ...

    def calibration_batches(self, number: int, device: torch.device) -> list[Any]:
        """Return batches of this many training images without augmentation, as the model or its first argument.

        All batches have the same size, as all count the same.
        """
        ...

    def metadata(self) -> dict[str, Any]:
        """Return the plain data that a checkpoint needs besides weights and config, e.g. the class names."""
        ...

    def report(self, model: nn.Module, device: torch.device) -> tuple[Report, dict[str, bytes]]:
        """Evaluate a trained model fully; return the report and further files (name -> content) to keep next to it."""
        ...

    @classmethod
    def predict_settings(cls, metrics: Mapping[str, float]) -> dict[str, Any]:
        """Return settings, by dotted name, from which a prediction starts instead of the checkpoint's.

        Args:
            metrics: Metrics of the checkpoint's evaluation.
        """
        ...

    def predict(self, model: nn.Module, image: Tensor, device: torch.device) -> Prediction:
        """Predict on ``image: (3, H, W)`` uint8."""
        ...

    def probe(self, model: nn.Module, device: torch.device) -> Probe:
        """Return the model calls that the profiler measures."""
        ...


@runtime_checkable
class ScoresPredictions(Protocol):
    """A task that can evaluate predictions in files, without a model."""

    def score(self, predictions: Path) -> Report:
        """Evaluate a folder of predictions on the validation set."""
        ...
