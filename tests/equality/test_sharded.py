"""FSDP2: weights, gradients and moments cut over the processes train as whole ones do, and go on as whole ones."""

import pytest
import torch

from headway.train.checkpoint import latest
from tests.small import farthest, train

TASKS = ["rotation", "simclr", "mae", "dino", "byol", "vicreg"]


def sharded(task, steps=6, **more):
    return train(task, steps, shard=True, **more)


@pytest.mark.parametrize("task", TASKS)
def test_sharded_equals_whole(task, workers):
    whole = train(task, 6)
    for weights in workers(2).run(sharded, task):
        assert farthest(whole, weights) < 1e-9


def test_sharded_muon_equals_whole_and_goes_on_whole(tmp_path, workers):
    whole = train("simclr", 6, method="muon")
    for weights in workers(2).run(sharded_muon, str(tmp_path)):
        assert farthest(whole, weights) < 1e-9
    assert any(name.startswith("momentum/") for name in latest(tmp_path)[0].moments)
    assert farthest(whole, train("simclr", 6, method="muon", run=str(tmp_path), resume=True)) < 1e-9


def sharded_muon(folder):
    train("simclr", 6, shard=True, method="muon", run=folder, stop_after=3)
    return sharded("simclr", method="muon", run=folder + "/whole")


def test_uneven_parts_and_accumulation(workers):
    assert farthest(train("dino", 6, batch=11), workers(3).run(sharded_uneven)[2]) < 1e-9


def sharded_uneven():
    return sharded("dino", batch=11, accumulate=2)


def is_cut():
    from headway.config import Optim
    from headway.train.plan import Plan
    from headway.train.step import set_up
    from tests.small import small_learner

    learner = small_learner("rotation")
    set_up(learner, Optim(), Plan(steps=1, batch=4, shard=True))
    return [parameter.to_local().numel() for parameter in learner.parameters()], [
        p.numel() for p in learner.parameters()
    ]


def test_each_process_holds_its_part_alone(workers):
    (first, whole), (second, _) = workers(2).run(is_cut)
    assert [a + b for a, b in zip(first, second, strict=True)] == whole and sum(first) < 0.6 * sum(whole)


def go_on(folder, stop, shard):
    return train("dino", 12, run=folder, stop_after=stop, resume=True, shard=shard)


def test_from_2_sharded_to_1_whole_to_2_sharded(tmp_path, workers):
    whole, folder = train("dino"), str(tmp_path)
    workers(2).run(go_on, folder, 4, True)
    assert latest(tmp_path)[0].weights["backbone.norm.weight"].shape == (16,)
    go_on(folder, 8, False)
    for weights in workers(2).run(go_on, folder, None, True):
        assert farthest(whole, weights) < 1e-9
    state = latest(tmp_path)[0]
    assert state.state["step"] == 12 and all(isinstance(t, torch.Tensor) for t in state.moments.values())


def test_from_2_to_1_to_3_with_a_copy_each(tmp_path, workers):
    whole, folder = train("simclr"), str(tmp_path)
    words = ("simclr", 12, 1, 12, "float64", "vit", 0.0, folder)
    workers(2).run(train, *words, 4, True)
    train(*words, 8, True)
    for weights in workers(3).run(train, *words, None, True):
        assert farthest(whole, weights) < 1e-9
