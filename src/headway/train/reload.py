"""A run taken up again to be asked: backbone and pretext task as they were, from its record and last checkpoint."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from headway.backbones.load import from_architecture
from headway.config import Recipe, recall
from headway.errors import HeadwayError
from headway.files import read_json
from headway.protocol import Facts, Learner
from headway.train.checkpoint import latest
from headway.train.planning import spread
from headway.train.run import SCHEMA


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
    file = run / "run.json"
    if not file.is_file():
        raise HeadwayError(f"no run in '{run}' (it holds no run.json); give the folder that headway pretrain wrote")
    record = read_json(file)
    try:
        if record["schema"] != SCHEMA:
            raise HeadwayError(f"{file} has schema {record['schema']}; this version reads {SCHEMA}")
        if record["task"] != task:
            raise HeadwayError(f"'{run}' is a run of {record['task']}, not of {task}; ask for the task that it is of")
        data = record["data"]
        return Past(
            run, recall(record["job"]["recipe"], recipe), dict(record["architecture"]), int(record["size"]),
            int(data["side"]), int(data["pictures"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HeadwayError(f"{file} is damaged ({type(error).__name__}: {error}); train the run again") from error


def reload_learner(past: Past, images: Tensor) -> Learner:
    """Backbone and task with the weights of the last whole checkpoint, in evaluation mode, on the processor.

    Args:
        past: The run.
        images: N C H W, stored pictures from which the task may take what it wants to know of the data.

    Raises:
        HeadwayError: No whole checkpoint, or one that does not fit the record.
    """
    backbone: Any = from_architecture(past.architecture)
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
