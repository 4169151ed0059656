"""Whether boxes refer to an image as stored, or turned upright by its EXIF data."""

from pathlib import Path

from detection.data.problems import ProblemLog
from engine.images.files import SIDEWAYS, ImageFacts, Turning


def is_turned(
    path: Path, facts: ImageFacts, recorded: tuple[int, int] | None, turning: Turning, log: ProblemLog
) -> bool:
    """Whether to turn an image upright.

    With ``auto``, the recorded size decides where it matches only one of the two; elsewhere (no size, a square, a half
    turn, a mirror) the image is turned, as it is in the tools in which people draw boxes, and in predictions.

    Args:
        path: The image file.
        facts: Facts from the image file's header.
        recorded: Width and height in the annotations [px], if any.
        turning: The user's setting.
        log: Log that notes images for which nothing decides.
    """
    if facts.orientation == 1 or turning != "auto":
        return facts.orientation != 1 and turning == "turn"
    decides = facts.orientation in SIDEWAYS and facts.size != facts.upright
    if decides and recorded == facts.size:
        return False
    if not (decides and recorded == facts.upright):
        log.note(
            f"{path}: EXIF orientation {facts.orientation}, and no recorded size tells whether its boxes know of it",
            "turned upright; data.exif ignore leaves them as stored",
            kind="images that EXIF data turn",
        )
    return True
