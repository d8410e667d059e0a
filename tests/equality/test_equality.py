"""Training ends in the same weights for any number of processes and micro-batches, and after a resume.

Processes are those of a launcher (``workers(n)``, a gloo group) or forks of this one (``processes=n``, a team).
"""

import json
import os
import signal
from dataclasses import replace
from functools import cache

import pytest
import torch
from safetensors.torch import load_file

import headway
from headway.distributed import rank
from headway.pretext import TASKS
from headway.pretext.dino import DINOTask
from headway.protocol import TaskOutput
from headway.synthetic import DrawnAnimals
from headway.train.loop import loop
from headway.train.loop.signals import Interrupted
from tests.small import max_difference, skip_measurements, small_config, small_train_module, supervised, train

whole_run = cache(train)
"""Weights that one process ends in."""
SPLITTABLE = [task for task in TASKS if not small_train_module(task).task.batch_coupled]


@pytest.mark.parametrize("task", TASKS)
def test_processes_equal_one(task, workers):
    expected = whole_run(task, batch=11)
    for weights in workers(3).run(train, task, 12, 1, 11):  # 11 over 3 is uneven
        assert max_difference(expected, weights) < 1e-9


@pytest.mark.parametrize("task", TASKS)
def test_a_team_equals_one_process(task):
    assert max_difference(whole_run(task), train(task, processes=2)) < 1e-9


@pytest.mark.parametrize("task", ["rotation", "simclr", "swav", "dinov2"])
def test_a_team_with_uneven_batches_equals_one_process(task):
    assert max_difference(whole_run(task, batch=11), train(task, batch=11, processes=3)) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_team_equals_one_process_with_drop_path(task):
    expected = train(task, steps=4, drop_path=0.3)
    assert max_difference(expected, train(task, steps=4, drop_path=0.3, processes=2)) < 1e-9
    assert max_difference(expected, train(task, steps=4)) > 1e-6, "drop-path did nothing"


@pytest.mark.slow
@pytest.mark.parametrize("task", ["rotation", "simclr", "dino"])
def test_processes_equal_one_through_batch_norms_of_a_convolutional_network(task, workers):
    expected = train(task, steps=3, backbone="timm:resnet10t")
    assert max_difference(expected, train(task, steps=3, backbone="timm:resnet10t", processes=2)) < 1e-9
    if task == "simclr":
        parallel = workers(3).run(train, task, 3, 1, 12, "float64", "timm:resnet10t")
        assert max_difference(expected, parallel[0]) < 1e-9


@pytest.mark.parametrize("task", SPLITTABLE)
def test_accumulated_equals_whole_batch(task):
    whole = whole_run(task)
    assert max_difference(whole, train(task, accumulate=3)) < 1e-9
    assert max_difference(whole, train(task, accumulate=2, processes=2)) < 1e-9


@pytest.mark.parametrize("task", [SPLITTABLE[0]])
def test_accumulated_over_processes_equals_whole_batch(task, workers):
    assert max_difference(whole_run(task), workers(3).run(train, task, 12, 2)[1]) < 1e-9


def test_supervised_training_equals_on_any_split(workers):
    whole = supervised()
    assert max_difference(whole, supervised(3)) < 1e-9
    assert max_difference(whole, supervised(2, processes=2)) < 1e-9
    assert all(max_difference(whole, weights) < 1e-9 for weights in workers(3).run(supervised))


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
    whole = whole_run("dino")
    folder = str(tmp_path)
    train("dino", run=folder, stop_after=4, processes=2)
    train("dino", run=folder, stop_after=8, resume=True)
    ended = workers(3).run(train, "dino", 12, 1, 12, "float64", "vit", 0.0, folder, None, True)
    assert max_difference(whole, ended[2]) < 1e-9


def test_a_run_is_resumed_and_reproduced_with_other_numbers_of_processes(tmp_path, monkeypatch):
    words = {"data": DrawnAnimals(20, 32), "backbone": "vit_pico", "patch": 8, "precision": "float64", "steps": 9}
    recipe = TASKS["simsiam"]
    words["recipe"] = replace(recipe, batch_size=8, task=small_config("simsiam", recipe.task))
    stops, honest = {3, 6}, loop.train_step
    skip_measurements(monkeypatch, 1.0)  # logs each step

    def train_step(*given):
        if rank() == 0 and given[-1].step + 1 in stops:
            stops.discard(given[-1].step + 1)
            os.kill(os.getpid(), signal.SIGTERM)
        return honest(*given)

    headway.pretrain("simsiam", **words, out=tmp_path / "whole")
    monkeypatch.setattr(loop, "train_step", train_step)
    for processes in (2, 3):
        with pytest.raises(Interrupted):
            headway.pretrain("simsiam", **words, out=tmp_path / "cut", resume=processes == 3, processes=processes)
    headway.pretrain("simsiam", **words, out=tmp_path / "cut", resume=True, processes=1)
    record = json.loads((tmp_path / "cut" / "run.json").read_text())
    assert [(segment["step"], segment["processes"]) for segment in record["segments"]] == [(0, 2), (3, 3), (6, 1)]
    again = {"data": words["data"], "out": tmp_path / "again", "reproduce": str(tmp_path / "cut" / "run.json")}
    headway.pretrain("simsiam", **again)
    whole, cut, reproduced = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut", "again"))
    assert 0 < max_difference(whole, cut) < 1e-9 and max_difference(cut, reproduced) == 0.0


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
    assert max_difference(whole, whole_run(task)) > 1e-3, "muon was not used"
    assert max_difference(whole, with_muon(task, processes=2)) < 1e-9
    assert all(max_difference(whole, weights) < 1e-9 for weights in workers(3).run(with_muon, task))
    exact = with_muon(task, precision="float32")
    with_muon(task, precision="float32", run=str(tmp_path), stop_after=5)
    assert max_difference(exact, with_muon(task, precision="float32", run=str(tmp_path), resume=True)) == 0.0
