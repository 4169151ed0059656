"""Depth as a task of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms.v2 import functional

from engine.config import OptimConfig, RunConfig
from engine.distributed import gather_lists, loader_processes, share
from engine.log import progress_bar
from engine.measured import described, measure
from engine.optimization import autocast, place_images
from engine.report import Report
from engine.task import Prediction, Probe
from odebackbones.errors import InputError, first_of

from .baselines import Baselines, fit_baselines
from .colors import color_depth, scale_bar, stacked
from .data.check import describe
from .data.config import DataConfig
from .data.dataset import DepthDataset, collate
from .data.depth_files import LARGEST, depth_npy, depth_png
from .data.predictions import prediction_files, read_prediction, require_all
from .data.read import Split, read_pairs, require_apart, unit_of
from .data.records import DepthPairs
from .data.transforms import AUGMENTATIONS, RandomCrop, Transform, resized
from .data.units import USUAL, Unit, unit_name, units_per_meter
from .evaluate import MODEL, Comparison, DepthMetrics, EvalConfig, ImageResult
from .losses import LossConfig, weighted_losses
from .model import ModelConfig, build_depth_model
from .pictures import example_pictures
from .point_cloud import ply, require_intrinsics
from .protocols import evaluated_truth, evaluation_pair, framed, training_pair
from .report import depth_report

BODY = "body"
"""The backbone's name in the model."""

TRIED = 2
"""Images of the evaluation before a training."""

FOLLOWED = ("delta1", "abs_rel", "rmse", "silog")
"""Figures in the training log."""


@dataclass(frozen=True)
class PredictConfig:
    """What a prediction on files writes besides pictures.

    Args:
        unit: Of depth maps that are predicted, as 16-bit PNG, and of those that are scored, as ``data.unit``; null:
            that of the data, or, where model.max_depth is more than 16 bits of it hold, a coarser one.
        intrinsics: fx, fy, cx, cy [px] of the images; with them a colored point cloud is written, too.
    """

    unit: Unit | None = None
    intrinsics: list[float] | None = None

    def __post_init__(self) -> None:
        require_intrinsics(self.intrinsics, setting="predict.intrinsics")
        if self.unit is not None:
            units_per_meter(self.unit, setting="predict.unit")


@dataclass(frozen=True)
class DepthConfig:
    """A depth run.

    Args:
        run: Where it goes, and what makes it repeatable.
        data: Images and depth maps.
        model: Backbone, decoder and head.
        loss: What is minimized.
        eval: How predictions are compared with the truth.
        predict: What a prediction on files writes.
        optim: Training.
    """

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)


