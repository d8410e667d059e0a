"""How long computations tell their caller about their progress. Nothing here draws or prints."""

from collections.abc import Callable
from typing import NamedTuple

Progress = Callable[[int, int], None]
"""Called with the number of parts that are done and their total."""


class ProgressEvent(NamedTuple):
    """The progress of one stage of a verb.

    Attributes:
        stage: What is done ("decoding", "training finetune"). Stages follow one another.
        done: Parts that are done.
        total: All parts; the stage is over where ``done`` reaches it.
        text: What else is known, such as the loss; may be empty.
    """

    stage: str
    done: int
    total: int
    text: str = ""


ProgressCallback = Callable[[ProgressEvent], None]
"""What the verbs take as ``progress``."""


def stage_progress(progress: ProgressCallback | None, stage: str) -> Progress:
    """A function of (done, total) that reports one stage to the callback; silent where there is none."""

    def report(done: int, total: int) -> None:
        if progress:
            progress(ProgressEvent(stage, done, total))

    return report
