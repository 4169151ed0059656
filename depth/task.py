"""Depth estimation as a task of the engine."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional

from depth.baselines import Baselines, fit_baselines
from depth.config import DepthConfig
from depth.data.check import describe
from depth.data.dataset import DepthDataset, collate
from depth.data.read import Split, read_pairs, require_apart, unit_of
from depth.data.records import DepthPairs
from depth.data.transforms import AUGMENTATIONS, RandomCrop, Transform, resize_pair
from depth.data.units import Unit
from depth.distillation import BODY, DepthDistillation
from depth.evaluate import MODEL, Comparison, DepthMetrics, ImageResult
from depth.losses import weighted_losses
from depth.model import build_depth_model, decoder_levels, describe_model
from depth.pictures import example_picture, example_pictures
from depth.predict import depth_prediction, roomy_unit
from depth.probe import build_probe
from depth.protocols import evaluated_truth, evaluation_pair, training_pair
from depth.report import depth_report
from depth.score import score_files
from engine.config import DIAL_SETTINGS, budgeted_model
from engine.distributed import gather_lists, share
from engine.images.check import generated_note
from engine.measure.effort import recorded_nfe, with_effort
from engine.measure.model import measure
from engine.report.records import Report
from engine.runs.distillation import load_teacher
from engine.task import TRIED, Prediction, Probe
from engine.training.evaluation import calibration_indices, evaluation_batches
from engine.training.optimization import autocast, images_to_device
from odebackbones.errors import truncate

FOLLOWED = ("delta1", "abs_rel", "rmse", "silog")
"""Figures that the training log shows."""


class DepthTask:
    """Monocular depth estimation on pairs of an image and its depth map, with baselines from the training set."""

    name: ClassVar[str] = "depth"
    front: ClassVar[tuple[str, ...]] = ("delta1", "abs_rel")
    body: ClassVar[str] = BODY
    monitor: ClassVar[str] = "delta1"
    config_class: ClassVar[type[DepthConfig]] = DepthConfig
    free_settings: ClassVar[tuple[str, ...]] = (
        "data.workers",
        "data.in_memory",
        "data.strict",
        "predict",
        *DIAL_SETTINGS,
    )

    def __init__(self, config: DepthConfig, metadata: dict[str, Any] | None = None) -> None:
        self.config = config
        self.workers = config.data.workers
        self.comparison = Comparison(config.eval, max_depth=config.model.max_depth)
        self.train_problems: tuple[str, ...] = ()
        if metadata is None:
            self.train_problems = self.train_pairs.problems
            require_apart(self.train_pairs, self.val_pairs)  # finds faults in the data before training starts
        elif metadata:
            self.train_problems = tuple(metadata["train_problems"])
            if metadata["protocol"] == config.eval.protocol:  # under another protocol, the baselines cover other pixels
                self.baselines = Baselines(**metadata["baselines"])

    @classmethod
    def predict_settings(cls, metrics: Mapping[str, float]) -> dict[str, Any]:
        """Return no settings: a prediction uses the run's own."""
        return {}

    def describe_data(self) -> list[str]:
        """Describe the pairs, sizes and depths of both splits."""
        data = self.config.data
        is_certain = data.format == "scenes" or not data.check_unit
        limit = None if is_certain else self.config.model.max_depth
        splits = {"train": self.train_pairs, "val": self.val_pairs}
        lines = [describe(name, pairs, max_depth=limit) for name, pairs in splits.items()]
        return [generated_note("scenes"), *lines] if data.format == "scenes" else lines

    def trial(self, model: nn.Module, device: torch.device) -> None:
        """Evaluate two validation images, which may have no pixel that counts; refuse an unsuitable teacher."""
        if self.distillation:
            self.distillation.require_compatible(model)
        few = range(min(TRIED, len(self.val_dataset)))
        self.results(lambda _, x, __: self.infer(model, x, device), baselines=True, among=few)

    @cached_property
    def train_pairs(self) -> DepthPairs:
        """The training set."""
        return self.read("train")

    @cached_property
    def val_pairs(self) -> DepthPairs:
        """The validation set."""
        return self.read("val")

    def read(self, split: Split) -> DepthPairs:
        """Read a split of the data."""
        return read_pairs(self.config.data, split, max_depth=self.config.model.max_depth, cut=self.cut)

    def cut(self, depth: Tensor) -> Tensor:
        """Return the part of a depth map that the protocol evaluates."""
        return evaluated_truth(depth, protocol=self.config.eval.protocol)

    @cached_property
    def baselines(self) -> Baselines:
        """Predictions from the training set's depths that ignore the image."""
        return fit_baselines(DepthDataset(self.train_pairs), cut=self.cut)

    @cached_property
    def val_dataset(self) -> DepthDataset:
        """The validation set, with only the depths that count."""
        return DepthDataset(self.val_pairs, cut=partial(evaluation_pair, protocol=self.config.eval.protocol))

    @classmethod
    def check_model(cls, config: DepthConfig) -> None:
        """Refuse a model that can't be built, before any data is read."""
        decoder_levels(budgeted_model(config))

    def build_model(self, *, loaded: bool = False) -> nn.Module:
        """Build the model, with random weights if other weights will be loaded."""
        return build_depth_model(budgeted_model(self.config), loaded=loaded)

    def train_dataset(self) -> Dataset[Any]:
        """Return the augmented training set."""
        data = self.config.data
        resize, *crop = self.sizing()
        cut = partial(training_pair, protocol=self.config.eval.protocol)
        transforms = [resize, *AUGMENTATIONS[data.augment](), *crop]
        return DepthDataset(self.train_pairs, transforms, cut=cut, in_memory=data.in_memory)

    def sizing(self) -> list[Transform]:
        """Return the transforms that bring a pair to the training size: resizing, and a random crop if set."""
        data = self.config.data
        return [partial(resize_pair, size=data.size), *([RandomCrop(data.crop)] if data.crop else [])]

    def collate(self, samples: list[Any]) -> Any:
        """Stack samples into images ``(B, 3, H, W)`` and depths ``(B, 1, H, W)`` [m]."""
        return collate(samples)

    def losses(self, model: nn.Module, batch: Any, device: torch.device) -> dict[str, Tensor]:
        """Return the configured losses, and those of distillation."""
        if self.distillation is None:
            return self.own_losses(model, batch, device)
        images, depths = self.to_device(batch, device)
        student = getattr(model, "module", model)
        found, taught = self.distillation.losses(model, student, images)
        return weighted_losses(self.config.loss, found, self.reachable(depths), images) | taught

    def own_losses(self, model: nn.Module, batch: Any, device: torch.device) -> dict[str, Tensor]:
        """Return the configured losses alone."""
        images, depths = self.to_device(batch, device)
        return weighted_losses(self.config.loss, model(images), self.reachable(depths), images)

    def to_device(self, batch: Any, device: torch.device) -> tuple[Tensor, Tensor]:
        """Move images and depths to the device."""
        return images_to_device(batch[0], device, self.config.optim), batch[1].to(device, non_blocking=True)

    @cached_property
    def distillation(self) -> DepthDistillation | None:
        """Losses of distillation, or None without a teacher."""
        config = self.config.distillation
        return DepthDistillation(config, load_teacher(type(self), config.teacher)) if config.teacher else None

    def reachable(self, depths: Tensor) -> Tensor:
        """Set true depths ``(B, 1, H, W)`` [m] outside the model's bounds to 0, as where nothing was measured."""
        model = self.config.model
        return torch.where((depths >= model.min_depth) & (depths <= model.max_depth), depths, 0.0)

    def infer(self, model: nn.Module, image: Tensor, device: torch.device) -> Tensor:
        """Predict an image's depth: ``(3, H, W)`` in [0, 1] ``-> (h, w)`` [m] at the model input's size, on the CPU."""
        if model.training:  # setting the mode visits all modules, which would slow down every timed call
            model.eval()
        size = self.config.data.size
        if size and tuple(image.shape[1:]) != tuple(size):
            image = functional.resize(image, list(size), antialias=True)
        with torch.inference_mode(), autocast(device, self.config.optim):
            batch = images_to_device(image[None], device, self.config.optim)
            depth = model(batch)
            if self.config.eval.flip:
                depth = (depth + model(batch.flip(-1)).flip(-1)) / 2
        return depth[0, 0].float().cpu()

    def results(
        self, predict: Callable[[int, Tensor, Tensor], Tensor], *, baselines: bool, among: Sequence[int] | None = None
    ) -> list[ImageResult]:
        """Compute the sums of every validation image once, whatever the number of processes.

        Args:
            predict: Maps an image's index, the image in [0, 1] and the truth to the predicted depth ``(h, w)`` [m].
            baselines: Whether the baselines are compared, too.
            among: Indices of the images; None for all.
        """
        numbers = range(len(self.val_dataset)) if among is None else among
        indices = [numbers[i] for i in share(len(numbers))]
        samples = evaluation_batches(self.val_dataset, indices, workers=self.workers)
        found = []
        for index, (image, depth) in zip(indices, samples, strict=True):
            truth = depth[0]
            others = self.baselines.predictions(tuple(truth.shape)) if baselines else {}
            found.append(self.comparison.image(index, {MODEL: predict(index, image, truth), **others}, truth))
        return gather_lists(found)

    def metrics(self, model: nn.Module, device: torch.device, *, baselines: bool) -> DepthMetrics:
        """Compute the figures of a model."""
        return self.comparison.metrics(self.results(lambda _, x, __: self.infer(model, x, device), baselines=baselines))

    def evaluate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Return the metrics that are monitored during training."""
        found = self.metrics(model, device, baselines=False).averaged[MODEL]
        return {name: found[name] for name in FOLLOWED}

    def figures(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Return delta1 and abs_rel."""
        found = self.metrics(model, device, baselines=False).averaged[MODEL]
        return {name: found[name] for name in self.front}

    def calibration_batches(self, number: int, device: torch.device) -> list[Tensor]:
        """Return batches ``(B, 3, H, W)`` of training images without augmentation."""
        cut = partial(training_pair, protocol=self.config.eval.protocol)
        pairs, size = DepthDataset(self.train_pairs, self.sizing(), cut=cut), self.config.optim.batch_size
        drawn = calibration_indices(len(pairs), number, batch_size=size, seed=self.config.run.seed)
        batches = (collate([pairs[i] for i in batch])[0] for batch in drawn)
        return [images_to_device(images, device, self.config.optim) for images in batches]

    def metadata(self) -> dict[str, Any]:
        """Return the baselines, so that an evaluation by the same protocol needs no training set, and its faults."""
        baselines = {"baselines": self.baselines.plain(), "protocol": self.config.eval.protocol}
        return {**baselines, "train_problems": list(self.train_problems)}

    def report(self, model: nn.Module, device: torch.device) -> tuple[Report, dict[str, bytes]]:
        """Build the report of figures, baselines, cost, speed and example pictures."""
        with recorded_nfe(model) as calls:
            metrics = self.metrics(model, device, baselines=True)
        measured = measure(self, model, device, self.config.optim, body=BODY)
        predict = partial(self.infer, model, device=device)
        report = depth_report(
            self.config.run.name,
            metrics,
            measured.quantities,
            images=self.val_pairs.names,
            facts={"model": describe_model(budgeted_model(self.config)), **self.facts(), **measured.facts},
            pictures=example_pictures(self.val_dataset, predict, self.comparison),
            notes=(*self.notes(), *measured.notes),
        )
        draw = partial(example_picture, self.val_dataset, predict, self.comparison)
        return with_effort(report, model, calls, images=len(self.val_dataset), draw=draw), {}

    def score(self, predictions: Path) -> Report:
        """Evaluate depth maps in files with the validation images' names, without a model."""
        return score_files(self, predictions)

    def predict(self, model: nn.Module, image: Tensor, device: torch.device) -> Prediction:
        """Predict the depth and return it in the form of :func:`~depth.predict.depth_prediction`."""
        unit = self.written_unit  # raises before the image is processed
        depth = self.infer(model, functional.to_dtype(image, torch.float32, scale=True), device)
        depth = functional.resize(depth[None], list(image.shape[1:]), antialias=False)[0]
        limit = self.config.model.max_depth
        return depth_prediction(image, depth, self.config.predict, unit=unit, max_depth=limit)

    def probe(self, model: nn.Module, device: torch.device) -> Probe:
        """Probe the model on the first validation image, and a batch of two copies of it."""
        return build_probe(self, model, device)

    @cached_property
    def written_unit(self) -> Unit:
        """Unit of the whole numbers in this model's predictions.

        Raises:
            InputError: The greatest depth does not fit into 16 bits in the unit.
        """
        return roomy_unit(self.config.predict.unit, unit_of(self.config.data), max_depth=self.config.model.max_depth)

    def facts(self) -> dict[str, str]:
        """Return what was evaluated, how, and at which size."""
        size, facts = self.config.data.size, self.evaluation_facts()
        if self.config.eval.flip:
            facts["protocol"] += "; averaged with the mirror image's prediction"
        return {**facts, "image size": f"{size[0]}x{size[1]} px" if size else "as stored"}

    def evaluation_facts(self) -> dict[str, str]:
        """Return what was evaluated, and how, whatever made the predictions."""
        protocol = f"{self.config.eval.protocol}: {self.comparison.description}"
        return {"data set": self.val_pairs.name, "protocol": protocol}

    def notes(self) -> tuple[str, ...]:
        """Return what a reader of the report must know."""
        problems = (*self.train_problems, *self.val_pairs.problems)
        return tuple(f"left out: {problem}" for problem in truncate(problems, "faulty pairs"))
