"""A run taken up again to be asked: backbone and pretext task as they were, from its record and last checkpoint."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from headway.backbones.load import from_architecture
from headway.config import Recipe
from headway.errors import HeadwayError
from headway.protocol import Facts, Learner
from headway.train.checkpoint import latest
from headway.train.planning import spread
from headway.train.record import FILE, job_of, read_record
from headway.train.shape import damaged


class Past(NamedTuple):
    """What a run was.

    Attributes:
        run: Its folder.
        recipe: The task with every choice that it was trained with.
        architecture: Of its backbone.
        size: Side of its main view in pixels.
        side: Side of its stored pictures in pixels.
        pictures: How many it was trained on.
    """

    run: Path
    recipe: Recipe
    architecture: dict[str, Any]
    size: int
    side: int
    pictures: int


def read_past(run: Path, task: str, recipe: Recipe) -> Past:
    """Read the record of a run.

    Args:
        run: Its folder.
        task: The task that it must have been trained on, as a person typed it.
        recipe: That task's own recipe. A record names types, and none is imported for that: they come from here.

    Raises:
        HeadwayError: No run, a damaged one, or one of another task.
    """
    record = read_record(run)
    if record["task"] != task:
        raise HeadwayError(f"'{run}' is a run of {record['task']}, not of {task}; ask for the task that it is of")
    recipe, data = job_of(record, task, recipe, run / FILE).recipe, record["data"]
    return Past(run, recipe, record["architecture"], record["size"], data["side"], data["pictures"])


def reload_learner(past: Past, images: Tensor) -> Learner:
    """Backbone and task with the weights of the last whole checkpoint, in evaluation mode, on the processor.

    Args:
        past: The run.
        images: N C H W, stored pictures from which the task may take what it wants to know of the data.

    Raises:
        HeadwayError: No whole checkpoint, or one that does not fit the record.
    """
    try:
        backbone: Any = from_architecture(past.architecture)
    except (HeadwayError, RuntimeError) as error:
        raise damaged(past.run / FILE, f"architecture: {error}") from error
    facts = Facts(past.pictures, images.shape[1], partial(spread, images), past.size)
    learner = Learner(backbone, past.recipe.task.build(backbone, facts))
    found, faults = latest(past.run)
    if found is None:
        why = f"; {faults[0]}" if faults else ""
        raise HeadwayError(f"'{past.run}' holds no whole checkpoint, and so no pretext head to ask{why}")
    try:
        learner.load_state_dict(found.weights)
    except RuntimeError as error:
        raise HeadwayError(f"the weights in '{past.run}' do not fit its record: {error}") from error
    return learner.eval()
