"""The run that another one extends: where it had come to, its backbone, and what tasks have in common."""

from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from headway.backbones.load import from_architecture
from headway.data.store import Store
from headway.errors import HeadwayError
from headway.protocol import Learner
from headway.train.checkpoint import Checkpoint, latest
from headway.train.record import read_record


class Origin(NamedTuple):
    """The run that another one extends.

    Attributes:
        folder: Where it lies.
        record: Its run.json.
        checkpoint: Its last whole one.
    """

    folder: Path
    record: dict[str, Any]
    checkpoint: Checkpoint

    @property
    def place(self) -> int:
        """Where in the sample stream it had come to."""
        return int(self.checkpoint.state["place"])

    @property
    def size(self) -> int:
        """Side of its main view in pixels."""
        return int(self.record["size"])

    def first_for(self, store: Store) -> int:
        """Where in its own stream the next run begins: at the very next sample, or with other pictures at an epoch."""
        if self.record["data"]["fingerprint"] == store.fingerprint:
            return self.place
        return -(-self.place // len(store.images)) * len(store.images)


def read_origin(folder: Path) -> Origin:
    """Read the run to extend.

    Raises:
        HeadwayError: No run there, a damaged one, or one without a whole checkpoint.
    """
    record = read_record(folder)
    found, faults = latest(folder)
    if found is None:
        raise HeadwayError(f"'{folder}' holds no whole checkpoint to go on from{f'; {faults[0]}' if faults else ''}")
    return Origin(folder, record, found)


def backbone_of(origin: Origin) -> nn.Module:
    """The backbone of the run that is extended, with its weights: a teacher that copies it begins where it stands.

    Raises:
        HeadwayError: Weights that are not of the backbone in run.json.
    """
    backbone, its = from_architecture(origin.record["architecture"]), origin.checkpoint.weights
    own = {name.removeprefix("backbone."): tensor for name, tensor in its.items() if name.startswith("backbone.")}
    try:
        backbone.load_state_dict(own)
    except RuntimeError as error:
        raise HeadwayError(f"'{origin.folder}': its weights are of another backbone than its run.json says") from error
    return backbone


def take_over(learner: Learner, origin: Origin) -> list[str]:
    """Give a learner, whose backbone is ``backbone_of`` the run, what its task has in common with that run's.

    Returns:
        The names of the task's tensors that began anew, being of another shape or of another task.
    """
    mine, its = learner.state_dict(), origin.checkpoint.weights
    fits = {name: tensor for name, tensor in its.items() if name in mine and mine[name].shape == tensor.shape}
    learner.load_state_dict(fits, strict=False)
    return sorted(mine.keys() - fits.keys())
