"""The one loop. Every pretext task, fine-tuning and training from scratch go through it."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from headway.config import Optim
from headway.data.loader import Loader
from headway.distributed import all_counts, barrier, rank, world
from headway.draws import Draws
from headway.errors import HeadwayError
from headway.nn.attention import use_form
from headway.nn.batch_norm import BatchNorm
from headway.protocol import Batch, Clock, Learner
from headway.train import checkpoint
from headway.train.engine import make_fabric
from headway.train.log import Event, Meter, Note, Probe, Sink, Step
from headway.train.optim import load_state_by_name, make_optimizer, rate_at, set_rates, state_by_name

ProbeFunction = Callable[[nn.Module], float]


@dataclass(frozen=True)
class Plan:
    """How a run is carried out; fixed before its first step and recorded."""

    steps: int
    """Optimiser steps in all."""
    batch: int
    """Pictures a step, over all processes and micro-batches."""
    seed: int = 0
    """Of draws and order."""
    accumulate: int = 1
    """Micro-batches a step on each process."""
    precision: Literal["float32", "bf16", "float64"] = "float32"
    """Of the arithmetic; weights and losses stay at float32 or wider."""
    form: Literal["plain", "fused"] = "fused"
    """How attention is computed."""
    compile: bool = False
    """Whether the backbone is compiled."""
    save_every: int = 0
    """Steps between checkpoints; 0: at the end alone."""
    log_every: int = 10
    """Steps between log lines."""
    probe_every: int = 0
    """Steps between probes, where one is handed in; 0: at the end alone."""


class Report(NamedTuple):
    """How a run ended.

    Attributes:
        steps: Taken in all, those before a resume included.
        seconds: Spent now, probes not counted.
        loss: The last mean that was logged; NaN where no step was left to take.
        pictures: A second.
    """

    steps: int
    seconds: float
    loss: float
    pictures: float


class Workshop(NamedTuple):
    """What a step needs: Fabric, the wrapped module, the plain one and the optimizer."""

    fabric: Any
    wrapped: Any
    learner: Learner
    optimizer: Any


def check_batch(learner: Learner, batch: int, accumulate: int) -> None:
    """Refuse a batch that the task's loss cannot bear. Raises HeadwayError."""
    task = learner.task
    coupled = task.couples_batch or any(isinstance(module, BatchNorm) for module in learner.modules())
    if accumulate > 1 and coupled:
        raise HeadwayError(
            f"cannot accumulate {accumulate} micro-batches: the loss of a picture depends on the rest of its batch "
            f"({type(task).__name__} or a batch norm), so a split batch would be another loss; use a smaller batch"
        )
    if batch < max(task.minimum_batch, world() * accumulate):
        need = max(task.minimum_batch, world() * accumulate)
        raise HeadwayError(
            f"batch {batch} is too small: {type(task).__name__} here needs at least {need} pictures a step"
        )


def set_up(learner: Learner, optim: Optim, plan: Plan) -> Workshop:
    """Place the learner on its device, make its optimizer, and let Fabric wrap both."""
    fabric = make_fabric(plan.precision)
    use_form(learner, plan.form)
    if plan.precision == "float64":
        learner.double()
    learner.to(fabric.device).train()
    if plan.compile:
        learner.backbone.compile()
    wrapped, optimizer = fabric.setup(learner, make_optimizer(learner, optim), _reapply_compile=False)
    return Workshop(fabric, wrapped, learner, optimizer)


def take_step(
    shop: Workshop, optim: Optim, plan: Plan, batch: Batch, places: Tensor, clock: Clock
) -> dict[str, Tensor]:
    """One optimiser step on this process's part of the global batch.

    Gradients are those of the mean over the global batch: a micro-batch of n pictures has weight n / batch, and the
    average over processes is undone by their number.

    Returns:
        This process's share of the global means: loss, metrics and the norm of the gradient, detached. Summed over
        processes they are the means over the batch.
    """
    set_rates(shop.optimizer, optim, plan.batch, clock)
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
    if optim.clip > 0:
        norm = nn.utils.clip_grad_norm_(shop.learner.parameters(), optim.clip)
        shares.append({"gradient_norm": norm.detach() / world()})
    shop.optimizer.step()
    shop.optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        shop.learner.task.after_step(shop.learner.backbone, carries, clock._replace(step=clock.step + 1))
    totals: dict[str, Tensor] = {}
    for numbers in shares:
        for name, value in numbers.items():
            totals[name] = totals.get(name, torch.zeros_like(value)) + value
    return totals


