"""The one loop. Every pretext task, fine-tuning and training from scratch go through it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from headway.config import Optim
from headway.data.loader import Loader
from headway.data.picked import Pictures
from headway.distributed import barrier, broadcast_object, rank, world
from headway.errors import HeadwayError
from headway.measure.symptoms import symptom
from headway.protocol import Batch, Clock, Learner
from headway.train.course import Course
from headway.train.interrupt import Interrupted, listening
from headway.train.log import Event, Look, Note, Probe, Sink, Step, rewind, tell_all
from headway.train.memory import smaller_parts
from headway.train.meter import Meter, Stopwatch
from headway.train.optim import rate_at
from headway.train.plan import Plan, Report
from headway.train.state import plain_copy, restore, save
from headway.train.step import Taken, Workshop, check_batch, couples_batch, parts_of, set_up, take_step

ProbeFunction = Callable[[nn.Module], float]
Eye = Callable[[nn.Module], dict[str, float]]


class Bench(NamedTuple):
    """All that a run is worked with, from its first step to its last; what changes meanwhile is its ``Course``."""

    shop: Workshop
    plan: Plan
    optim: Optim
    loader: Loader
    stop: int
    run: Path | None
    tell: Callable[[Event], None]
    probe: ProbeFunction | None
    eye: Eye | None
    watch: Stopwatch


def fit(
    learner: Learner,
    images: Pictures,
    plan: Plan,
    optim: Optim,
    *,
    run: Path | None = None,
    resume: bool = False,
    sinks: Sequence[Sink] = (),
    probe: ProbeFunction | None = None,
    eye: Eye | None = None,
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
        eye: Looks at the backbone's features; it must leave it as it was.
        stop_after: Leave after this step with a checkpoint, as an interrupted run would.

    Raises:
        HeadwayError: A batch that the task cannot bear, trouble that stays, too little memory, a checkpoint that cannot
            be written.
        Interrupted: After SIGTERM or Ctrl-C, once the run is saved; without a ``run`` signals do what they always do.
    """
    check_batch(learner, plan.batch, parts_of(plan.batch, plan.accumulate))
    shop = set_up(learner, optim, plan)
    loader = Loader(images, seed=plan.seed, batch=plan.batch, rank=rank(), world=world(), first=plan.first)
    stop = min(plan.steps, stop_after or plan.steps)
    bench = Bench(shop, plan, optim, loader, stop, run, partial(tell_all, sinks), probe, eye, Stopwatch())
    with bench.watch.paused():
        course = restore(shop, run, plan, bench.tell) if resume and run else None
        if course is None:
            course = Course(accumulate=plan.accumulate)
            if run:  # so that there is always something to go back to
                save(shop, run, plan, course)
    start = course.step
    with listening(run is not None) as asked:
        rewind(sinks, start)
        while trouble := _stretch(bench, course, asked):
            course = _set_back(bench, course, trouble)
            rewind(sinks, course.step)
    seconds = bench.watch.seconds()
    speed = plan.batch * max(stop - start, 0) / max(seconds, 1e-9)
    loss = float("nan") if course.loss is None else course.loss
    return Report(stop, seconds, loss, speed, course.skipped, parts_of(plan.batch, course.accumulate))


def _stretch(bench: Bench, course: Course, asked: Callable[[], int]) -> str | None:
    """Go from where the course stands to the last step. Gives the trouble where there is some that sends it back."""
    plan, run, meter = bench.plan, bench.run, Meter()
    if course.step == 0:
        _look(bench, course)
    _probe(bench, course)  # a run may have been saved, and not have come to the probe of that step
    for batch, places in bench.loader.batches(course.step, bench.stop):
        optim = replace(bench.optim, lr=bench.optim.lr * course.rate)
        clock = Clock(course.step, plan.steps, _epoch(bench, course))
        on_device = [tensor.to(bench.shop.fabric.device, non_blocking=True) for tensor in (*batch, places)]
        taken = _step(bench, course, optim, Batch(*on_device[:2]), on_device[2], clock)
        if taken.whole:
            meter.add(taken.shares)
        trouble = course.advance(taken.whole)
        last = course.step == bench.stop
        if last or _due(course.step, plan.log_every):
            trouble = trouble or _log(bench, course, meter, rate_at(optim, plan.batch, clock))
        trouble = trouble or _look(bench, course)
        if trouble:
            return trouble
        agreed = world() == 1 or _due(course.step, plan.log_every)  # to ask the others each step would cost time
        signal_number = asked() if agreed and not last else 0
        if run and (last or signal_number or (_due(course.step, plan.save_every) and not course.skipped_in_row)):
            save(bench.shop, run, plan, course)
        _probe(bench, course)  # behind the save: nothing is lost with a probe that fails
        if signal_number:
            raise Interrupted(f"saved in {run} after step {course.step} of {plan.steps}", signal_number)
    return None


