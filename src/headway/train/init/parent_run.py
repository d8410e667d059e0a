"""The run that another one continues: its stream position, its backbone, and the weights that the tasks share."""

from pathlib import Path
from typing import Any, NamedTuple

from headway.backbones.build import from_config
from headway.data.dataset.image_store import ImageStore
from headway.errors import HeadwayError
from headway.protocol import Backbone, TrainModule
from headway.train.run_dir.checkpoint import Checkpoint, load_latest
from headway.train.run_dir.record import read_record


class ParentRun(NamedTuple):
    """The run that another one continues.

    Attributes:
        folder: The run folder.
        record: Its run.json.
        checkpoint: Its last valid checkpoint.
    """

    folder: Path
    record: dict[str, Any]
    checkpoint: Checkpoint

    @property
    def stream_position(self) -> int:
        """Position in the sample stream at its last checkpoint."""
        return int(self.checkpoint.state["stream_position"])

    @property
    def size(self) -> int:
        """Side of its main view in pixels."""
        return int(self.record["size"])

    def start_position_for(self, store: ImageStore) -> int:
        """Position where the next run starts: at the next sample, or, with other images, at the start of an epoch."""
        if self.record["data"]["fingerprint"] == store.fingerprint:
            return self.stream_position
        return -(-self.stream_position // len(store.images)) * len(store.images)


def read_parent_run(folder: Path) -> ParentRun:
    """Read the run to continue.

    Raises:
        HeadwayError: No run there, a damaged one, or one without a valid checkpoint.
    """
    record = read_record(folder)
    found, errors = load_latest(folder)
    if found is None:
        raise HeadwayError(
            "checkpoint-damaged",
            f"'{folder}' holds no valid checkpoint to continue{f'; {errors[0]}' if errors else ''}",
        )
    return ParentRun(folder, record, found)


def parent_backbone(parent: ParentRun) -> Backbone:
    """The backbone of the run that is continued, with its weights, which an EMA teacher copies when it is built.

    Raises:
        HeadwayError: The weights are not of the backbone in run.json.
    """
    backbone, weights = from_config(parent.record["architecture"]), parent.checkpoint.weights
    own = {name.removeprefix("backbone."): tensor for name, tensor in weights.items() if name.startswith("backbone.")}
    try:
        backbone.load_state_dict(own)
    except RuntimeError as error:
        raise HeadwayError(
            "weights-mismatch", f"'{parent.folder}': its weights are of another backbone than that in its run.json"
        ) from error
    return backbone


def load_matching_weights(train_module: TrainModule, parent: ParentRun) -> list[str]:
    """Load the weights that a module, whose backbone is ``parent_backbone``, shares with the run that it continues.

    Returns:
        Names of the task's tensors that keep their fresh initialization, since that run has no tensor of their name and
        shape.
    """
    own, weights = train_module.state_dict(), parent.checkpoint.weights
    shared = {name: tensor for name, tensor in weights.items() if name in own and own[name].shape == tensor.shape}
    train_module.load_state_dict(shared, strict=False)
    return sorted(own.keys() - shared.keys())
