"""Trainings on labels choose processes and threads once for each kind of training."""

from dataclasses import replace

import pytest
import torch

from headway.downstream.finetuning import finetune, supervised_workers
from headway.downstream.finetuning.finetune import train_supervised
from headway.downstream.finetuning.supervised import SupervisedTask
from headway.downstream.finetuning.supervised_workers import MIN_MEASURED_STEPS, MeasuredWorkers, with_workers
from headway.downstream.heads.recipes import FINE_TUNE, SupervisedConfig
from headway.downstream.heads.registry import HEADS
from headway.downstream.labeled_images import LabeledImages
from headway.protocol import TrainModule
from headway.rng import seeded
from headway.train.config import Plan
from headway.train.engine.workers import SHORT_RUN_S, Workers
from headway.worker_team import CAN_FORK
from tests.small import SIDE, make_images, max_difference, small_backbone

ONE, TWO, THREADS = Workers(1, 1), Workers(2, 1), Workers(1, 2)
LONG = 100
IMAGES, LABELS = make_images(24), torch.arange(24) % 2


@pytest.fixture
def timed(monkeypatch):
    """Two cores, on which a step takes one thread long enough that LONG steps are measured."""
    monkeypatch.setattr(supervised_workers, "_measured", {})
    monkeypatch.setattr("headway.train.engine.workers.available_threads", lambda: 2)
    timed = []

    def measure(module, images, plan, optim, options):
        timed.append(tuple(options))
        return MeasuredWorkers(options[-1], 0.6 * 1.1 * SHORT_RUN_S / LONG, 1.1 * SHORT_RUN_S / LONG)

    monkeypatch.setattr(supervised_workers, "measure_workers", measure)
    return timed


def plan_for(steps=LONG, batch_size=16, processes=1, threads=0, classes=2, frozen=False):
    with seeded(0):
        network = small_backbone().requires_grad_(not frozen)
    task = SupervisedTask(HEADS["linear"].build_seeded(network.embed_dim, classes, 0), LABELS, SIDE, SupervisedConfig())
    plan = Plan(steps=steps, batch_size=batch_size)
    return with_workers(plan, TrainModule(network, task), IMAGES, FINE_TUNE.optim, processes, threads)


def workers_of(plan):
    return Workers(plan.processes, plan.threads)


def test_one_measurement_serves_all_trainings_of_a_kind(timed):
    plans = [plan_for(), plan_for(steps=2 * LONG), plan_for()]
    assert [workers_of(plan) for plan in plans] == [THREADS] * 3 and timed == [(ONE, THREADS)]
    assert plans[0].phase_seconds and plans[0].adapt_workers == "threads", "a training that is slowed down goes over"
    for other in ({"batch_size": 8}, {"classes": 3}, {"frozen": True}):
        plan_for(**other)
    assert len(timed) == 4
    supervised_workers.forget_measurements()
    plan_for()
    assert len(timed) == 5


@pytest.mark.skipif(not CAN_FORK, reason="processes are started on Linux only")
def test_several_processes_only_where_they_are_allowed(timed):
    assert workers_of(plan_for()) == THREADS
    allowed = plan_for(processes=0)
    assert workers_of(allowed) == TWO and timed[-1] == (ONE, TWO) and allowed.adapt_workers == "processes"


def test_short_trainings_take_one_thread(timed):
    few = plan_for(steps=MIN_MEASURED_STEPS - 1)
    assert workers_of(few) == ONE and not timed, "without a measurement"
    assert workers_of(plan_for(steps=LONG // 2)) == ONE and len(timed) == 1
    assert not few.phase_seconds and few.adapt_workers == "never"


def test_given_workers_are_taken_as_they_are(timed):
    assert workers_of(plan_for(processes=2)) == TWO and workers_of(plan_for(threads=2)) == THREADS
    assert workers_of(plan_for(processes=1, threads=1)) == ONE and not timed


@pytest.mark.skipif(not CAN_FORK, reason="processes are started on Linux only")
def test_processes_train_the_classifier_of_one(monkeypatch):
    with seeded(0):
        network, head = small_backbone(), HEADS["linear"].build_seeded(16, 2, 0)
    data, seen = LabeledImages(IMAGES, LABELS, ("a", "b"), SIDE), []
    monkeypatch.setattr(finetune, "forget_measurements", lambda: pytest.fail("nothing was slow"))

    def train(processes):
        config = replace(FINE_TUNE, epochs=0, min_steps=4, batch_size=16, processes=processes, threads=1)
        return train_supervised(
            network, head, data, seed=0, config=config, callback=lambda *_: seen.append(processes), callback_every=2
        )

    one, two = train(1), train(2)
    assert max_difference(one.backbone.state_dict(), two.backbone.state_dict()) < 1e-4
    assert max_difference(one.head.state_dict(), two.head.state_dict()) < 1e-4
    assert seen == [1, 1, 2, 2], "the callback runs in this process alone"
