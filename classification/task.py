"""Classification as a task of the engine."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms.v2.functional import to_pil_image

from classification.config import ClassificationConfig
from classification.data.dataset import LabeledImages, describe
from classification.data.read import build_source
from classification.data.sources import TORCHVISION, FolderImages
from classification.data.transforms import MODES, Transform, build_transform
from classification.distillation import Distillation, require_same_classes
from classification.losses import build_mix, label_loss
from classification.metrics import ClassificationMetrics, evaluate_scores
from classification.model import build_classifier, input_config
from classification.pictures import mistakes
from classification.predict import class_prediction
from classification.report import TOP1, classification_report
from classification.resampling import resample_scores
from engine.config import DIAL_SETTINGS, budgeted_model
from engine.distributed import gather_lists, loader_processes, rank, share
from engine.images.check import warn_of_common_images
from engine.measure.calls import loss_call
from engine.measure.model import measure
from engine.measure.resampling import with_resamples
from engine.report.records import Report, model_label
from engine.task import TRIED, Prediction, Probe
from engine.training.evaluation import calibration_indices, evaluation_batches
from engine.training.optimization import autocast, images_to_device
from odebackbones.errors import InputError

EVALUATED_AT_ONCE = 100
"""Number of images in an evaluation batch."""

PROBED = 16
"""Number of images in the batch whose training memory is measured."""


AS_TRAINED = ("crop_pct", "crop_mode", "interpolation", "mean", "std")
"""Properties of the network's input that belong to its weights."""


