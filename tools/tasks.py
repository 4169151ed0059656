"""The tasks that the tools know."""

from detection.task import DetectionTask
from odebackbones.classification.task import ClassificationTask
from odebackbones.engine.task import Task

TASKS: dict[str, type[Task]] = {task.name: task for task in (DetectionTask, ClassificationTask)}
"""Name on the command line -> task."""
