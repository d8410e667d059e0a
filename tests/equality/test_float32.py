"""In float32, the losses of a batch on two processes equal those on one."""

import pytest

from headway.config import Optim
from headway.pretext import TASKS
from headway.train.config import Plan
from headway.train.log.events import StepMetrics
from headway.train.loop.context import Observers
from headway.train.loop.loop import fit
from tests.small import make_images, max_difference, small_train_module, train


def losses(task, steps=2):
    events = []
    plan = Plan(steps=steps, batch_size=12, log_every=1)
    fit(small_train_module(task), make_images(), plan, Optim(lr=0.0), observers=Observers([events.append]))
    return [event.loss for event in events if isinstance(event, StepMetrics)]


@pytest.mark.parametrize("task", TASKS)
def test_losses_on_two_processes_are_those_on_one(task, workers):
    assert workers(2).run(losses, task)[0] == pytest.approx(losses(task), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("task", ["rotation", "mae", "dino", "simclr"])
def test_recomputed_blocks_end_in_the_same_bits(task):
    whole = train(task, 3, precision="float32", drop_path=0.2)
    assert (
        max_difference(whole, train(task, 3, precision="float32", drop_path=0.2, activation_checkpointing=True)) == 0.0
    )
