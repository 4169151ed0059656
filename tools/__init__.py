"""Command-line tools; run them from the root of a clone: ``python tools/train.py detection --help``."""
