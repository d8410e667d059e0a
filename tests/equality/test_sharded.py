"""FSDP2: training with sharded weights, gradients and moments equals unsharded training; either resumes the other."""

import pytest
import torch

from headway.train.run_dir.checkpoint import load_latest
from tests.small import max_difference, train

TASKS = ["rotation", "simclr", "mae", "dino", "byol", "vicreg"]


def sharded(task, steps=6, **more):
    return train(task, steps, fsdp=True, **more)


@pytest.mark.parametrize("task", TASKS)
def test_sharded_equals_whole(task, workers):
    whole = train(task, 6)
    for weights in workers(2).run(sharded, task):
        assert max_difference(whole, weights) < 1e-9


def test_sharded_muon_equals_whole_and_resumes_whole(tmp_path, workers):
    whole = train("simclr", 6, method="muon")
    for weights in workers(2).run(sharded_muon, str(tmp_path)):
        assert max_difference(whole, weights) < 1e-9
    assert any(name.startswith("momentum/") for name in load_latest(tmp_path)[0].optimizer_state)
    assert max_difference(whole, train("simclr", 6, method="muon", run=str(tmp_path), resume=True)) < 1e-9


def sharded_muon(folder):
    train("simclr", 6, fsdp=True, method="muon", run=folder, stop_after=3)
    return sharded("simclr", method="muon", run=folder + "/whole")


def test_uneven_parts_and_accumulation(workers):
    assert max_difference(train("dino", 6, batch=11), workers(3).run(sharded_uneven)[2]) < 1e-9


def sharded_uneven():
    return sharded("dino", batch=11, accumulate=2)


def shard_sizes():
    from headway.config import Optim
    from headway.train.config import Plan
    from headway.train.engine.step import make_engine
    from tests.small import small_train_module

    module = small_train_module("rotation")
    make_engine(module, Optim(), Plan(steps=1, batch_size=4, fsdp=True))
    return [parameter.to_local().numel() for parameter in module.parameters()], [p.numel() for p in module.parameters()]


def test_each_process_holds_only_its_shard(workers):
    (first, whole), (second, _) = workers(2).run(shard_sizes)
    assert [a + b for a, b in zip(first, second, strict=True)] == whole and sum(first) < 0.6 * sum(whole)


def resume(folder, stop, shard):
    return train("dino", 12, run=folder, stop_after=stop, resume=True, fsdp=shard)


def test_from_2_sharded_to_1_whole_to_2_sharded(tmp_path, workers):
    whole, folder = train("dino"), str(tmp_path)
    workers(2).run(resume, folder, 4, True)
    assert load_latest(tmp_path)[0].weights["backbone.norm.weight"].shape == (16,)
    resume(folder, 8, False)
    for weights in workers(2).run(resume, folder, None, True):
        assert max_difference(whole, weights) < 1e-9
    state = load_latest(tmp_path)[0]
    assert state.state["step"] == 12 and all(isinstance(t, torch.Tensor) for t in state.optimizer_state.values())


def test_from_2_to_1_to_3_with_a_copy_each(tmp_path, workers):
    whole, folder = train("simclr"), str(tmp_path)
    words = ("simclr", 12, 1, 12, "float64", "vit", 0.0, folder)
    workers(2).run(train, *words, 4, True)
    train(*words, 8, True)
    for weights in workers(3).run(train, *words, None, True):
        assert max_difference(whole, weights) < 1e-9
