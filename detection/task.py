"""Detection as a task of the engine."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from math import nan
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.models.detection import FasterRCNN

from detection.coco_evaluation import coco_dataset
from detection.config import DetectionConfig
from detection.data.check import (
    crowding_notes,
    describe,
    require_objects,
    thinness,
    without_thin_images,
)
from detection.data.dataset import DetectionDataset, collate
from detection.data.read import read_annotations
from detection.data.records import Annotations
from detection.data.transforms import build_transforms
from detection.distillation import DetectorDistillation
from detection.evaluate import count_proposals, detect, predict_dataset
from detection.metrics import DetectionMetrics, evaluate_detections
from detection.model import build_faster_rcnn, pyramid_levels
from detection.pictures import example_picture, example_pictures
from detection.predict import box_prediction
from detection.report import detection_report, image_facts
from detection.resampling import resample_detections
from engine.config import DIAL_SETTINGS, budgeted_model
from engine.images.check import generated_note, warn_of_common_images
from engine.measure.calls import features_call, loss_call
from engine.measure.effort import recorded_nfe, with_effort
from engine.measure.model import measure
from engine.measure.resampling import with_resamples
from engine.report.records import Quantity, Report, model_label
from engine.runs.distillation import load_teacher
from engine.task import TRIED, Prediction, Probe
from engine.training.evaluation import calibration_indices
from odebackbones.errors import InputError, join_names, truncate

BODY = "backbone.body"
"""The backbone's name in the detector."""

LEAST_SHOWN, DEFAULT_SHOWN = 0.05, 0.5
"""Confidence threshold of predictions: its lowest value, and the default without an evaluation."""


