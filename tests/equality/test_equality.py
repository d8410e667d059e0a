"""Training ends in the same weights for any number of processes and micro-batches, and after a resume."""

import pytest
import torch

from headway.pretext import TASKS
from headway.pretext.dino import DINOTask
from headway.protocol import TaskOutput
from tests.small import max_difference, small_train_module, supervised, train

SPLITTABLE = [task for task in TASKS if not small_train_module(task).task.batch_coupled]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_equal_one(task, processes, workers):
    batch = 12 if processes == 2 else 11  # 11 over 3 is uneven
    expected = train(task, batch=batch)
    parallel = workers(processes).run(train, task, 12, 1, batch)
    for weights in parallel:
        assert max_difference(expected, weights) < 1e-9


@pytest.mark.parametrize("task", TASKS)
def test_processes_equal_one_with_drop_path(task, workers):
    expected = train(task, steps=4, drop_path=0.3)
    parallel = workers(2).run(train, task, 4, 1, 12, "float64", "vit", 0.3)
    assert max_difference(expected, parallel[0]) < 1e-9
    assert max_difference(expected, train(task, steps=4)) > 1e-6, "drop-path did nothing"


@pytest.mark.parametrize("task", ["rotation", "simclr", "dino"])
def test_processes_equal_one_through_batch_norms_of_a_convolutional_network(task, workers):
    expected = train(task, steps=3, backbone="timm:resnet10t")
    parallel = workers(2).run(train, task, 3, 1, 12, "float64", "timm:resnet10t")
    assert max_difference(expected, parallel[0]) < 1e-9


@pytest.mark.parametrize("task", SPLITTABLE)
def test_accumulated_equals_whole_batch(task, workers):
    whole = train(task)
    assert max_difference(whole, train(task, accumulate=3)) < 1e-9
    assert max_difference(whole, workers(2).run(train, task, 12, 2)[1]) < 1e-9


def test_supervised_training_equals_on_any_split(workers):
    whole = supervised()
    assert max_difference(whole, supervised(3)) < 1e-9
    assert all(max_difference(whole, weights) < 1e-9 for weights in workers(2).run(supervised))


def test_a_center_updated_in_forward_would_be_noticed(monkeypatch):
    after_step, forward = DINOTask.after_step, DINOTask.forward

    def moving_forward(self, backbone, views, clock):
        outcome = forward(self, backbone, views, clock)
        with torch.no_grad():
            after_step(self, backbone, [outcome.step_stats], clock)
        return TaskOutput(outcome.loss, outcome.metrics)

    monkeypatch.setattr(DINOTask, "forward", moving_forward)
    monkeypatch.setattr(DINOTask, "after_step", lambda *_: None)
    assert max_difference(train("dino"), train("dino", accumulate=3)) > 1e-6


@pytest.mark.parametrize("task", TASKS)
def test_resumed_equals_uninterrupted_to_the_bit(task, tmp_path):
    whole = train(task, precision="float32")
    train(task, precision="float32", run=str(tmp_path), stop_after=5)
    resumed = train(task, precision="float32", run=str(tmp_path), resume=True)
    assert max_difference(whole, resumed) == 0.0


def test_resumed_on_other_numbers_of_processes(tmp_path, workers):
    whole = train("dino")
    folder = str(tmp_path)
    workers(2).run(train, "dino", 12, 1, 12, "float64", "vit", 0.0, folder, 4)
    train("dino", run=folder, stop_after=8, resume=True)
    ended = workers(3).run(train, "dino", 12, 1, 12, "float64", "vit", 0.0, folder, None, True)
    assert max_difference(whole, ended[2]) < 1e-9


@pytest.mark.parametrize("task", TASKS)
def test_same_seed_same_bits_and_another_seed_others(task):
    first = train(task, steps=3, precision="float32", drop_path=0.2)
    assert max_difference(first, train(task, steps=3, precision="float32", drop_path=0.2)) == 0.0
    assert max_difference(first, train(task, steps=3, precision="float32", drop_path=0.2, seed=1)) > 1e-4


def with_muon(*words, **more):
    return train(*words, method="muon", **more)


@pytest.mark.parametrize("task", ["simclr", "mae"])
def test_muon_on_any_number_of_processes_and_resumed(task, workers, tmp_path):
    whole = with_muon(task)
    assert max_difference(whole, train(task)) > 1e-3, "muon was not used"
    assert all(max_difference(whole, weights) < 1e-9 for weights in workers(2).run(with_muon, task))
    exact = with_muon(task, precision="float32")
    with_muon(task, precision="float32", run=str(tmp_path), stop_after=5)
    assert max_difference(exact, with_muon(task, precision="float32", run=str(tmp_path), resume=True)) == 0.0
