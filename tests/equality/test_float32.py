"""In float32, too: the losses of a batch on two processes are those on one."""

import pytest

from headway.config import Optim
from headway.pretext import TASKS
from headway.train.log import Step
from headway.train.loop import fit
from headway.train.plan import Plan
from tests.small import farthest, pictures, small_learner, train


def losses(task, steps=2):
    told = []
    plan = Plan(steps=steps, batch=12, log_every=1)
    fit(small_learner(task), pictures(), plan, Optim(lr=0.0), sinks=[told.append])
    return [event.loss for event in told if isinstance(event, Step)]


@pytest.mark.parametrize("task", TASKS)
def test_losses_on_two_processes_are_those_on_one(task, workers):
    assert workers(2).run(losses, task)[0] == pytest.approx(losses(task), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("task", ["rotation", "mae", "dino", "simclr"])
def test_recomputed_blocks_end_in_the_same_bits(task):
    whole = train(task, 3, precision="float32", drop_path=0.2)
    assert farthest(whole, train(task, 3, precision="float32", drop_path=0.2, recompute=True)) == 0.0
