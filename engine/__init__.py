"""Training, measuring and reporting, for any task."""
