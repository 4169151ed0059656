"""Where the image of a frame is."""

from __future__ import annotations

from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def find_image(folder: Path, stem: str) -> Path:
    """Return ``folder/stem`` with the suffix that exists; with the first one if none does."""
    candidates = [folder / f"{stem}{suffix}" for low in IMAGE_SUFFIXES for suffix in (low, low.upper())]
    return next((path for path in candidates if path.is_file()), candidates[0])