def fit(
    learner: Learner,
    images: Tensor,
    plan: Plan,
    optim: Optim,
    *,
    run: Path | None = None,
    resume: bool = False,
    sinks: Sequence[Sink] = (),
    probe: ProbeFunction | None = None,
    stop_after: int | None = None,
) -> Report:
    """Train the learner on the pictures, in place.

    Args:
        learner: Backbone and task.
        images: N C H W, the stored pictures (uint8, or float32 in [0, 1]).
        plan: How.
        optim: How weights are moved.
        run: The run folder for checkpoints; none: nothing is written.
        resume: Go on from the last whole checkpoint in ``run``; where there is none, start.
        sinks: Take the events of the run, on the first process alone.
        probe: Measures the backbone (per cent); it must leave it as it was.
        stop_after: Leave after this step with a checkpoint, as an interrupted run would.

    Raises:
        HeadwayError: A batch that the task cannot bear, a loss that is no number, a checkpoint that cannot be written.
    """
    check_batch(learner, plan.batch, plan.accumulate)
    shop = set_up(learner, optim, plan)

    def tell(event: Event) -> None:
        if rank() == 0:
            for sink in sinks:
                sink(event)

    start, loss = _restore(shop, run, tell) if resume and run else (0, float("nan"))
    for sink in sinks:
        if rank() == 0 and hasattr(sink, "rewind"):
            sink.rewind(start)
    loader = Loader(images, seed=plan.seed, batch=plan.batch, rank=rank(), world=world())
    began = mark = time.perf_counter()
    probing, meter, speed = 0.0, Meter(), 0.0
    stop = min(plan.steps, stop_after or plan.steps)
    for step, (batch, places) in enumerate(loader.batches(start, stop), start):
        clock = Clock(step, plan.steps, step * plan.batch / len(images))
        on_device = [tensor.to(shop.fabric.device, non_blocking=True) for tensor in (*batch, places)]
        meter.add(take_step(shop, optim, plan, Batch(*on_device[:2]), on_device[2], clock))
        done = step + 1
        if done % plan.log_every == 0 or done == stop:
            numbers = meter.means()
            now = time.perf_counter()
            loss, speed = numbers.pop("loss"), plan.batch * meter.read / max(now - mark, 1e-9)
            mark = now
            if not torch.isfinite(torch.tensor(loss)):
                advice = f"try a lower learning rate (recipe.optim.lr is {optim.lr:g})"
                raise HeadwayError(f"the loss became {loss} at step {done}; {advice}")
            rate = rate_at(optim, plan.batch, clock)
            tell(Step(done, plan.steps, done * plan.batch / len(images), loss, rate, speed, numbers))
        if run and (done == stop or (plan.save_every and done % plan.save_every == 0)):
            _save(shop, run, done, plan, loss)
        if probe and (done == plan.steps or (plan.probe_every and done % plan.probe_every == 0)):
            pause = time.perf_counter()
            if rank() == 0:
                tell(Probe(done, "20-NN", probe(learner.backbone)))
                learner.train()
            barrier()
            probing += time.perf_counter() - pause
            mark += time.perf_counter() - pause
    seconds = time.perf_counter() - began - probing
    return Report(stop, seconds, loss, plan.batch * max(stop - start, 0) / max(seconds, 1e-9))


def _save(shop: Workshop, run: Path, step: int, plan: Plan, loss: float) -> None:
    if rank() == 0:
        state = {"step": step, "total": plan.steps, "place": step * plan.batch, "loss": loss}
        moments = state_by_name(shop.learner, _plain_optimizer(shop))
        checkpoint.save(run, checkpoint.Checkpoint(shop.learner.state_dict(), moments, state))
    barrier()


def _restore(shop: Workshop, run: Path, tell: Callable[[Event], None]) -> tuple[int, float]:
    found, faults = checkpoint.latest(run)
    for fault in faults:
        tell(Note(f"passed over a damaged checkpoint, {fault}"))
    starts = all_counts(0 if found is None else found.state["step"])
    if len(set(starts)) > 1:
        raise HeadwayError(
            f"the processes see different checkpoints in {run} (steps {starts}); give them one shared folder"
        )
    if found is None:
        return 0, float("nan")
    shop.learner.load_state_dict(found.weights)
    load_state_by_name(shop.learner, _plain_optimizer(shop), found.moments)
    return int(found.state["step"]), float(found.state["loss"])


def _plain_optimizer(shop: Workshop) -> torch.optim.Optimizer:
    return getattr(shop.optimizer, "optimizer", shop.optimizer)  # Fabric's wrapper holds the real one
