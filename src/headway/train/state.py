"""A workshop's state on its way to a checkpoint and back, whole, however many processes hold it."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headway.backbones.load import architecture, from_architecture
from headway.distributed import all_counts, barrier, rank
from headway.errors import HeadwayError
from headway.train import checkpoint
from headway.train.course import Course
from headway.train.cut import held_like, whole_tensor
from headway.train.log import Event, Note
from headway.train.optim import load_state_by_name, state_by_name
from headway.train.plan import Plan
from headway.train.step import Workshop


def save(shop: Workshop, run: Path, plan: Plan, course: Course) -> None:
    """Write a checkpoint; every process must call."""
    weights = whole_tensors(shop.learner.state_dict())
    moments = whole_tensors(state_by_name(shop.learner, plain_optimizer(shop)))
    if rank() == 0:
        place = plan.first + course.step * plan.batch
        state = {**asdict(course), "sound": course.sound, "total": plan.steps, "place": place}
        checkpoint.save(run, checkpoint.Checkpoint(weights, moments, state))
    barrier()


def restore(
    shop: Workshop, run: Path, plan: Plan, tell: Callable[[Event], None], *, back: bool = False
) -> Course | None:
    """Put the newest whole checkpoint of a run into the workshop; none: there is none.

    Args:
        shop: The workshop.
        run: The run folder.
        plan: How.
        tell: Told what had to be passed over.
        back: Take the newest from before any trouble, and forget later ones, which lead into it again.

    Raises:
        HeadwayError: Where the processes see different ones.
    """
    found, faults = checkpoint.latest(run, sound=back)
    for fault in faults:
        tell(Note(f"passed over a damaged checkpoint, {fault}"))
    starts = all_counts(-1 if found is None else found.state["step"])
    if len(set(starts)) > 1:
        raise HeadwayError(
            f"the processes see different checkpoints in {run} (steps {starts}); give them one shared folder"
        )
    if found is None:
        return None
    if back and rank() == 0:  # all have read by now
        checkpoint.forget(run, found.state["step"])
    put_weights(shop.learner, found.weights)
    optimizer = plain_optimizer(shop)
    optimizer.state.clear()  # after a return, moments of steps that never were
    load_state_by_name(shop.learner, optimizer, found.moments)
    return Course.of(found.state, plan.accumulate)


def put_weights(learner: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Load a whole state dict into a learner, cut over processes or not. Raises HeadwayError where they do not fit."""
    mine: dict[str, Any] = learner.state_dict()
    if mine.keys() != weights.keys() or any(mine[name].shape != weights[name].shape for name in mine):
        odd = sorted(mine.keys() ^ weights.keys()) or [n for n in mine if mine[n].shape != weights[n].shape]
        raise HeadwayError(f"the checkpoint is of another network or task: {odd[0]} and {len(odd) - 1} more differ")
    with torch.no_grad():
        for name, tensor in mine.items():
            tensor.copy_(held_like(weights[name].to(tensor.dtype), tensor))


def whole_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """All of each; every process must call."""
    return {name: whole_tensor(tensor) for name, tensor in tensors.items()}


def plain_copy(backbone: Any) -> torch.nn.Module:
    """The backbone itself, or where it is cut over processes one that is whole; every process must ask."""
    state = backbone.state_dict()
    if not any(hasattr(tensor, "placements") for tensor in state.values()):
        return backbone
    whole = from_architecture(architecture(backbone))
    kind = next(tensor.dtype for tensor in state.values() if tensor.is_floating_point())
    whole.to(kind).load_state_dict(whole_tensors(state))
    return whole


def plain_optimizer(shop: Workshop) -> torch.optim.Optimizer:
    """The optimizer inside of Fabric's wrapper."""
    return getattr(shop.optimizer, "optimizer", shop.optimizer)
