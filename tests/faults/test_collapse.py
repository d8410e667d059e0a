"""Collapses planted on small drawn animals are noticed within 200 steps, with their cause; healthy runs are not.

A teacher that follows at once but gets no gradient (SimSiam's case) does not collapse data2vec, I-JEPA or MoCo v3 in so
few steps; what is planted there is that the student foretells itself, gradient and all.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from headway.config import Optim
from headway.draws import seeded
from headway.errors import HeadwayError
from headway.measure.symptoms import pending, symptom
from headway.nn.numerics import likeness
from headway.pretext import TASKS, byol, data2vec, ijepa, moco_v3, simclr, simsiam
from headway.protocol import Facts, Learner
from headway.samples import DrawnAnimals
from headway.train import loop
from headway.train.checkpoint import latest, steps
from headway.train.eye import make_eye
from headway.train.log import Look, Note
from headway.train.loop import fit
from headway.train.plan import Plan
from tests.small import SIDE, SMALLER, farthest, pictures, small_backbone, small_learner

COUNT = 64
RATES = {"dino": 0.005, "ibot": 0.005, "dinov2": 0.005, "swav": 0.01}
"""Learning rates of tasks with prototypes; 0.03 for the others."""
MEMORY = {"dino": 0.25, "ibot": 0.25, "dinov2": 0.25}
"""Healthy teachers of so short a run: a fortieth of it would be a step or two."""


def unstopped(predictions, projections):
    return -likeness(predictions, projections).mean()


def no_strangers(first, second, temperature, index):
    """Only pull together; nobody is pushed away."""
    return -likeness(first, second).mean(), torch.tensor(0.0)


def foretell_yourself(kind):
    """A task's ``forward`` with the student in its teacher's place: no slowness, and the gradient runs through."""
    honest = kind.forward

    def forward(self, backbone, views, clock):
        teachers = {name: part for name, part in self._modules.items() if name.startswith("teacher")}
        for name in teachers:
            self._modules[name] = backbone if name == "teacher" else self._modules[name.removeprefix("teacher_")]
        try:
            return honest(self, backbone, views, clock)
        finally:
            self._modules.update(teachers)

    return kind, "forward", forward


class Fault(NamedTuple):
    """What is broken (by fields of the config or by patches), within how many steps it is noticed, and what is said."""

    task: str
    steps: int
    said: str
    choices: dict = {}
    patches: tuple = ()
    rate: float | None = None


FAULTS = {
    "no stop of the gradient": Fault("simsiam", 100, "gradient is not stopped", {}, ((simsiam, "apart", unstopped),)),
    "no slow teacher, no stop": Fault("byol", 60, "gradient is not stopped", {}, (foretell_yourself(byol.BYOLTask),)),
    "no strangers": Fault("simclr", 40, "negatives are missing", {}, ((simclr, "nt_xent", no_strangers),)),
    "no strangers, no teacher": Fault(
        "moco_v3", 190, "negatives are missing", {},
        (foretell_yourself(moco_v3.MoCoV3Task), (moco_v3, "contrast", no_strangers)), 0.06,
    ),
    "no redundancy term": Fault("barlow_twins", 140, "redundancy term is missing", {"redundancy": 0.0}),
    "no variance term": Fault("vicreg", 80, "variance term is missing", {"variance": 0.0}),
    "no test for a Gaussian": Fault("lejepa", 60, "Gaussian is missing", {"weight": 0.0}),
    "no balance in SwAV": Fault("swav", 80, "(Sinkhorn) is missing", {"iterations": 0}),
    "no balance in DINOv2": Fault("dinov2", 80, "(Sinkhorn) is missing", {"iterations": 0, "koleo": 0.0}),
    "no centring in DINO": Fault("dino", 60, "same prototype; likely the centring", {"centre_momentum": 1.0}),
    "no centring in iBOT": Fault("ibot", 60, "same prototype; likely the centring", {"centre_momentum": 1.0}, (), 0.02),
    "labels without an opinion": Fault(
        "dino", 160, "temperature is too high", {"teacher_temperature": (0.5, 0.5)}, (), 0.03
    ),
    "no teacher in data2vec": Fault(
        "data2vec", 50, "teacher is no slow one", {}, (foretell_yourself(data2vec.Data2VecTask),)
    ),
    "no teacher in I-JEPA": Fault("ijepa", 50, "teacher is no slow one", {}, (foretell_yourself(ijepa.IJEPATask),)),
}  # fmt: skip


@pytest.fixture(scope="module")
def animals():
    source = DrawnAnimals(COUNT, 32)
    return torch.stack([source.image(number) for number in range(COUNT)])


def run(task, images, steps, *, rate=None, folder=None, on_collapse="warn", **choices):
    """The events of a run."""
    recipe = TASKS[task]
    config = replace(recipe.task, **{**SMALLER.get(task, {}), **choices})
    with seeded(0):
        network = small_backbone(pool=recipe.pool)
        learner = Learner(network, config.build(network, Facts(COUNT, 3, lambda n: images[:n], SIDE)))
    every = {"log_every": 10, "watch_every": 50, "save_every": 20}
    plan = Plan(steps=steps, batch=32, on_collapse=on_collapse, **every)
    optim = Optim(lr=rate or RATES.get(task, 0.03), warmup=0.05, betas=recipe.optim.betas)
    events = []
    fit(learner, images, plan, optim, sinks=[events.append], eye=make_eye(images, SIDE), run=folder)
    return events


def told(events):
    return [event.text for event in events if isinstance(event, Note) and "collapse" in event.text]


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_collapse_is_noticed_and_its_cause_named(name, animals, monkeypatch):
    fault = FAULTS[name]
    for patch in fault.patches:
        monkeypatch.setattr(*patch)
    (text,) = told(run(fault.task, animals, fault.steps, rate=fault.rate, **fault.choices))
    assert fault.said in text


@pytest.mark.parametrize("task", sorted({fault.task for fault in FAULTS.values()}))
def test_healthy_runs_are_left_alone(task, animals):
    steps = max(fault.steps for fault in FAULTS.values() if fault.task == task)
    events = run(task, animals, steps, **({"memory": MEMORY[task]} if task in MEMORY else {}))
    assert told(events) == []
    looks = [event for event in events if isinstance(event, Look)]
    assert {look.step for look in looks} == {*range(0, steps, 50), steps}
    assert all(set(look.features) == {"rank", "std", "alignment", "uniformity"} for look in looks)


READINGS = json.loads(Path(__file__).with_name("readings_on_photographs.json").read_text(encoding="utf-8"))
"""What runs of 100 s on CIFAR-10 logged: vit_micro, convolutional stem, one core. DINO's answers had become alike."""


