"""Save an engine's state as a checkpoint and restore it, on any number of processes."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headway.backbones.build import from_config, to_config
from headway.distributed import all_gather_int, barrier, rank
from headway.errors import HeadwayError
from headway.protocol import Backbone
from headway.train.config import Plan
from headway.train.engine.fabric import full_tensor, shard_like
from headway.train.engine.optimizer import load_state_by_name, state_by_name
from headway.train.engine.step import Engine
from headway.train.log.events import Event, Note
from headway.train.loop.progress import TrainProgress
from headway.train.run_dir import checkpoint


def save_checkpoint(engine: Engine, run: Path, plan: Plan, progress: TrainProgress) -> None:
    """Write a checkpoint; every process must call."""
    weights = full_tensors(engine.train_module.state_dict())
    optimizer_state = full_tensors(state_by_name(engine.train_module, unwrapped_optimizer(engine)))
    if rank() == 0:
        position = plan.start_position + progress.step * plan.batch_size
        state = {
            **asdict(progress),
            "healthy": progress.healthy,
            "total_steps": plan.steps,
            "stream_position": position,
        }
        checkpoint.save(run, checkpoint.Checkpoint(weights, optimizer_state, state))
    barrier()


def restore_checkpoint(
    engine: Engine, run: Path, plan: Plan, emit: Callable[[Event], None], *, healthy_only: bool = False
) -> TrainProgress | None:
    """Load the newest valid checkpoint of a run into the engine; every process must call.

    Args:
        engine: Module and optimizer, changed in place.
        run: The run folder.
        plan: Its ``grad_accum`` counts.
        emit: Receives a note for each damaged checkpoint that was passed over.
        healthy_only: Load the newest from before any trouble, and delete later ones, which would lead into it again.

    Returns:
        The progress at the checkpoint; None where there is no checkpoint.

    Raises:
        HeadwayError: The processes see different checkpoints.
    """
    found, errors = checkpoint.load_latest(run, healthy=healthy_only)
    for error in errors:
        emit(Note(f"passed over a damaged checkpoint, {error}"))
    starts = all_gather_int(-1 if found is None else found.state["step"])
    if len(set(starts)) > 1:
        raise HeadwayError(
            "images-differ",
            f"the processes see different checkpoints in {run} (steps {starts}); give them one shared folder",
        )
    if found is None:
        return None
    if healthy_only and rank() == 0:  # every process has read by now
        checkpoint.delete_after(run, found.state["step"])
    load_weights(engine.train_module, found.weights)
    optimizer = unwrapped_optimizer(engine)
    optimizer.state.clear()  # after a rollback it holds moments of later steps
    load_state_by_name(engine.train_module, optimizer, found.optimizer_state)
    return TrainProgress.from_state(found.state, plan.grad_accum)


def load_weights(train_module: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Load a whole state dict into a module, sharded or not. Raises HeadwayError where it does not fit."""
    own: dict[str, Any] = train_module.state_dict()
    if own.keys() != weights.keys() or any(own[name].shape != weights[name].shape for name in own):
        wrong = sorted(own.keys() ^ weights.keys()) or [n for n in own if own[n].shape != weights[n].shape]
        raise HeadwayError(
            "checkpoint-mismatch",
            f"the checkpoint is of another network or task: {wrong[0]} and {len(wrong) - 1} more differ",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(shard_like(weights[name].to(tensor.dtype), tensor))


def full_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The whole of each tensor; every process must call."""
    return {name: full_tensor(tensor) for name, tensor in tensors.items()}


def unsharded_backbone(backbone: Backbone) -> Backbone:
    """The backbone itself, or a whole copy where it is sharded over processes; every process must call."""
    state = backbone.state_dict()
    if not any(hasattr(tensor, "placements") for tensor in state.values()):
        return backbone
    copy = from_config(to_config(backbone))
    dtype = next(tensor.dtype for tensor in state.values() if tensor.is_floating_point())
    copy.to(dtype).load_state_dict(full_tensors(state))
    return copy


def unwrapped_optimizer(engine: Engine) -> torch.optim.Optimizer:
    """The optimizer inside Fabric's wrapper."""
    return getattr(engine.optimizer, "optimizer", engine.optimizer)
