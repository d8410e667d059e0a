"""Reload a trained run for inspection: backbone and pretext task from its record and last checkpoint."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from headway.backbones.build import from_config
from headway.config import Recipe
from headway.data.dataset.subset import subsample_evenly
from headway.errors import HeadwayError
from headway.protocol import DataInfo, TrainModule
from headway.train.run_dir.checkpoint import load_latest
from headway.train.run_dir.record import RECORD_FILE, config_of, read_record
from headway.train.run_dir.record_schema import damaged_record_error


class TrainedRun(NamedTuple):
    """What the record of a run says.

    Attributes:
        run: The run folder.
        recipe: The task with all settings of the training.
        architecture: Config of its backbone.
        size: Side of its main view in pixels.
        storage_side: Side of its stored images in pixels.
        num_images: Number of images that it was trained on.
    """

    run: Path
    recipe: Recipe
    architecture: dict[str, Any]
    size: int
    storage_side: int
    num_images: int


def read_trained_run(run: Path, task: str, recipe: Recipe) -> TrainedRun:
    """Read the record of a run.

    Args:
        run: Its folder.
        task: The task that it must have been trained on, as the user named it.
        recipe: The default recipe of that task. A record names types, but nothing is imported by these names: the types
            come from here.

    Raises:
        HeadwayError: No run, a damaged one, or one of another task.
    """
    record = read_record(run)
    if record["task"] != task:
        raise HeadwayError(
            "resume-differs", f"'{run}' is a run of {record['task']}, not of {task}; name the task {record['task']}"
        )
    recipe, data = config_of(record, task, recipe, run / RECORD_FILE).recipe, record["data"]
    return TrainedRun(run, recipe, record["architecture"], record["size"], data["side"], data["images"])


def reload_train_module(trained_run: TrainedRun, images: Tensor) -> TrainModule:
    """Backbone and task with the weights of the last valid checkpoint, in evaluation mode, on the CPU.

    Args:
        trained_run: The run.
        images: N C H W, stored images from which the task may measure statistics of the data.

    Raises:
        HeadwayError: No valid checkpoint, or one that does not fit the record.
    """
    try:
        backbone = from_config(trained_run.architecture)
    except (HeadwayError, RuntimeError) as error:
        raise damaged_record_error(trained_run.run / RECORD_FILE, f"architecture: {error}") from error
    info = DataInfo(trained_run.num_images, images.shape[1], partial(subsample_evenly, images), trained_run.size)
    train_module = TrainModule(backbone, trained_run.recipe.task.build(backbone, info))
    found, errors = load_latest(trained_run.run)
    if found is None:
        reason = f"; {errors[0]}" if errors else ""
        raise HeadwayError(
            "checkpoint-damaged",
            f"'{trained_run.run}' holds no valid checkpoint, and so no weights of the pretext task{reason}",
        )
    try:
        train_module.load_state_dict(found.weights)
    except RuntimeError as error:
        raise HeadwayError(
            "weights-mismatch", f"the weights in '{trained_run.run}' do not fit its record: {error}"
        ) from error
    return train_module.eval()
