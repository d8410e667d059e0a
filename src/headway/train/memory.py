"""What to do where memory is short: compute again what could be kept, or see fewer pictures at a time."""

import sys
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from headway.distributed import world
from headway.errors import HeadwayError
from headway.nn.batch_norm import BatchNorm
from headway.train.plan import Plan

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]


def recompute_blocks(backbone: nn.Module) -> None:
    """Let a backbone keep what enters each block and compute the rest again in the backward pass, to the same bits.

    Chen et al., "Training deep nets with sublinear memory cost", 2016 (https://arxiv.org/abs/1604.06174).

    Raises:
        HeadwayError: A network with batch norms (their statistics would move twice), or without blocks.
    """
    network: Any = getattr(backbone, "network", backbone)  # the timm adapter holds timm's model
    if any(isinstance(module, BatchNorm) for module in backbone.modules()):
        raise HeadwayError("cannot recompute a network with batch norms: each pass would move their statistics again")
    blocks = getattr(network, "blocks", None)
    if not isinstance(blocks, (nn.ModuleList, nn.Sequential)):
        raise HeadwayError("only networks made of blocks can be recomputed; take a ViT such as vit_tiny")
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)


def most_memory() -> int:
    """The most bytes that this process has held so far, on the device where there is one; 0 where nobody can tell."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    if resource is None:
        return 0
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def smaller_parts(plan: Plan, coupled: bool, fault: BaseException) -> Plan:
    """The plan with micro-batches of half the size, after memory ran out.

    Args:
        plan: Under which it did.
        coupled: Whether the loss ties the pictures of a batch together.
        fault: The error.

    Raises:
        HeadwayError: Where halves would change the loss, there is nothing to halve, or other processes wait.
    """
    part = plan.batch // (world() * plan.accumulate)
    other = "" if plan.recompute else "--recompute (for ViTs), "
    if coupled:
        why = "this loss ties the pictures of a batch together, so halving what is seen at once would change it"
        remedy = f"try {other}--precision bf16, more devices, or a smaller --recipe.batch"
    elif part < 2:
        why, remedy = "a single picture does not fit", f"try {other}--precision bf16, or a smaller --size"
    elif world() > 1:
        why = "the other processes wait in the middle of the step, so it cannot be taken again"
        remedy = f"repeat the command with --resume --accumulate {2 * plan.accumulate}"
    else:
        return replace(plan, accumulate=2 * plan.accumulate)
    detail = (str(fault).splitlines() or ["no memory left"])[0]
    raise HeadwayError(f"out of memory with {part} pictures at a time ({detail[:120]}): {why}; {remedy}") from fault
