"""Where a training step of `auto`'s network spends its time, on one thread: `python benchmarks/step_profile.py`.

torch's profiler records the operations of a few steps at full resolution (the network and batch of busy.py). Each
operation's own time counts for its kind, or for the views or the optimizer where it is part of them. What is between
operations is Python, and the profiler itself. The last line is the rate of the step, by the operations that torch
counts (convolutions and matrix products), as a share of the rate of one large matrix product in the same run.
"""

import argparse
import statistics
import time
from collections import Counter

import torch
from busy import BATCH_SIZE, auto_module
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from headway.data.sampling.loader import Loader
from headway.protocol import Batch, TrainingClock
from headway.train.config import Plan
from headway.train.engine.step import make_engine, train_step

KINDS = {
    "attention": ("attention",),
    "convolutions": ("convolution",),
    "matrix products": ("::mm", "addmm", "bmm", "linear"),
    "batch norm": ("batch_norm",),
    "activations": ("threshold", "clamp_min", "relu", "gelu"),
    "pooling, layer norm": ("pool", "layer_norm"),
}
"""Parts of the names of operations, by kind; the first that fits counts."""
PEAK_SIDE, PEAK_REPEATS = 2048, 8
"""Side of the matrices whose product counts as the peak, and how often it is computed."""
VIEWS, OPTIMIZER, REST, BETWEEN = "views", "optimizer", "other operations", "between operations"


def kind_of(event: torch.autograd.profiler_util.FunctionEvent) -> str:
    """The kind of an operation: that of the section in which it runs, or that of its name."""
    section = event
    while section is not None:
        if section.name == VIEWS or section.name.startswith("Optimizer.step"):
            return VIEWS if section.name == VIEWS else OPTIMIZER
        section = section.cpu_parent
    return next((kind for kind, parts in KINDS.items() if any(part in event.name for part in parts)), REST)


def matrix_peak() -> float:
    """Floating-point operations per second of processor time in a product of two large float32 matrices."""
    matrix, best = torch.randn(PEAK_SIDE, PEAK_SIDE), float("inf")
    for _ in range(PEAK_REPEATS):
        began = time.process_time()
        torch.mm(matrix, matrix)
        best = min(best, time.process_time() - began)
    return 2 * PEAK_SIDE**3 / best


def main() -> None:
    """Print a table of shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    args = parser.parse_args()
    torch.set_num_threads(1)
    module, images, config = auto_module()
    make_views = module.task.make_views

    def recorded_views(*arguments: object) -> object:
        with record_function(VIEWS):
            return make_views(*arguments)

    module.task.make_views = recorded_views
    plan, optim = Plan(steps=1, batch_size=BATCH_SIZE), config.recipe.optim
    engine = make_engine(module, optim, plan)
    batches = Loader(images, seed=0, batch_size=BATCH_SIZE).batches(0, 2 * args.steps + 3)
    start = int(1000 * module.task.cost_milestones[-1])  # of the phase at full resolution

    def take_steps(count: int) -> None:
        for number, (batch, positions) in zip(range(count), batches, strict=False):
            train_step(engine, optim, plan, Batch(*batch), positions, TrainingClock(start + number, 1000, 0.0))

    take_steps(2)
    with FlopCounterMode(display=False) as counter:
        take_steps(1)
    times = []
    for _ in range(args.steps):
        began = time.process_time()
        take_steps(1)
        times.append(time.process_time() - began)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        began = time.perf_counter()
        take_steps(args.steps)
        seconds = time.perf_counter() - began
    spent = Counter[str]()  # microseconds
    for event in profiler.events():
        spent[kind_of(event)] += event.self_cpu_time_total
    spent[BETWEEN] = seconds * 1e6 - spent.total()
    title = f"{config.task}, {config.backbone}, {config.size} px, {BATCH_SIZE} images"
    table = Table("", "share", "ms a step", title=title)
    for kind, microseconds in spent.most_common():
        table.add_row(kind, f"{microseconds / spent.total():.0%}", f"{microseconds / args.steps / 1e3:.0f}")
    Console().print(table)
    rate, peak = counter.get_total_flops() / statistics.median(times), matrix_peak()
    print(f"{rate / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s: {rate / peak:.0%} of the matrix peak")


if __name__ == "__main__":
    main()