class DetectionTask:
    """Faster R-CNN on images with boxes; the checkpoint or the training set names the classes."""

    name: ClassVar[str] = "detection"
    front: ClassVar[tuple[str, ...]] = ("AP", "F1 (macro)")
    body: ClassVar[str] = BODY
    monitor: ClassVar[str] = "AP"
    config_class: ClassVar[type[DetectionConfig]] = DetectionConfig
    free_settings: ClassVar[tuple[str, ...]] = ("data.workers", "data.strict", *DIAL_SETTINGS)

    def __init__(self, config: DetectionConfig, metadata: dict[str, Any] | None = None) -> None:
        self.config = config
        self.workers = config.data.workers
        self.classes: list[str] = list(metadata["classes"] if metadata else self.train_annotations.classes)
        if config.data.classes is not None and list(config.data.classes) != self.classes:
            raise InputError(
                f"data.classes: the model was trained on {join_names(self.classes)} in this order; leave it out"
            )
        if metadata is None:  # faults in the data show before training starts
            require_objects(self.train_annotations, chosen=config.data.classes or ())
            splits = self.train_annotations, self.val_annotations
            warn_of_common_images(*([record.path for record in split.images] for split in splits))

    @cached_property
    def train_annotations(self) -> Annotations:
        """The training set."""
        return self.sized(read_annotations(self.config.data, "train"))

    @cached_property
    def val_annotations(self) -> Annotations:
        """The validation set, with the labels of the training set."""
        return self.sized(read_annotations(self.config.data, "val", classes=self.classes))

    def sized(self, annotations: Annotations) -> Annotations:
        """Keep only the images that the detector can resize."""
        return without_thin_images(annotations, size=self.sides, strict=self.config.data.strict)

    @property
    def sides(self) -> tuple[int, int]:
        """The smallest shorter side to resize images to, and the bound on the longer side [px]."""
        return min(self.config.model.min_size), self.config.model.max_size

    def describe_data(self) -> list[str]:
        """Describe images, objects and boxes of both splits."""
        lines = [describe("train", self.train_annotations), describe("val", self.val_annotations)]
        return [generated_note("shapes"), *lines] if self.config.data.format == "shapes" else lines

    @classmethod
    def predict_settings(cls, metrics: Mapping[str, float]) -> dict[str, Any]:
        """Return the confidence of the best F1 on the validation set (at least 0.05), or 0.5 if the run has none."""
        return {"model.score_threshold": round(shown_from(metrics.get("confidence")), 6)}

    def trial(self, model: nn.Module, device: torch.device) -> None:
        """Evaluate the detections on two validation images; refuse an unsuitable teacher."""
        if self.distillation:
            self.distillation.require_compatible(model)
        few = replace(self.val_annotations, images=self.val_annotations.images[:TRIED])
        evaluate_detections(few, self.predictions(model, device, few), detections=self.config.model.detections)

    @classmethod
    def check_model(cls, config: DetectionConfig) -> None:
        """Refuse a detector that can't be built, before any data is read."""
        pyramid_levels(budgeted_model(config))

    def build_model(self, *, loaded: bool = False) -> FasterRCNN:
        """Build the detector, with a background class; without pretrained weights if others will be ``loaded``."""
        pretrained = False if loaded else None
        model = budgeted_model(self.config)
        return build_faster_rcnn(model, num_classes=len(self.classes) + 1, pretrained=pretrained)

    def train_dataset(self) -> Dataset[Any]:
        """Return the training set with augmentation, without crowds."""
        transforms = build_transforms(self.config.data.augment)
        return DetectionDataset(self.train_annotations, transforms, keep_crowds=False)

    def val_dataset(self, annotations: Annotations | None = None) -> DetectionDataset:
        """Return the validation set, or the given part of it, with images as floats in [0, 1]."""
        return DetectionDataset(annotations or self.val_annotations, build_transforms("none"), keep_crowds=True)

    def collate(self, samples: list[Any]) -> Any:
        """Make lists of images and targets."""
        return collate(samples)

    def losses(self, model: nn.Module, batch: Any, device: torch.device) -> dict[str, Tensor]:
        """Return Faster R-CNN's four losses, and those of distillation."""
        compute = partial(self.own_losses, model, batch, device)
        student = getattr(model, "module", model)
        return self.distillation.losses(student, compute) if self.distillation else compute()

    @cached_property
    def distillation(self) -> DetectorDistillation | None:
        """Losses of distillation, or None without a teacher."""
        config = self.config.distillation
        return DetectorDistillation(config, load_teacher(type(self), config.teacher)) if config.teacher else None

    def own_losses(self, model: nn.Module, batch: Any, device: torch.device) -> dict[str, Tensor]:
        """Return Faster R-CNN's four losses."""
        images, targets = batch
        boxes_and_labels = [{name: target[name].to(device) for name in ("boxes", "labels")} for target in targets]
        return model([image.to(device, non_blocking=True) for image in images], boxes_and_labels)

    def predictions(
        self, model: nn.Module, device: torch.device, annotations: Annotations | None = None
    ) -> list[dict[str, Any]]:
        """Detect objects in the validation set, or in the given part of it; return COCO's results format."""
        dataset = self.val_dataset(annotations)
        return predict_dataset(model, dataset, device, self.config.optim, workers=self.workers)

    def evaluate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Compute the metrics to follow during training."""
        metrics = self.judge(self.predictions(model, device))
        followed = {
            **{name: metrics.coco[name] for name in ("AP", "AP50", "AP75", "AR_100")},
            "precision": metrics.precision,
            "recall": metrics.recall,
            "f1": metrics.f1,
            "confidence": metrics.threshold,
        }
        return {name: value for name, value in followed.items() if value is not None}

    def judge(self, results: list[dict[str, Any]]) -> DetectionMetrics:
        """Evaluate detections on the validation set."""
        return evaluate_detections(self.val_annotations, results, detections=self.config.model.detections)

    def figures(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Return AP and the best F1, NaN on a validation set without objects."""
        found = self.evaluate(model, device)
        return {label: found.get(name, nan) for label, name in zip(self.front, ("AP", "f1"), strict=True)}

    def calibration_batches(self, number: int, device: torch.device) -> list[tuple[list[Tensor]]]:
        """Return batches of training images without augmentation, as lists of ``(3, H, W)`` in [0, 1]."""
        images = DetectionDataset(self.train_annotations, build_transforms("none"), keep_crowds=False)
        size = self.config.optim.batch_size
        drawn = calibration_indices(len(images), number, batch_size=size, seed=self.config.run.seed)
        return [([images[i][0].to(device) for i in batch],) for batch in drawn]

    def metadata(self) -> dict[str, Any]:
        """Return the class names of the labels 1..C, and the data set's own ids for them."""
        return {"classes": self.classes, "category_ids": list(self.val_annotations.category_ids)}

    def report(self, model: nn.Module, device: torch.device) -> tuple[Report, dict[str, bytes]]:
        """Report metrics, cost, speed and examples; also return detections and ground truth as JSON for pycocotools."""
        with recorded_nfe(model) as calls:
            results = self.predictions(model, device)
        metrics, images = self.judge(results), self.val_dataset()
        measured = measure(self, model, device, self.config.optim, body=BODY)
        proposals = Quantity("proposals", count_proposals(model, measured.probe.infer), group="cost")
        report = detection_report(
            self.config.run.name,
            metrics,
            (*measured.quantities, proposals),
            facts={**self.facts(), **measured.facts},
            pictures=example_pictures(images, results, threshold=shown_from(metrics.threshold)),
            notes=(*self.notes(), *measured.notes),
        )
        figures = resample_detections(self.val_annotations, results, metrics)
        report = with_resamples(report, figures, [record.identity for record in self.val_annotations.images])
        draw = partial(example_picture, images, results, threshold=shown_from(metrics.threshold))
        report = with_effort(report, model, calls, images=len(images), draw=draw)
        files = {"predictions.json": results, "ground_truth.json": coco_dataset(self.val_annotations)}
        return report, {name: json.dumps(content).encode() for name, content in files.items()}

    def predict(self, model: nn.Module, image: Tensor, device: torch.device) -> Prediction:
        """Detect objects in an image; return them drawn on it and as plain data, with boxes x1, y1, x2, y2 [px].

        Raises:
            InputError: The image is too thin to be resized.
        """
        if thin := thinness(image.shape[2], image.shape[1], self.sides):
            raise InputError(thin)
        [found] = detect(model, [image.float() / 255], device, self.config.optim)
        return box_prediction(image, found, self.classes)

    def probe(self, model: nn.Module, device: torch.device) -> Probe:
        """Return the calls to measure: on the first validation image with objects (or the first), and on two copies."""
        dataset = DetectionDataset(self.val_annotations, build_transforms("none"), keep_crowds=False)
        index = next((i for i, r in enumerate(self.val_annotations.images) if (~r.crowd).any()), 0)
        image, target = dataset[index]
        batch = ([image] * 2, [target] * 2)
        height, width = model.transform([image])[0].tensors.shape[-2:]  # pyright: ignore[reportCallIssue]
        pixels = torch.rand(2, 3, height, width, device=device, requires_grad=is_frozen(model.get_submodule(BODY)))

        optim = self.config.optim
        return Probe(
            infer=lambda: detect(model, [image], device, optim),
            loss=loss_call(model, lambda: self.own_losses(model, batch, device), device, optim),
            parts=self.parts(model),
            image_size=(height, width),
            batch_size=2,
            body_loss=features_call(model, lambda: model.get_submodule(BODY)(pixels), device, optim),
        )

    def parts(self, model: nn.Module) -> dict[str, list[nn.Module]]:
        """Return the modules whose time is reported separately."""
        names = {
            "resizing": ["transform"],
            "backbone": [BODY],
            "neck": ["backbone.fpn"],
            "RPN": ["rpn"],
            "RoI heads": ["roi_heads.box_roi_pool", "roi_heads.box_head", "roi_heads.box_predictor"],
        }
        return {part: [model.get_submodule(name) for name in modules] for part, modules in names.items()}

    def facts(self) -> dict[str, str]:
        """Describe the model and the evaluation behind the numbers."""
        model = budgeted_model(self.config)
        return {
            "model": f"Faster R-CNN, FPN {model.fpn_channels}, {model_label(model.backbone, model.backbone_args)}",
            **image_facts(self.val_annotations, model),
            "proposals": f"at most {model.proposals_test} an image",
        }

    def notes(self) -> tuple[str, ...]:
        """Return the notes that a reader of the report needs."""
        annotations, kept = self.val_annotations, self.config.model.detections
        name = Path(annotations.name).name
        faults = tuple(f"{name}: {line}" for line in truncate(annotations.problems, "faults like these"))
        return (*crowding_notes(annotations, detections=kept), *faults)


def shown_from(threshold: float | None) -> float:
    """Return the confidence from which detections are drawn, by that of the best F1, if there is one."""
    return DEFAULT_SHOWN if threshold is None else max(LEAST_SHOWN, threshold)


def is_frozen(module: nn.Module) -> bool:
    """Whether no parameter of ``module`` is trained."""
    return not any(p.requires_grad for p in module.parameters())
