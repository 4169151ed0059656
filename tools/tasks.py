"""The tasks that the tools know."""

from detection.task import DetectionTask
from odebackbones.engine.task import Task

TASKS: dict[str, type[Task]] = {DetectionTask.name: DetectionTask}
"""Name on the command line -> task."""
