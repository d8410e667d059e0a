"""Logged metrics are those of the whole batch on any number of processes, with equal or unequal shares."""

import pytest

from headway.config import Optim
from headway.pretext import TASKS
from headway.train.config import Plan
from headway.train.log.events import StepMetrics
from headway.train.loop.context import Observers
from headway.train.loop.loop import fit
from tests.small import make_images, small_train_module


def logged(task, batch, steps=3):
    """Loss and metrics of every step, in float64."""
    events = []
    plan = Plan(steps=steps, batch_size=batch, log_every=1, precision="float64")
    fit(
        small_train_module(task),
        make_images(),
        plan,
        Optim(lr=0.02, warmup_fraction=0.1),
        observers=Observers([events.append]),
    )
    return [event.metrics | {"loss": event.loss} for event in events if isinstance(event, StepMetrics)]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("processes", "batch"), [(2, 12), (3, 11)])
def test_metrics_on_several_processes_are_those_on_one(task, processes, batch, workers):
    parallel, single = workers(processes).run(logged, task, batch)[0], logged(task, batch)
    assert len(single) == 3 and len(single[0]) >= 2
    for here, there in zip(single, parallel, strict=True):
        assert here.keys() == there.keys()
        for name in here:
            near = 1e-7 if name.endswith(("accuracy", "contrastive_top1")) else 1e-9  # shares of images are in float32
            assert there[name] == pytest.approx(here[name], rel=near, abs=near), name
