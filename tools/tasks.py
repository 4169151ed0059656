"""Tasks that the tools support."""

from classification.task import ClassificationTask
from depth.task import DepthTask
from detection.task import DetectionTask
from engine.task import Task

TASKS: dict[str, type[Task]] = {task.name: task for task in (DetectionTask, DepthTask, ClassificationTask)}
"""Name on the command line -> task."""
