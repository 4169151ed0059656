"""Training, measuring and reporting, whatever the task."""
