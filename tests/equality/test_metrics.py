"""What a run logs is a number of the whole batch: the same on any number of processes, even or not."""

import pytest

from headway.config import Optim
from headway.pretext import TASKS
from headway.train.log import Step
from headway.train.loop import fit
from headway.train.plan import Plan
from tests.small import pictures, small_learner


def logged(task, batch, steps=3):
    """Loss and metrics of every step, in float64."""
    told = []
    plan = Plan(steps=steps, batch=batch, log_every=1, precision="float64")
    fit(small_learner(task), pictures(), plan, Optim(lr=0.02, warmup=0.1), sinks=[told.append])
    return [event.metrics | {"loss": event.loss} for event in told if isinstance(event, Step)]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("processes", "batch"), [(2, 12), (3, 11)])
def test_metrics_on_several_processes_are_those_on_one(task, processes, batch, workers):
    together, alone = workers(processes).run(logged, task, batch)[0], logged(task, batch)
    assert len(alone) == 3 and len(alone[0]) >= 2
    for here, there in zip(alone, together, strict=True):
        assert here.keys() == there.keys()
        for name in here:
            near = 1e-7 if name.endswith(("accuracy", "agreement")) else 1e-9  # shares of pictures are in float32
            assert there[name] == pytest.approx(here[name], rel=near, abs=near), name
