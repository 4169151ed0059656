"""Command-line tools; run them from a checkout: ``python tools/train.py detection --help``."""