class ClassificationTask:
    """Classification with a timm model; the checkpoint or the training set names the classes."""

    name: ClassVar[str] = "classification"
    front: ClassVar[tuple[str, ...]] = (f"{TOP1} [%]",)
    body: ClassVar[str] = ""
    monitor: ClassVar[str] = "top1"
    config_class: ClassVar[type[ClassificationConfig]] = ClassificationConfig
    free_settings: ClassVar[tuple[str, ...]] = (
        *(f"data.{name}" for name in ("workers", "in_memory", "verify", "download")),
        *DIAL_SETTINGS,
    )

    def __init__(self, config: ClassificationConfig, metadata: dict[str, Any] | None = None) -> None:
        self.config = config
        self.workers = config.data.workers
        self.trained_input: dict[str, Any] = (metadata or {}).get("input", {})
        if not config.data.root:
            raise InputError("data.root: give the folder that holds one for each split, or torchvision's data set")
        self.classes: list[str] = list(metadata["classes"] if metadata else self.train_images.classes)
        self.mix = build_mix(config.loss, num_classes=len(self.classes))
        if metadata is None:  # faults in the data show before training starts
            self.verify()

    @classmethod
    def predict_settings(cls, metrics: Mapping[str, float]) -> dict[str, Any]:
        """Return no settings: a prediction uses the run's own."""
        return {}

    def describe_data(self) -> list[str]:
        """Describe the numbers of images and classes of both splits."""
        return [describe("train", self.train_images), describe("val", self.val_images)]

    def trial(self, model: nn.Module, device: torch.device) -> None:
        """Evaluate two validation images."""
        samples = [self.val_images[i] for i in range(min(TRIED, len(self.val_images)))]
        scores = self.infer(model, torch.stack([image for image, _ in samples]), device)
        self.metrics(scores, torch.tensor([label for _, label in samples]))

    def verify(self) -> None:
        """Refuse damaged images, unless all are decoded anyway, and warn of images that are in both splits.

        Raises:
            InputError: Some images are damaged.
        """
        sources = [images.source for images in (self.train_images, self.val_images)]
        folders = [source.files for source in sources if isinstance(source, FolderImages)]
        if len(folders) == len(sources):
            warn_of_common_images(*(map(Path, files) for files in folders))
        if self.config.data.verify and not self.config.data.in_memory and rank() == 0:
            for source in sources:
                source.verify()

    @cached_property
    def train_images(self) -> LabeledImages:
        """The augmented training set."""
        data = self.config.data
        return self.images(train=True, augment=data.augment, in_memory=data.in_memory)

    @cached_property
    def val_images(self) -> LabeledImages:
        """The validation set."""
        return self.images(train=False, classes=self.classes, in_memory=self.config.data.in_memory)

    @cached_property
    def val_batch(self) -> Tensor:
        """The first validation images, as many as are evaluated at once: ``(B, C, H, W)``."""
        return torch.stack([self.val_images[i][0] for i in range(min(EVALUATED_AT_ONCE, len(self.val_images)))])

    def images(
        self, *, train: bool, in_memory: bool, classes: list[str] | None = None, augment: str = "none"
    ) -> LabeledImages:
        """Build a split of the data."""
        data, channels = self.config.data, self.input_config["input_size"][0]
        if channels not in MODES:
            raise InputError(f"model {self.config.model.backbone} takes {channels} channels, and images have 3 or 1")
        return LabeledImages(
            build_source(data, train=train, classes=classes),
            build_transform(self.input_config, augment=augment),
            mode=MODES[channels],
            in_memory=in_memory,
        )

    @cached_property
    def input_config(self) -> dict[str, Any]:
        """timm's description of the network's input; cropped and normalized as it was trained, if it was."""
        found = input_config(self.config.model, image_size=self.config.data.image_size)
        return found | {name: self.trained_input[name] for name in AS_TRAINED if name in self.trained_input}

    @cached_property
    def transform(self) -> Transform:
        """Transform from an image to the network's input."""
        return build_transform(self.input_config)

    @cached_property
    def distillation(self) -> Distillation | None:
        """Losses of distillation, or None without a teacher."""
        config, number = self.config.distillation, len(self.classes)
        if config.teacher is None:
            return None
        if isinstance(config.teacher, str):
            require_same_classes(config.teacher, self.classes)
        student = self.build_model(loaded=True)
        return Distillation(config, student, student_input=self.input_config, num_classes=number, loss=self.config.loss)

    @classmethod
    def check_model(cls, config: ClassificationConfig) -> None:
        """Refuse a network that can't be built, before any data is read."""
        with torch.device("meta"):
            build_classifier(budgeted_model(config), setting="model", num_classes=2, loaded=True)

    def build_model(self, *, loaded: bool = False) -> nn.Module:
        """Build the network, with random weights if other weights will be loaded."""
        model = budgeted_model(self.config)
        return build_classifier(model, setting="model", num_classes=len(self.classes), loaded=loaded)

    def train_dataset(self) -> Dataset[Any]:
        """Return the augmented training set."""
        _ = self.distillation  # an unsuitable teacher shows before training starts
        return self.train_images

    def collate(self, samples: list[Any]) -> Any:
        """Stack samples into images ``(B, C, H, W)`` and labels ``(B,)``."""
        return default_collate(samples)

    def losses(self, model: nn.Module, batch: Any, device: torch.device) -> dict[str, Tensor]:
        """Return the cross-entropy, or the losses of distillation."""
        images, labels = images_to_device(batch[0], device, self.config.optim), batch[1].to(device, non_blocking=True)
        if self.mix is not None:
            images, labels = self.mix(images, labels)
        if self.distillation is not None:
            return self.distillation.losses(model, getattr(model, "module", model), images, labels)
        return {"loss": label_loss(model(images), labels, self.config.loss)}

    def scores(self, model: nn.Module, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the logits ``(N, C)`` of the validation set, and its labels ``(N,)``."""
        indices = list(share(len(self.val_images)))
        kwargs = {"workers": self.workers, "batch_size": EVALUATED_AT_ONCE, "collate": self.collate}
        batches = evaluation_batches(self.val_images, indices, **kwargs)
        found = gather_lists([(self.infer(model, images, device), labels) for images, labels in batches])
        order = torch.tensor(gather_lists(indices)).argsort()
        scores, labels = (torch.cat(parts)[order] for parts in zip(*found, strict=True))
        return scores, labels

    def infer(self, model: nn.Module, images: Tensor, device: torch.device) -> Tensor:
        """Return the logits of a batch, in float32 on the CPU: ``(B, C, H, W) -> (B, classes)``."""
        if model.training:  # setting the mode walks all modules, which should not happen in every timed call
            model.eval()
        with torch.inference_mode(), autocast(device, self.config.optim):
            return model(images_to_device(images, device, self.config.optim)).float().cpu()

    def metrics(self, scores: Tensor, labels: Tensor) -> ClassificationMetrics:
        """Compute the metrics of logits."""
        return evaluate_scores(scores, labels, self.classes)

    def evaluate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Return the metrics that are monitored during training."""
        metrics = self.metrics(*self.scores(model, device))
        return {name: getattr(metrics, name) for name in ("top1", "top5", "precision", "recall", "f1")}

    def figures(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Return the top-1 accuracy, as the report calls it."""
        return {self.front[0]: 100 * self.metrics(*self.scores(model, device)).top1}

    def metadata(self) -> dict[str, Any]:
        """Return the names of the classes, and how images are prepared."""
        return {"classes": self.classes, "input": {name: self.input_config[name] for name in AS_TRAINED}}

    def report(self, model: nn.Module, device: torch.device) -> tuple[Report, dict[str, bytes]]:
        """Build the report of metrics, confusions, cost, speed and mistakes."""
        scores, labels = self.scores(model, device)
        measured = measure(self, model, device, self.config.optim)
        report = classification_report(
            self.config.run.name,
            self.metrics(scores, labels),
            measured.quantities,
            facts={**self.facts(measured.probe), **measured.facts},
            pictures=mistakes(self.val_images, scores),
            notes=measured.notes,
        )
        figures = {name: 100 * values for name, values in resample_scores(scores, labels).items()}
        return with_resamples(report, figures, self.val_images.names), {}

    def calibration_batches(self, number: int, device: torch.device) -> list[Tensor]:
        """Return batches ``(B, C, H, W)`` of training images without augmentation."""
        images = self.images(train=True, in_memory=False)
        drawn = calibration_indices(len(images), number, batch_size=EVALUATED_AT_ONCE, seed=self.config.run.seed)
        loader = DataLoader(images, batch_sampler=drawn, num_workers=loader_processes(self.workers))
        return [images_to_device(batch, device, self.config.optim) for batch, _ in loader]

    def predict(self, model: nn.Module, image: Tensor, device: torch.device) -> Prediction:
        """Draw the image with its likeliest classes, and list these with their probabilities as plain data."""
        mode = MODES[self.input_config["input_size"][0]]
        batch = self.transform(to_pil_image(image).convert(mode))[None]
        return class_prediction(image, self.infer(model, batch, device)[0], self.classes)

    def probe(self, model: nn.Module, device: torch.device) -> Probe:
        """Probe the network on the first validation image, a training batch of its copies, and an evaluation batch."""
        image, label = self.val_images[0]
        batch = (torch.stack([image] * PROBED), torch.tensor([label] * PROBED))

        optim = self.config.optim

        def losses() -> dict[str, Tensor]:  # without mixup, CutMix and a teacher
            logits = model(images_to_device(batch[0], device, optim))
            return {"loss": label_loss(logits, batch[1].to(device), self.config.loss)}

        height, width = image.shape[-2:]
        return Probe(
            infer=lambda: self.infer(model, image[None], device),
            loss=loss_call(model, losses, device, optim),
            parts={"network": [model]},
            image_size=(height, width),
            batch_size=PROBED,
            infer_batch=lambda: self.infer(model, self.val_batch, device),
            infer_batch_size=min(EVALUATED_AT_ONCE, len(self.val_images)),
        )

    def facts(self, probe: Probe) -> dict[str, str]:
        """Return how the numbers came about: model, data set, images and image size."""
        model, data = budgeted_model(self.config), self.config.data
        (height, width), prepared = probe.image_size, self.input_config
        return {
            "model": model_label(model.backbone, model.backbone_args),
            "data set": f"{data.format} (test)" if data.format in TORCHVISION else str(Path(data.root) / data.val),
            "images": str(len(self.val_images)),
            "image size": f"{height}x{width} px, cropped to {prepared['crop_pct']:g}, {prepared['interpolation']}",
        }
