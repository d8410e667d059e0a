"""Collapses planted on small drawn animals are noticed within 200 steps, with their cause; healthy runs are not."""

from dataclasses import replace

import pytest
import torch

from headway.config import Optim
from headway.draws import seeded
from headway.errors import HeadwayError
from headway.measure.symptoms import symptom
from headway.nn.numerics import likeness
from headway.pretext import TASKS, byol, simsiam
from headway.protocol import Facts, Learner, Outcome
from headway.samples import DrawnAnimals
from headway.train.checkpoint import latest
from headway.train.eye import make_eye
from headway.train.log import Look, Note
from headway.train.loop import fit
from headway.train.plan import Plan
from tests.small import SIDE, SMALLER, small_backbone

COUNT = 64
SIGNS = {"simsiam": 100, "byol": 60, "vicreg": 80, "dino": 40}
"""Steps within which a planted collapse must be noticed, far fewer than 200; healthy runs last twice as long."""


@pytest.fixture(scope="module")
def animals():
    source = DrawnAnimals(COUNT, 32)
    return torch.stack([source.image(number) for number in range(COUNT)])


def run(task, images, *, steps=0, folder=None, on_collapse="warn", **choices):
    """The events of a run."""
    recipe = TASKS[task]
    config = replace(recipe.task, **{**SMALLER.get(task, {}), **choices})
    with seeded(0):
        network = small_backbone(pool=recipe.pool)
        learner = Learner(network, config.build(network, Facts(COUNT, 3, lambda n: images[:n], SIDE)))
    every = {"log_every": 10, "watch_every": 50, "save_every": 20}
    plan = Plan(steps=steps or SIGNS[task], batch=32, on_collapse=on_collapse, **every)
    optim = Optim(lr=0.005 if task == "dino" else 0.03, warmup=0.05, betas=recipe.optim.betas)
    events = []
    fit(learner, images, plan, optim, sinks=[events.append], eye=make_eye(images, SIDE), run=folder)
    return events


def told(events):
    return [event.text for event in events if isinstance(event, Note) and "collapse" in event.text]


def without_stop(patch):
    patch.setattr(simsiam, "apart", lambda predictions, projections: -likeness(predictions, projections).mean())


def test_no_stop_of_the_gradient(animals, monkeypatch):
    without_stop(monkeypatch)
    (text,) = told(run("simsiam", animals))
    assert "spread fell" in text and "gradient is not stopped" in text


def test_no_slow_teacher_and_no_stop(animals, monkeypatch):
    def forward(self, backbone, views, clock):
        features = backbone(views.images).pooled.chunk(2)
        projections = [self.projector(view) for view in features]
        first, second = (self.predictor(z) for z in projections)
        loss = byol.bootstrap(first, projections[1]) + byol.bootstrap(second, projections[0])
        return Outcome(loss, {"alignment": 1 - loss.detach() / 4, "spread": byol.spread(projections[1])})

    monkeypatch.setattr(byol.BYOLTask, "forward", forward)
    (text,) = told(run("byol", animals))
    assert "spread fell" in text and "gradient is not stopped" in text


def test_no_variance_term(animals):
    (text,) = told(run("vicreg", animals, variance=0.0))
    assert "deviation" in text and "variance term is missing" in text


def test_no_centring(animals):
    (text,) = told(run("dino", animals, centre_momentum=1.0))
    assert "same prototype" in text and "centring is missing" in text


@pytest.mark.parametrize("task", ["simsiam", "byol", "vicreg", "dino"])
def test_healthy_runs_are_left_alone(task, animals):
    events = run(task, animals, steps=2 * SIGNS[task])
    assert told(events) == []
    looks = [event for event in events if isinstance(event, Look)]
    assert {look.step for look in looks} == {*range(0, 2 * SIGNS[task], 50), 2 * SIGNS[task]}
    assert all(set(look.features) == {"rank", "std", "alignment", "uniformity"} for look in looks)


def test_it_may_stop_the_run(animals):
    with pytest.raises(HeadwayError, match=r"collapse at step \d+: .*variance term.*--on-collapse stop"):
        run("vicreg", animals, variance=0.0, on_collapse="stop")


def test_it_may_go_back_and_at_last_give_up(animals, tmp_path):
    with pytest.raises(HeadwayError, match="3 returns to a checkpoint"):
        run("vicreg", animals, variance=0.0, on_collapse="rollback", folder=tmp_path)
    assert latest(tmp_path)[0].state["step"] < SIGNS["vicreg"]


def test_looking_changes_nothing(animals):
    def weights(eye):
        with seeded(0):
            network = small_backbone(drop_path=0.2)
            task = TASKS["rotation"].task.build(network, Facts(COUNT, 3, lambda n: animals[:n], SIDE))
        learner = Learner(network, task)
        fit(learner, animals, Plan(steps=4, batch=16, watch_every=1), Optim(), eye=eye)
        return learner.state_dict()

    seen, unseen = weights(make_eye(animals, SIDE)), weights(None)
    assert all(torch.equal(seen[name], unseen[name]) for name in seen)


def twice(numbers, before=()):
    """What is said once a sign has lasted."""
    memory = dict(before)
    assert symptom(numbers, memory) is None
    return symptom(numbers, memory)


def test_symptoms_name_their_cause_in_combinations_too():
    healthy = {"loss": 1.0, "accuracy": 0.1, "simsiam.spread": 0.9, "simsiam.alignment": 0.1}
    memory = {}
    assert symptom(healthy, memory) is None
    assert "not stopped" in twice({"simsiam.spread": 0.3, "simsiam.alignment": 0.9}, memory)
    assert "negatives" in twice({"spread": 0.4}, {"spread": 0.9})
    assert twice({"spread": 0.6}, {"spread": 0.9}) is None and twice({"spread": 0.7}, {"spread": 0.99})
    assert "variance term" in twice({"a.deviation": 0.01})
    assert "one way" in twice({"rank": 1.1})
    assert "centring" in twice({"prototype_entropy": 0.01})
    assert twice({"prototype_entropy": 0.5, "teacher_entropy": 0.0, "deviation": 0.3, "rank": 4.0}) is None


def test_a_sign_that_passes_is_no_collapse():
    memory = {}
    for value in (1.0, 0.2, 0.9, 0.3, 1.1):
        assert symptom({"spread": value}, memory) is None