class DepthTask:
    """Monocular depth on pairs of an image and its depth map.

    Args:
        config: The run's configuration.
        metadata: A checkpoint's; without it the baselines are those of the training set, which is then read.
    """

    name: ClassVar[str] = "depth"
    monitor: ClassVar[str] = "delta1"
    config_class: ClassVar[type[DepthConfig]] = DepthConfig

    def __init__(self, config: DepthConfig, metadata: dict[str, Any] | None = None) -> None:
        self.config = config
        self.workers = config.data.workers
        self.comparison = Comparison(config.eval, max_depth=config.model.max_depth)
        self.train_problems: tuple[str, ...] = ()
        if metadata is None:
            self.train_problems = self.train_pairs.problems
            require_apart(self.train_pairs, self.val_pairs)  # faults in the data show before training starts
        elif metadata:
            self.train_problems = tuple(metadata["train_problems"])
            if metadata["protocol"] == config.eval.protocol:  # another one's are of other pixels
                self.baselines = Baselines(**metadata["baselines"])

    @classmethod
    def predict_arguments(cls, metrics: Mapping[str, float]) -> list[str]:
        """Nothing but the run's own settings."""
        return []

    def describe_data(self) -> list[str]:
        """Pairs, sizes and depths of both splits."""
        splits, data = {"train": self.train_pairs, "val": self.val_pairs}, self.config.data
        is_certain = data.format == "scenes" or not data.check_unit
        limit = None if is_certain else self.config.model.max_depth
        return [describe(name, pairs, max_depth=limit) for name, pairs in splits.items()]

    def trial(self, model: nn.Module, device: torch.device) -> None:
        """Judge the depth of two images, by the protocol of the evaluation; they may have no pixel that counts."""
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
        """A split of the data."""
        cut = partial(evaluated_truth, protocol=self.config.eval.protocol)
        return read_pairs(self.config.data, split, max_depth=self.config.model.max_depth, cut=cut)

    @cached_property
    def baselines(self) -> Baselines:
        """What can be said of the training set without looking at an image."""
        cut = partial(evaluated_truth, protocol=self.config.eval.protocol)
        return fit_baselines(DepthDataset(self.train_pairs), cut=cut)

    @cached_property
    def val_dataset(self) -> DepthDataset:
        """The validation set, with the depths that count."""
        return DepthDataset(self.val_pairs, cut=partial(evaluation_pair, protocol=self.config.eval.protocol))

    def build_model(self, *, loaded: bool = False) -> nn.Module:
        """The model; with random weights if others will be loaded."""
        return build_depth_model(self.config.model, loaded=loaded)

    def train_dataset(self) -> Dataset[Any]:
        """The training set with augmentation."""
        data = self.config.data
        resize, *crop = self.sizing()
        cut = partial(training_pair, protocol=self.config.eval.protocol)
        transforms = [resize, *AUGMENTATIONS[data.augment](), *crop]
        return DepthDataset(self.train_pairs, transforms, cut=cut, in_memory=data.in_memory)

    def sizing(self) -> list[Transform]:
        """What brings a pair to the size that is trained on: resizing, and perhaps a crop."""
        data = self.config.data
        return [partial(resized, size=data.size), *([RandomCrop(data.crop)] if data.crop else [])]

    def collate(self, samples: list[Any]) -> Any:
        """Images ``(B, 3, H, W)`` and depths ``(B, 1, H, W)`` [m]."""
        return collate(samples)

    def losses(self, model: nn.Module, batch: Any, device: torch.device) -> dict[str, Tensor]:
        """The configured losses."""
        images, depths = self.placed(batch[0], device), batch[1].to(device, non_blocking=True)
        return weighted_losses(self.config.loss, model(images), self.reachable(depths), images)

    def reachable(self, depths: Tensor) -> Tensor:
        """True depths ``(B, 1, H, W)`` [m] within the model's bounds; 0, as where nothing was measured, beyond them."""
        model = self.config.model
        return torch.where((depths >= model.min_depth) & (depths <= model.max_depth), depths, 0.0)

    def placed(self, images: Tensor, device: torch.device) -> Tensor:
        """A batch ``(B, 3, H, W)`` on the device, in the weights' order of memory."""
        return place_images(images, device, channels_last=self.config.optim.channels_last)

    def infer(self, model: nn.Module, image: Tensor, device: torch.device) -> Tensor:
        """The depth of an image in [0, 1], on the CPU: ``(3, H, W) -> (h, w)`` [m], of the model's input's size."""
        if model.training:  # setting the mode walks all modules: not in every call that is timed
            model.eval()
        size = self.config.data.size
        if size and tuple(image.shape[1:]) != tuple(size):
            image = functional.resize(image, list(size), antialias=True)
        with torch.inference_mode(), self.autocast(device):
            batch = self.placed(image[None], device)
            depth = model(batch)
            if self.config.eval.flip:
                depth = (depth + model(batch.flip(-1)).flip(-1)) / 2
        return depth[0, 0].float().cpu()

    def results(
        self, predict: Callable[[int, Tensor, Tensor], Tensor], *, baselines: bool, among: Sequence[int] | None = None
    ) -> list[ImageResult]:
        """The sums of every image of the validation set, each taken once, whatever the number of processes.

        Args:
            predict: From an image's number, the image in [0, 1] and the truth to its depth ``(h, w)`` [m].
            baselines: Whether they are compared, too.
            among: Numbers of the images; None: all.
        """
        numbers = range(len(self.val_dataset)) if among is None else among
        indices = [numbers[i] for i in share(len(numbers))]
        workers = loader_processes(self.workers)
        loader = DataLoader(Subset(self.val_dataset, indices), batch_size=None, num_workers=workers)
        found = []
        for index, (image, depth) in zip(indices, progress_bar("evaluation", loader), strict=True):
            truth = depth[0]
            others = self.baselines.predictions(tuple(truth.shape)) if baselines else {}
            found.append(self.comparison.image(index, {MODEL: predict(index, image, truth), **others}, truth))
        return gather_lists(found)

    def metrics(self, model: nn.Module, device: torch.device, *, baselines: bool) -> DepthMetrics:
        """The figures of a model."""
        return self.comparison.metrics(self.results(lambda _, x, __: self.infer(model, x, device), baselines=baselines))

    def evaluate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """The metrics that are followed during training."""
        found = self.metrics(model, device, baselines=False).averaged[MODEL]
        return {name: found[name] for name in FOLLOWED}

    def metadata(self) -> dict[str, Any]:
        """The baselines, so that an evaluation by the same protocol needs no training set."""
        baselines = {"baselines": self.baselines.plain(), "protocol": self.config.eval.protocol}
        return {**baselines, "train_problems": list(self.train_problems)}

    def report(self, model: nn.Module, device: torch.device) -> tuple[Report, dict[str, bytes]]:
        """Figures, baselines, cost, speed and example pictures."""
        metrics = self.metrics(model, device, baselines=True)
        measured = measure(self, model, device, self.config.optim, body=BODY)
        predict = partial(self.infer, model, device=device)
        report = depth_report(
            self.config.run.name,
            metrics,
            measured.quantities,
            facts={"model": self.model_name, **self.facts(), **measured.facts},
            pictures=example_pictures(self.val_dataset, predict, self.comparison),
            notes=(*self.notes(), *measured.notes),
        )
        return report, {}

    def score(self, predictions: Path) -> Report:
        """The evaluation of depth maps in files, of the validation images' names, without a model."""
        pairs = self.val_pairs.pairs
        files, unit = prediction_files(predictions, pairs), self.scored_unit

        def predict(index: int, image: Tensor, truth: Tensor) -> Tensor:
            depth = read_prediction(files[index], unit=unit, unit_of_floats=self.config.predict.unit or 1.0)
            is_whole = depth.shape != image.shape[1:]  # and not of the frame only
            depth = framed(depth, self.config.eval.protocol) if is_whole else depth
            require_all(depth, self.comparison.counted(truth), files[index])
            return depth

        metrics = self.comparison.metrics(self.results(predict, baselines=False))
        facts = {"predictions": f"{predictions}; whole numbers in {unit_name(unit)}", **self.evaluation_facts()}
        return depth_report(predictions.name, metrics, facts=facts, notes=self.notes())

    def predict(self, model: nn.Module, image: Tensor, device: torch.device) -> Prediction:
        """The depth in colors with their scale; as 16-bit PNG, ``.npy`` and, if intrinsics are given, points."""
        unit = self.written_unit  # refused before an image is worked on
        depth = self.infer(model, functional.to_dtype(image, torch.float32, scale=True), device)
        depth = functional.resize(depth[None], list(image.shape[1:]), antialias=False)[0]
        intrinsics, limit = self.config.predict.intrinsics, self.config.model.max_depth
        picture = stacked([image, color_depth(depth, max_depth=limit), scale_bar(image.shape[2], max_depth=limit)])
        values = depth.numpy()
        files = {"_depth.png": depth_png(values, unit=unit), "_depth.npy": depth_npy(values)}
        if intrinsics:
            files["_points.ply"] = ply(depth, image, intrinsics)
        facts = {"least_m": float(depth.min()), "median_m": float(depth.median()), "greatest_m": float(depth.max())}
        return Prediction(picture, {**facts, "unit": unit}, files)

    def probe(self, model: nn.Module, device: torch.device) -> Probe:
        """The model on the first validation image, and two copies of it as a batch."""
        image, depth = self.val_dataset[0]
        sample = image, depth[0]
        for transform in self.sizing():
            sample = transform(sample)
        batch = collate([(sample[0], sample[1][None])] * 2)

        def loss() -> Tensor:
            model.train()
            with self.autocast(device):
                return torch.stack(list(self.losses(model, batch, device).values())).sum()

        def body_loss() -> Tensor:
            model.train()
            with self.autocast(device):
                levels = model.features(self.placed(batch[0], device))  # pyright: ignore[reportCallIssue]
                return torch.stack([level.float().mean() for level in levels]).sum()

        height, width = self.config.data.size or image.shape[1:]
        return Probe(
            infer=lambda: self.infer(model, image, device),
            loss=loss,
            parts={"backbone": [model.get_submodule(BODY)], "decoder": [model.get_submodule("decoder")]},
            image_size=(height, width),
            batch_size=2,
            body_loss=body_loss,
        )

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """The config's precision."""
        return autocast(device, self.config.optim)

    @property
    def scored_unit(self) -> Unit:
        """Of other models' predictions in whole numbers."""
        return self.config.predict.unit or unit_of(self.config.data)

    @cached_property
    def written_unit(self) -> Unit:
        """Of this model's predictions in whole numbers.

        Raises:
            InputError: 16 bits of it don't hold the greatest depth.
        """
        return roomy_unit(self.config.predict.unit, unit_of(self.config.data), max_depth=self.config.model.max_depth)

    @property
    def model_name(self) -> str:
        """The model with what it is made of."""
        model = self.config.model
        backbone = described(model.backbone, model.backbone_args)
        return f"{backbone}, {model.decoder} decoder {model.decoder_width}, {model.head} to {model.max_depth:g} m"

    def facts(self) -> dict[str, str]:
        """What was evaluated, at which size, and how."""
        size, facts = self.config.data.size, self.evaluation_facts()
        if self.config.eval.flip:
            facts["protocol"] += "; averaged with the mirror image's prediction"
        return {**facts, "image size": f"{size[0]}x{size[1]} px" if size else "as stored"}

    def evaluation_facts(self) -> dict[str, str]:
        """What was evaluated, and how, whatever the predictions are of."""
        protocol = f"{self.config.eval.protocol}: {self.comparison.description}"
        return {"data set": self.val_pairs.name, "protocol": protocol}

    def notes(self) -> tuple[str, ...]:
        """What a reader must know."""
        problems = (*self.train_problems, *self.val_pairs.problems)
        return tuple(f"left out: {problem}" for problem in first_of(problems, "faulty pairs"))


def roomy_unit(wanted: Unit | None, usual: Unit, *, max_depth: float) -> Unit:
    """The wanted unit, or the usual one, or the finest in which 16 bits hold the greatest depth.

    Raises:
        InputError: The wanted unit does not, or none.
    """
    able = [unit for unit in (usual, *sorted(USUAL, key=units_per_meter, reverse=True)) if reach(unit) >= max_depth]
    if wanted is None and able:
        return able[0]
    if wanted is not None and reach(wanted) >= max_depth:
        return wanted
    raise InputError(
        f"predict.unit={wanted}: 16 bits hold up to {reach(wanted or usual):g} m of model.max_depth={max_depth:g} m: "
        f"take {' or '.join(dict.fromkeys(map(str, able))) or 'a number of meters'}"
    )


def reach(unit: Unit) -> float:
    """The greatest depth [m] that a file of 16 bits holds."""
    return LARGEST / units_per_meter(unit)
