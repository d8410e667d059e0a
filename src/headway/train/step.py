"""One optimiser step, on this process's part of the batch."""

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headway.config import Optim
from headway.distributed import all_sum, world
from headway.draws import Draws
from headway.errors import HeadwayError
from headway.nn.attention import use_form
from headway.nn.batch_norm import BatchNorm
from headway.protocol import Batch, Clock, Learner
from headway.train.cut import whole_tensor
from headway.train.engine import make_fabric, wrap
from headway.train.memory import recompute_blocks
from headway.train.optim import make_optimizer, set_rates
from headway.train.plan import Plan


class Workshop(NamedTuple):
    """What a step needs.

    Attributes:
        fabric: Lightning Fabric, launched.
        wrapped: The learner as the engine wraps it: what is called.
        learner: The learner itself: what is asked.
        optimizer: As the engine wraps it.
        statistics: Buffers that a forward pass moves (batch norms'), so that a skipped step can put them back.
    """

    fabric: Any
    wrapped: Any
    learner: Learner
    optimizer: Any
    statistics: list[Tensor]


class Taken(NamedTuple):
    """A step that was taken.

    Attributes:
        shares: This process's share of the global means: loss, metrics and the norm of the gradient, detached. Summed
            over processes they are the means over the batch.
        whole: False where loss or gradient was no number, on whichever process: then nothing moved.
    """

    shares: dict[str, Tensor]
    whole: bool


def couples_batch(learner: Learner) -> bool:
    """Whether the loss of a picture depends on the rest of its batch, so that a split batch is another loss."""
    return learner.task.couples_batch or any(isinstance(module, BatchNorm) for module in learner.modules())


def check_batch(learner: Learner, batch: int, accumulate: int) -> None:
    """Refuse a batch that the task's loss cannot bear. Raises HeadwayError."""
    task = learner.task
    if accumulate > 1 and couples_batch(learner):
        raise HeadwayError(
            f"cannot accumulate {accumulate} micro-batches: the loss of a picture depends on the rest of its batch "
            f"({type(task).__name__} or a batch norm), so a split batch would be another loss; use a smaller batch"
        )
    if batch < max(task.minimum_batch, world() * accumulate):
        need = max(task.minimum_batch, world() * accumulate)
        raise HeadwayError(
            f"batch {batch} is too small: {type(task).__name__} here needs at least {need} pictures a step"
        )


def parts_of(batch: int, accumulate: int) -> int:
    """Into how many micro-batches every process cuts its part of a batch: so many as are asked for, but none is empty.

    What was asked for may come from a run on fewer processes. All cut alike, since a loss may ask all of them together:
    the one with the fewest pictures decides.
    """
    return max(min(accumulate, batch // world()), 1)


def set_up(learner: Learner, optim: Optim, plan: Plan) -> Workshop:
    """Place the learner on its device, make its optimizer, and let Fabric wrap both."""
    fabric = make_fabric(plan.precision, shard=plan.shard)
    use_form(learner, plan.form)
    if plan.precision == "float64":
        learner.double()
    learner.to(fabric.device).train()
    if plan.recompute:
        recompute_blocks(learner.backbone)
    if plan.compile:
        learner.backbone.compile()
    half = plan.precision == "bf16"
    wrapped, optimizer = wrap(fabric, learner, lambda: make_optimizer(learner, optim, half=half), shard=plan.shard)
    norms = [module for module in learner.modules() if isinstance(module, BatchNorm)]
    return Workshop(fabric, wrapped, learner, optimizer, [buffer for norm in norms for buffer in norm.buffers()])


def take_step(shop: Workshop, optim: Optim, plan: Plan, batch: Batch, places: Tensor, clock: Clock) -> Taken:
    """One optimiser step on this process's part of the global batch.

    Gradients are those of the mean over the global batch: a micro-batch of n pictures has weight n / batch, and the
    average over processes is undone by their number. Where loss or gradient is no number on any process, all leave
    everything as it was.
    """
    set_rates(shop.optimizer, optim, plan.batch, clock)
    before = [buffer.clone() for buffer in shop.statistics]
    parts = list(zip(*(tensor.tensor_split(plan.accumulate) for tensor in (*batch, places)), strict=True))
    carries, shares = [], []
    for number, (images, index, where) in enumerate(parts):
        last = number == len(parts) - 1
        with nullcontext() if last or world() == 1 else shop.fabric.no_backward_sync(shop.wrapped):
            outcome = shop.wrapped(Batch(images, index), Draws(plan.seed, where, clock.step), clock)
            share = len(images) / plan.batch
            shop.fabric.backward(outcome.loss * (share * world()))
        carries.append(outcome.carry)
        shares.append(
            {"loss": outcome.loss.detach() * share, **{k: v.detach() * share for k, v in outcome.metrics.items()}}
        )
    parameters = [parameter for parameter in shop.learner.parameters() if parameter.grad is not None]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    length = whole_tensor(norm.detach())
    shares.append({"gradient_norm": length / world()})
    totals = _summed(shares)
    finite = _everywhere(torch.isfinite(totals["loss"]) & torch.isfinite(length))
    if finite:
        if optim.clip > 0:
            nn.utils.clip_grads_with_norm_(parameters, optim.clip, norm)
        shop.optimizer.step()
    else:
        for buffer, old in zip(shop.statistics, before, strict=True):
            buffer.copy_(old)
    shop.optimizer.zero_grad(set_to_none=True)
    if finite:
        with torch.no_grad():
            shop.learner.task.after_step(shop.learner.backbone, carries, clock._replace(step=clock.step + 1))
    return Taken(totals, finite)


def _summed(shares: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    totals: dict[str, Tensor] = {}
    for numbers in shares:
        for name, value in numbers.items():
            totals[name] = totals.get(name, torch.zeros_like(value)) + value
    return totals


def _everywhere(fine: Tensor) -> bool:
    """Whether it is so on every process. Reading it waits for the device, once a step."""
    return not bool(all_sum((~fine).to(torch.int32)))