def _step(bench: Bench, course: Course, optim: Optim, batch: Batch, places: Tensor, clock: Clock) -> Taken:
    """Take a step, in smaller and smaller parts while memory runs out and parts change nothing."""
    while True:
        plan = replace(bench.plan, accumulate=parts_of(bench.plan.batch, course.accumulate))
        try:
            return take_step(bench.shop, optim, plan, batch, places, clock)
        except torch.OutOfMemoryError as fault:
            smaller = smaller_parts(plan, couples_batch(bench.shop.learner), fault)
        bench.shop.optimizer.zero_grad(set_to_none=True)
        course.accumulate = smaller.accumulate
        bench.tell(Note(f"out of memory: a step is now cut into {course.accumulate} micro-batches"))


def _log(bench: Bench, course: Course, meter: Meter, rate: float) -> str | None:
    """Tell the means since the last time; gives the trouble where they show one that sends the run back."""
    numbers = meter.means()
    if not numbers:  # every step was skipped
        return None
    course.loss = numbers.pop("loss")
    speed = bench.plan.batch * bench.watch.lap(meter.read)
    counts = {"skipped": float(course.skipped)} if course.skipped else {}
    step = Step(course.step, bench.plan.steps, _epoch(bench, course), course.loss, rate, speed, numbers | counts)
    bench.tell(step)
    return _judge(bench, course, numbers)


def _look(bench: Bench, course: Course) -> str | None:
    """Look at the features where it is time to; gives trouble as ``_log`` does."""
    plan, step = bench.plan, course.step
    if not (bench.eye and plan.watch_every and (step == plan.steps or _due(step, plan.watch_every))):
        return None
    with bench.watch.paused():
        backbone = plain_copy(bench.shop.learner.backbone).to(bench.shop.fabric.device)
        numbers = broadcast_object(bench.eye(backbone) if rank() == 0 else None)
        bench.tell(Look(step, numbers))
        bench.shop.learner.train()
    return _judge(bench, course, numbers)


def _probe(bench: Bench, course: Course) -> None:
    """Measure the probe where it is time to."""
    plan, step = bench.plan, course.step
    due = step == plan.steps or (plan.probe_start if step == 0 else _due(step, plan.probe_every))
    if not (bench.probe and due):
        return
    with bench.watch.paused():
        backbone = plain_copy(bench.shop.learner.backbone).to(bench.shop.fabric.device)
        if rank() == 0:
            bench.tell(Probe(step, "20-NN", bench.probe(backbone)))
        barrier()
        bench.shop.learner.train()


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _judge(bench: Bench, course: Course, numbers: dict[str, float]) -> str | None:
    """What a collapse means for the run; the same on every process, whose numbers are the same."""
    cause = symptom(numbers, course.memory)
    if cause is None:
        return None
    trouble = f"the features collapse at step {course.step}: {cause}"
    if bench.plan.on_collapse == "stop":
        raise HeadwayError(f"{trouble}; stopped, as --on-collapse stop asks")
    if bench.plan.on_collapse == "rollback" and bench.run:
        return trouble
    if not course.collapsed:
        course.collapsed = True
        bench.tell(Note(trouble))
    return None


def _set_back(bench: Bench, course: Course, trouble: str) -> Course:
    """The course from the last good checkpoint on, at a lower rate. Raises HeadwayError where there is none."""
    earlier = restore(bench.shop, bench.run, bench.plan, bench.tell, back=True) if bench.run else None
    if earlier is None:
        advice = f"try a lower learning rate (recipe.optim.lr is {bench.optim.lr:g})"
        raise HeadwayError(f"{trouble}, up to step {course.step}; {advice}")
    back = course.after_setback(earlier, trouble)
    bench.tell(Note(f"{trouble}; back to step {back.step}, at {back.rate:g} times the learning rate"))
    return back


def _epoch(bench: Bench, course: Course) -> float:
    return (bench.plan.first + course.step * bench.plan.batch) / len(bench.loader.images)