@pytest.mark.parametrize("task", READINGS)
def test_runs_on_photographs_are_judged_rightly(task):
    memory = {}
    said = [text for numbers in READINGS[task] if (text := symptom(numbers, memory))]
    assert bool(said) == (task == "dino"), said[:1]


def test_it_may_stop_the_run(animals):
    with pytest.raises(HeadwayError, match=r"collapse at step \d+: .*variance term.*--on-collapse stop"):
        run("vicreg", animals, 80, variance=0.0, on_collapse="stop")


def test_it_may_go_back_and_at_last_give_up(animals, tmp_path):
    with pytest.raises(HeadwayError, match="3 returns to a checkpoint"):
        run("vicreg", animals, 80, variance=0.0, on_collapse="rollback", folder=tmp_path)
    assert latest(tmp_path)[0].state["step"] < 80


@pytest.fixture
def collapsing(monkeypatch):
    """Runs of 20 steps, saved every 2nd and looked at every 4th, whose looks from step 8 on show a sign.

    Once a run has gone back they show none. ``collapsing(folder, kill=(step, rate))`` gives the weights and the notes.
    """
    now, honest = {}, loop._step

    def step(bench, course, *rest):
        now.update(course=course)
        if (course.step, course.rate) == now["kill"]:
            raise KeyboardInterrupt
        return honest(bench, course, *rest)

    def eye(backbone):
        course = now.get("course")
        return {"rank": 1.0 if course and course.step >= 8 and course.rate == 1.0 else 4.0}

    def collapsing(folder, kill=None, resume=False, stop_after=None):
        now.clear()
        now.update(kill=kill)
        learner, events = small_learner("rotation"), []
        plan = Plan(steps=20, batch=12, save_every=2, log_every=2, watch_every=4, on_collapse="rollback")
        fit(
            learner, pictures(), plan, Optim(lr=0.02, warmup=0.1), run=folder, resume=resume, sinks=[events.append],
            eye=eye, stop_after=stop_after,
        )  # fmt: skip
        notes = [event.text for event in events if isinstance(event, Note)]
        return {name: tensor.clone() for name, tensor in learner.state_dict().items()}, notes

    monkeypatch.setattr(loop, "_step", step)
    return collapsing


BACK = "collapse at step 12: the effective rank of the features is 1.00"


def test_it_goes_back_behind_the_first_sign(collapsing, tmp_path):
    (note,) = collapsing(tmp_path)[1]
    assert BACK in note and "back to step 6, at 0.5 times" in note, "those of 8 and 10 hold the first sign"
    assert [folder.name for folder in steps(tmp_path)] == ["00000018", "00000020"]
    assert latest(tmp_path)[0].state["setbacks"] == 1


