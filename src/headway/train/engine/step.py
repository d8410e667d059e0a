"""One optimizer step, on this process's part of the batch."""

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headway.config import Optim
from headway.distributed import all_sum, average_gradients, world_size
from headway.errors import HeadwayError
from headway.nn.attention import set_attention_impl
from headway.nn.batch_norm import BatchNorm
from headway.protocol import Batch, TrainingClock, TrainModule
from headway.rng import SampleRNG
from headway.train.config import Plan
from headway.train.engine.fabric import full_tensor, make_fabric, set_precision, wrap
from headway.train.engine.oom import enable_activation_checkpointing
from headway.train.engine.optimizer import make_optimizer, set_lr_and_weight_decay


class Engine(NamedTuple):
    """What an optimizer step needs.

    Attributes:
        fabric: Lightning Fabric, launched.
        wrapped: The module as Fabric wraps it; forward passes go through it.
        train_module: The module itself.
        optimizer: As Fabric wraps it.
        norm_buffers: Buffers of batch norms, which a forward pass changes and a skipped step restores.
    """

    fabric: Any
    wrapped: Any
    train_module: TrainModule
    optimizer: Any
    norm_buffers: list[Tensor]


class StepResult(NamedTuple):
    """The result of an optimizer step.

    Attributes:
        metric_shares: This process's share of the global means of loss, metrics and gradient norm, detached. Their sum
            over processes is the mean over the batch.
        finite: False where the loss or the gradient of any process was NaN or infinite; then no weight has changed.
    """

    metric_shares: dict[str, Tensor]
    finite: bool


def is_batch_coupled(train_module: TrainModule) -> bool:
    """Whether the loss of an image depends on the rest of its batch, so that splitting the batch changes it."""
    return train_module.task.batch_coupled or any(isinstance(module, BatchNorm) for module in train_module.modules())


def check_batch_size(train_module: TrainModule, batch_size: int, grad_accum: int) -> None:
    """Refuse a batch size for which the task's loss is not defined. Raises HeadwayError."""
    task = train_module.task
    if grad_accum > 1 and is_batch_coupled(train_module):
        raise HeadwayError(
            "backbone-unsupported",
            f"cannot accumulate {grad_accum} micro-batches: the loss of an image depends on the rest of its batch "
            f"({type(task).__name__} or a batch norm), so splitting the batch would change it; use a smaller batch",
        )
    if batch_size < max(task.min_batch_size, world_size() * grad_accum):
        need = max(task.min_batch_size, world_size() * grad_accum)
        raise HeadwayError(
            "value-out-of-range",
            f"batch size {batch_size} is too small: {type(task).__name__} needs at least {need} images per step here",
        )


def micro_batch_count(batch_size: int, grad_accum: int) -> int:
    """Number of micro-batches into which each process splits its part of a batch: ``grad_accum``, but none is empty.

    ``grad_accum`` may come from a run on fewer processes. All processes split alike, since a loss may use collectives;
    the process with the fewest images decides.
    """
    return max(min(grad_accum, batch_size // world_size()), 1)


def make_engine(train_module: TrainModule, optim: Optim, plan: Plan, fabric: Any = None) -> Engine:
    """Move the module to its device, make its optimizer, and wrap both with Fabric.

    Args:
        train_module: Backbone and task; changed in place.
        optim: The optimizer's settings.
        plan: Its precision, attention, compilation, checkpointing and sharding count.
        fabric: A launched Fabric; None: a new one.
    """
    fabric = fabric or make_fabric(fsdp=plan.fsdp)
    set_precision(fabric, plan.precision)
    set_attention_impl(train_module, plan.attention_impl)
    if plan.precision == "float64":
        train_module.double()
    train_module.to(fabric.device).train()
    if plan.activation_checkpointing:
        enable_activation_checkpointing(train_module.backbone)
    if plan.compile:
        train_module.backbone.compile()
    use_bf16 = plan.precision == "bf16"
    wrapped, optimizer = wrap(
        fabric, train_module, lambda: make_optimizer(train_module, optim, use_bf16=use_bf16), fsdp=plan.fsdp
    )
    norms = [module for module in train_module.modules() if isinstance(module, BatchNorm)]
    return Engine(fabric, wrapped, train_module, optimizer, [buffer for norm in norms for buffer in norm.buffers()])


def train_step(
    engine: Engine, optim: Optim, plan: Plan, batch: Batch, stream_positions: Tensor, clock: TrainingClock
) -> StepResult:
    """Take one optimizer step on this process's part of the global batch.

    Gradients are those of the mean over the global batch: a micro-batch of n images has weight n / batch size, and the
    weight times the number of processes cancels the average that DDP takes. Where the loss or the gradient of any
    process is NaN or infinite, no process changes anything.

    Args:
        engine: From ``make_engine``.
        optim: The optimizer's settings, with the learning rate in force.
        plan: Its seed, batch size and micro-batches count.
        batch: This process's part, B images.
        stream_positions: B, int64: the position of each image in the sample stream.
        clock: The clock before the step.
    """
    set_lr_and_weight_decay(engine.optimizer, optim, plan.batch_size, clock)
    before = [buffer.clone() for buffer in engine.norm_buffers]
    parts = list(zip(*(tensor.tensor_split(plan.grad_accum) for tensor in (*batch, stream_positions)), strict=True))
    step_stats, shares = [], []
    for number, (images, index, positions) in enumerate(parts):
        last = number == len(parts) - 1
        with nullcontext() if last or engine.fabric.world_size == 1 else engine.fabric.no_backward_sync(engine.wrapped):
            output = engine.wrapped(Batch(images, index), SampleRNG(plan.seed, positions, clock.step), clock)
            share = len(images) / plan.batch_size
            engine.fabric.backward(output.loss * (share * world_size()))
        step_stats.append(output.step_stats)
        shares.append(
            {"loss": output.loss.detach() * share, **{k: v.detach() * share for k, v in output.metrics.items()}}
        )
    parameters = [parameter for parameter in engine.train_module.parameters() if parameter.grad is not None]
    average_gradients(parameters)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    grad_norm = full_tensor(norm.detach())
    shares.append({"gradient_norm": grad_norm / world_size()})
    totals = _sum_by_name(shares)
    finite = _true_on_all(torch.isfinite(totals["loss"]) & torch.isfinite(grad_norm))
    if finite:
        if optim.max_grad_norm > 0:
            nn.utils.clip_grads_with_norm_(parameters, optim.max_grad_norm, norm)
        engine.optimizer.step()
    else:
        for buffer, old in zip(engine.norm_buffers, before, strict=True):
            buffer.copy_(old)
    engine.optimizer.zero_grad(set_to_none=True)
    if finite:
        with torch.no_grad():
            engine.train_module.task.after_step(
                engine.train_module.backbone, step_stats, clock._replace(step=clock.step + 1)
            )
    return StepResult(totals, finite)


def _sum_by_name(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    totals: dict[str, Tensor] = {}
    for numbers in parts:
        for name, value in numbers.items():
            totals[name] = totals.get(name, torch.zeros_like(value)) + value
    return totals


def _true_on_all(flag: Tensor) -> bool:
    """Whether the flag is true on every process. Reading it waits for the device, once per step."""
    return not bool(all_sum((~flag).to(torch.int32)))
