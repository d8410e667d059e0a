"""Measured choices: several processes choose alike, even where one of them runs out of memory."""

import math

import pytest
import torch

from headway.config import Optim
from headway.distributed import rank, single_process, world_size
from headway.errors import HeadwayError
from headway.train.config import Plan
from headway.train.engine import timing
from headway.train.log import meters
from headway.train.log.meters import AverageMeter, widest_float
from headway.train.plan.autotune import select_fastest
from tests.small import make_images, small_train_module


def choose_with_little_memory(task, fsdp):
    """What each process chooses where rank 1 runs out of memory: in float32 with manual attention, with FSDP always."""
    me, tried = rank(), []  # within ``single_process`` each rank is 0
    honest = timing.train_step

    def train_step(engine, optim, plan, *rest):
        tried.append((plan.precision, plan.attention_impl, len(rest[0].images), world_size()))
        if me == 1 and (fsdp or plan.attention_impl == "manual") and plan.precision == "float32":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return honest(engine, optim, plan, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "train_step", train_step)
        try:
            plan, seconds = select_fastest(
                small_train_module(task), make_images(), Plan(steps=2, batch_size=16, fsdp=fsdp), Optim(),
                precisions=("float32",) if fsdp else ("float32", "bf16"), time_limit_s=0.1,
            )  # fmt: skip
        except HeadwayError as error:
            return str(error), tried
    return plan, seconds, tried


@pytest.mark.parametrize("task", ["rotation", "simclr"])
def test_processes_choose_alike_where_one_runs_out_of_memory(task, workers):
    (plan, seconds, tried), (other, theirs, _) = workers(2).run(choose_with_little_memory, task, False)
    assert plan == other and seconds == theirs
    assert seconds["float32/manual"] == math.inf and (plan.precision, plan.attention_impl) != ("float32", "manual")
    assert sum(map(math.isfinite, seconds.values())) == 3
    assert {(images, processes) for _, _, images, processes in tried} == {(8, 1)}  # its part of the batch
    assert workers(2).run(world_size) == [2, 2]


@pytest.mark.slow
def test_with_fsdp_the_process_without_memory_reports_what_to_do():
    from tests.processes import Workers

    group = Workers(2)  # a separate group: an error within a step makes it unusable
    try:
        for pipe in group.pipes:
            pipe.send((choose_with_little_memory, ("rotation", True)))
        answer, fault = group.pipes[1].recv()
        assert fault is None and answer[0].startswith("out of memory with ") and "wait in the middle" in answer[0]
        assert {impl for _, impl, _, _ in answer[1]} == {"sdpa"}
    finally:
        for process in group.processes:
            process.kill()
            process.join()


def test_single_process_hides_the_others(workers):
    assert workers(2).run(world_in_single_process) == [(1, 0, 2)] * 2


def world_in_single_process():
    with single_process():
        inside = world_size(), rank()
    return *inside, world_size()


def test_means_use_the_widest_float_of_the_device(monkeypatch):
    assert widest_float(torch.device("cpu")) == widest_float(torch.device("cuda")) == torch.float64
    assert widest_float(torch.device("mps")) == torch.float32
    values = [1.0 + 2**-20, 2.0**-30]
    means = []
    for kind in (torch.float64, torch.float32):
        monkeypatch.setattr(meters, "widest_float", lambda device, kind=kind: kind)
        counted = AverageMeter()
        for value in values:
            counted.add({"loss": torch.tensor(value, dtype=torch.float64)})
        means.append(counted.means()["loss"])
    assert means[0] == sum(values) / 2 and means[1] == pytest.approx(means[0], rel=1e-6) and means[0] != means[1]