@pytest.mark.parametrize("kill", [(7, 1.0), (9, 1.0), (11, 1.0), (6, 0.5), (7, 0.5), (13, 0.5)])
def test_a_kill_around_the_return_ends_in_the_same_bits(kill, collapsing, tmp_path):
    whole, said = collapsing(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        collapsing(tmp_path / "cut", kill=kill)
    weights, notes = collapsing(tmp_path / "cut", resume=True)
    assert farthest(whole, weights) == 0.0 and notes == ([] if kill == (13, 0.5) else said)
    assert latest(tmp_path / "cut")[0].state == latest(tmp_path / "whole")[0].state


def test_nor_does_it_go_back_to_where_it_was_asked_to_stop_amid_signs(collapsing, tmp_path):
    whole, said = collapsing(tmp_path / "whole")
    collapsing(tmp_path / "cut", stop_after=9)
    assert latest(tmp_path / "cut")[0].state["step"] == 9
    weights, notes = collapsing(tmp_path / "cut", resume=True)
    assert notes == said and farthest(whole, weights) == 0.0


def test_after_a_return_nothing_of_what_was_undone_is_left(collapsing, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        collapsing(tmp_path, kill=(6, 0.5))
    assert [folder.name for folder in steps(tmp_path)] == ["00000006"]


def test_a_run_whose_readings_flicker_is_saved_all_the_same(tmp_path):
    ranks = iter([1.0, 4.0] * 10)  # whenever it is saved
    plan = Plan(steps=18, batch=12, save_every=2, watch_every=1, on_collapse="rollback")
    fit(small_learner("rotation"), pictures(), plan, Optim(), run=tmp_path, eye=lambda backbone: {"rank": next(ranks)})
    assert [folder.name for folder in steps(tmp_path)] == ["00000000", "00000016", "00000018"]
    assert latest(tmp_path)[0].state["setbacks"] == 0


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
    healthy = {"loss": 1.0, "accuracy": 0.1, "simsiam.spread": 0.9, "simsiam.likeness": 0.1}
    memory = {}
    assert symptom(healthy, memory) is None
    assert "not stopped" in twice({"simsiam.spread": 0.15, "simsiam.likeness": 0.9}, memory)
    assert "negatives" in twice({"spread": 0.15, "agreement": 0.1}, {"spread": 0.9})
    apart = {"agreement": 0.1, "target_spread": 0.9}
    assert twice({"spread": 0.1, **apart}, {"spread": 0.9}) is None, "features may share what the projector takes off"
    for told in ({"deviation": 0.5}, {"redundancy": 0.2}, {"prototype_entropy": 6.3, "answer_entropy": 6.1}):
        assert twice({"spread": 0.1, **told}, {"spread": 0.9}) is None, "nor where pictures are told apart otherwise"
    assert "negatives" in twice({"spread": 0.4, **apart, "target_spread": 0.3}, {"spread": 0.9, "target_spread": 0.9})
    assert "rate" in twice({"spread": 0.15, "dino.agreement": 0.1}, {"spread": 0.9})
    assert twice({"spread": 0.2}, {"spread": 0.9}) is None, "what all features share, a probe takes off"
    assert twice({"target_spread": 0.5}, {"target_spread": 0.9}) is None
    leaks, memory = {"target_spread": 0.55, "likeness": 0.9}, {"target_spread": 0.99}
    assert [symptom(leaks, memory) for _ in range(4)] == [None] * 4, "SimSiam's may dip when it is young"
    assert "predictor" in symptom(leaks, memory) and twice({"target_spread": 0.65, "likeness": 0.9}, memory) is None
    assert "variance term" in twice({"a.deviation": 0.01}) and "Gaussian" in twice({"deviation": 0.01, "gaussian": 4.0})
    assert "one way" in twice({"rank": 1.1}) and "rate" in twice({"rank": 1.1})
    assert "deviation of the features" in twice({"std": 0.015, "rank": 4.0}, {"std": 0.6})
    assert twice({"std": 0.015}) is None and twice({"std": 0.05}, {"std": 0.6}) is None
    assert "redundancy term" in twice({"redundancy": 0.6}, {"redundancy": 0.2})
    assert twice({"redundancy": 0.6}) is None, "high from the beginning, and not rising"


def test_two_collapses_of_answers_are_told_apart():
    same = {"prototype_entropy": 0.01, "answer_entropy": 0.01}
    alike = {"a.patch_prototype_entropy": 2.484, "a.patch_answer_entropy": 2.48}
    assert "same prototype" in twice(same) and "centring" in twice(same)
    assert "Sinkhorn" in twice(same | {"label_entropy": 2.0})
    memory = {"a.patch_prototype_entropy": 0.1}  # what answers told before
    assert [symptom(alike, memory) for _ in range(4)] == [None] * 4, "a young network may be there for a while"
    assert "temperature" in symptom(alike, memory)
    assert all(symptom(alike, memory) is None for memory in [{}] for _ in range(9)), "they never told anything"
    assert twice({"prototype_entropy": 0.5, "answer_entropy": 0.0, "deviation": 0.3, "rank": 4.0}) is None
    fallen = {"spread": 0.1, "prototype_entropy": 2.4}
    assert "temperature" in twice(fallen | {"answer_entropy": 2.399}, {"spread": 0.6})
    assert "rate is too high" in twice(fallen, {"spread": 0.6}), "a task of one's own may log one entropy alone"


def test_a_sign_that_passes_is_no_collapse():
    memory = {}
    for value, sign in ((1.0, False), (0.1, True), (0.9, False), (0.15, True), (1.1, False)):
        assert symptom({"spread": value}, memory) is None and pending(memory) == sign
