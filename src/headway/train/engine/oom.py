"""Out of memory: activation checkpointing, and smaller micro-batches."""

import sys
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from headway.distributed import world_size
from headway.errors import HeadwayError
from headway.nn.batch_norm import BatchNorm
from headway.protocol import Backbone
from headway.train.config import Plan

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]


def enable_activation_checkpointing(backbone: Backbone) -> None:
    """Store only the input of each block and recompute the rest in the backward pass; results keep the same bits.

    Chen et al., "Training deep nets with sublinear memory cost", 2016 (https://arxiv.org/abs/1604.06174).

    Raises:
        HeadwayError: A network with batch norms (their statistics would be updated twice), or without blocks.
    """
    if any(isinstance(module, BatchNorm) for module in backbone.modules()):
        raise HeadwayError(
            "backbone-unsupported",
            "no activation checkpointing for a network with batch norms: each pass would update their statistics again",
        )
    if not backbone.block_list:
        raise HeadwayError(
            "backbone-unsupported",
            "activation checkpointing needs a network made of blocks; choose a ViT such as vit_tiny",
        )
    block: Any  # its ``forward`` is replaced
    for block in backbone.block_list:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)


def peak_memory() -> int:
    """Peak memory of this process so far in bytes, on the accelerator where there is one; 0 where it is not known."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    if resource is None:
        return 0
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def halve_micro_batch(plan: Plan, batch_coupled: bool, error: BaseException) -> Plan:
    """The plan with micro-batches of half the size.

    Args:
        plan: The plan under which memory ran out.
        batch_coupled: Whether the loss of an image depends on the other images of its batch.
        error: The out-of-memory error.

    Raises:
        HeadwayError: Halving would change the loss, there is nothing to halve, or other processes wait.
    """
    part = plan.batch_size // (world_size() * plan.grad_accum)
    other = "" if plan.activation_checkpointing else "--activation-checkpointing (for ViTs), "
    if batch_coupled:
        why = "the loss of an image depends on the rest of its batch, so smaller micro-batches would change it"
        remedy = f"try {other}--precision bf16, more devices, or a smaller --recipe.batch-size"
    elif part < 2:
        why, remedy = "a single image does not fit", f"try {other}--precision bf16, or a smaller --size"
    elif world_size() > 1:
        why = "the other processes wait in the middle of the step, so it cannot be repeated"
        remedy = f"repeat the command with --resume --grad-accum {2 * plan.grad_accum}"
    else:
        return replace(plan, grad_accum=2 * plan.grad_accum)
    detail = (str(error).splitlines() or ["no memory left"])[0]
    raise HeadwayError(
        "out-of-memory", f"out of memory with {part} images at a time ({detail[:120]}): {why}; {remedy}"
    ) from error
