"""Evaluation of predicted depth maps in files, from any model."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from depth.data.predictions import prediction_files, read_prediction, require_all
from depth.data.read import unit_of
from depth.data.units import unit_name
from depth.protocols import crop_to_frame
from depth.report import depth_report
from engine.report.records import Report

if TYPE_CHECKING:
    from depth.task import DepthTask


def score_files(task: "DepthTask", predictions: Path) -> Report:
    """Evaluate depth maps in files named after the validation images, without a model."""
    pairs, config = task.val_pairs.pairs, task.config
    files, unit = prediction_files(predictions, pairs), config.predict.unit or unit_of(config.data)

    def predict(index: int, image: Tensor, truth: Tensor) -> Tensor:
        depth = read_prediction(files[index], unit=unit, unit_of_floats=config.predict.unit or 1.0)
        is_whole = depth.shape != image.shape[1:]  # rather than the frame only
        depth = crop_to_frame(depth, config.eval.protocol) if is_whole else depth
        require_all(depth, task.comparison.counted(truth), files[index])
        return depth

    metrics = task.comparison.metrics(task.results(predict, baselines=False))
    facts = {"predictions": f"{predictions}; whole numbers in {unit_name(unit)}", **task.evaluation_facts()}
    return depth_report(predictions.name, metrics, images=task.val_pairs.names, facts=facts, notes=task.notes())
