"""Collapse that is provoked on small synthetic images is detected within 200 steps, with its cause.

A teacher that copies the student at once but gets no gradient (the case of SimSiam) does not collapse data2vec, I-JEPA
or MoCo v3 in so few steps. There the student predicts its own features, and the gradient flows through both sides.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from headway.config import Optim
from headway.metrics.collapse_detection import detect_collapse, has_pending_sign
from headway.nn.numerics import cosine_similarity
from headway.pretext import TASKS, byol, data2vec, ijepa, moco_v3, simclr, simsiam
from headway.protocol import DataInfo, TrainModule
from headway.rng import seeded
from headway.synthetic import DrawnAnimals
from headway.train.config import Plan
from headway.train.log.events import FeatureStats, Note
from headway.train.loop import loop
from headway.train.loop.context import Observers
from headway.train.loop.feature_monitor import make_feature_monitor
from headway.train.loop.loop import fit
from headway.train.run_dir.checkpoint import load_latest, step_folders
from tests.errors import raises
from tests.small import SIDE, SMALL_CONFIGS, make_images, max_difference, small_backbone, small_train_module

COUNT = 64
RATES = {"dino": 0.005, "ibot": 0.005, "dinov2": 0.005, "swav": 0.01}
"""Learning rates of tasks with prototypes; 0.03 for the others."""
EMA_HORIZONS = {"dino": 0.25, "ibot": 0.25, "dinov2": 0.25}
"""For healthy teachers of so short a run: a fortieth of it would be a step or two."""


def without_stop_gradient(predictions, projections):
    return -cosine_similarity(predictions, projections).mean()


def without_negatives(first, second, temperature, sample_index):
    """Attraction of positives alone."""
    return -cosine_similarity(first, second).mean(), torch.tensor(0.0)


def without_teacher(task_class):
    """A task's ``forward`` with the student in place of the EMA teacher, with gradient."""
    original = task_class.forward

    def forward(self, backbone, views, clock):
        teachers = {name: part for name, part in self._modules.items() if name.startswith("teacher")}
        for name in teachers:
            self._modules[name] = backbone if name == "teacher" else self._modules[name.removeprefix("teacher_")]
        try:
            return original(self, backbone, views, clock)
        finally:
            self._modules.update(teachers)

    return task_class, "forward", forward


class Fault(NamedTuple):
    """A defect (fields of the config or patches), the steps within which it is detected, and the expected message."""

    task: str
    steps: int
    message: str
    options: dict = {}
    patches: tuple = ()
    lr: float | None = None
    seed: int = 0


FAULTS = {
    "no stop-gradient": Fault(
        "simsiam", 100, "gradient is not stopped", {}, ((simsiam, "negative_cosine", without_stop_gradient),), 0.15, 6
    ),
    "no stop-gradient, no teacher": Fault("byol", 60, "gradient is not stopped", {}, (without_teacher(byol.BYOLTask),)),
    "no negatives": Fault("simclr", 40, "negatives are missing", {}, ((simclr, "nt_xent", without_negatives),)),
    "no negatives, no teacher": Fault(
        "moco_v3", 190, "negatives are missing", {},
        (without_teacher(moco_v3.MoCoV3Task), (moco_v3, "info_nce", without_negatives)), 0.06,
    ),
    "no redundancy term": Fault("barlow_twins", 140, "redundancy term is missing", {"redundancy_weight": 0.0}),
    "no variance term": Fault("vicreg", 80, "variance term is missing", {"variance_weight": 0.0}),
    "no test for a Gaussian": Fault("lejepa", 60, "Gaussian is missing", {"sigreg_weight": 0.0}),
    "no balance in SwAV": Fault("swav", 80, "(Sinkhorn) is missing", {"sinkhorn_iterations": 0}),
    "no balance in DINOv2": Fault(
        "dinov2", 80, "(Sinkhorn) is missing", {"sinkhorn_iterations": 0, "koleo_weight": 0.0}
    ),
    "no centering in DINO": Fault("dino", 60, "same prototype; likely the centering", {"center_momentum": 1.0}),
    "no centering in iBOT": Fault(
        "ibot", 60, "same prototype; likely the centering", {"center_momentum": 1.0}, (), 0.02
    ),
    "soft targets": Fault(
        "dino", 160, "temperature is too high", {"teacher_temperature": (0.5, 0.5)}, (), 0.03
    ),
    "no teacher in data2vec": Fault(
        "data2vec", 50, "teacher is not a slow average", {}, (without_teacher(data2vec.Data2VecTask),)
    ),
    "no teacher in I-JEPA": Fault(
        "ijepa", 50, "teacher is not a slow average", {}, (without_teacher(ijepa.IJEPATask),)
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def animals():
    source = DrawnAnimals(COUNT, 32)
    return torch.stack([source.image(number) for number in range(COUNT)])


def run(task, images, steps, *, lr=None, seed=0, folder=None, on_collapse="warn", **options):
    """The events of a run."""
    recipe = TASKS[task]
    config = replace(recipe.task, **{**SMALL_CONFIGS.get(task, {}), **options})
    with seeded(seed):
        network = small_backbone("vit", recipe.pooling)
        module = TrainModule(network, config.build(network, DataInfo(COUNT, 3, lambda n: images[:n], SIDE)))
    every = {"log_every": 10, "monitor_every": 50, "save_every": 20}
    plan = Plan(steps=steps, batch_size=32, on_collapse=on_collapse, **every)
    optim = Optim(lr=lr or RATES.get(task, 0.03), warmup_fraction=0.05, betas=recipe.optim.betas)
    events = []
    monitor = make_feature_monitor(images, SIDE)
    fit(module, images, plan, optim, observers=Observers([events.append], feature_monitor=monitor), run=folder)
    return events


def collapse_notes(events):
    return [event.text for event in events if isinstance(event, Note) and "collapse" in event.text]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_provoked_collapse_is_detected_and_its_cause_named(name, animals, monkeypatch):
    fault = FAULTS[name]
    for patch in fault.patches:
        monkeypatch.setattr(*patch)
    (text,) = collapse_notes(run(fault.task, animals, fault.steps, lr=fault.lr, seed=fault.seed, **fault.options))
    assert fault.message in text


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted({fault.task for fault in FAULTS.values()}))
def test_healthy_runs_raise_no_alarm(task, animals):
    steps = max(fault.steps for fault in FAULTS.values() if fault.task == task)
    events = run(task, animals, steps, **({"ema_horizon": EMA_HORIZONS[task]} if task in EMA_HORIZONS else {}))
    assert collapse_notes(events) == []
    stats = [event for event in events if isinstance(event, FeatureStats)]
    assert {event.step for event in stats} == {*range(0, steps, 50), steps}
    assert all(set(event.features) == {"effective_rank", "std", "alignment", "uniformity"} for event in stats)


READINGS = json.loads(Path(__file__).with_name("readings_on_photographs.json").read_text(encoding="utf-8"))
"""Logs of runs of 100 s on CIFAR-10: vit_micro, convolutional stem, one core. DINO's assignments had become uniform."""


@pytest.mark.parametrize("task", READINGS)
def test_logs_of_runs_on_photographs(task):
    history = {}
    messages = [text for metrics in READINGS[task] if (text := detect_collapse(metrics, history))]
    assert bool(messages) == (task == "dino"), messages[:1]


def test_collapse_stops_the_run_on_request(animals):
    with raises("training-failed", "--on-collapse"):
        run("vicreg", animals, 80, variance_weight=0.0, on_collapse="stop")


def test_collapse_rolls_back_on_request_and_gives_up_at_last(animals, tmp_path):
    with raises("training-failed"):
        run("vicreg", animals, 80, variance_weight=0.0, on_collapse="rollback", folder=tmp_path)
    assert load_latest(tmp_path)[0].state["step"] < 80


@pytest.fixture
def collapsing(monkeypatch):
    """Runs of 20 steps, saved every 2nd and monitored every 4th, whose features show a sign from step 8 on.

    After a rollback they show none. ``collapsing(folder, kill=(step, lr_factor))`` returns the weights and the notes.
    """
    now, original = {}, loop._train_step_in_memory

    def step(context, progress, *rest):
        now.update(progress=progress)
        if (progress.step, progress.lr_factor) == now["kill"]:
            raise KeyboardInterrupt
        return original(context, progress, *rest)

    def monitor(backbone):
        progress = now.get("progress")
        return {"effective_rank": 1.0 if progress and progress.step >= 8 and progress.lr_factor == 1.0 else 4.0}

    def collapsing(folder, kill=None, resume=False, stop_after=None):
        now.clear()
        now.update(kill=kill)
        module, events = small_train_module("rotation"), []
        plan = Plan(steps=20, batch_size=12, save_every=2, log_every=2, monitor_every=4, on_collapse="rollback")
        fit(
            module, make_images(), plan, Optim(lr=0.02, warmup_fraction=0.1), run=folder, resume=resume,
            observers=Observers([events.append], feature_monitor=monitor), stop_after=stop_after,
        )  # fmt: skip
        notes = [event.text for event in events if isinstance(event, Note)]
        return {name: tensor.clone() for name, tensor in module.state_dict().items()}, notes

    monkeypatch.setattr(loop, "_train_step_in_memory", step)
    return collapsing


COLLAPSE = "collapse at step 12: the effective rank of the features is 1.00"


def test_a_rollback_goes_to_before_the_first_sign(collapsing, tmp_path):
    (note,) = collapsing(tmp_path)[1]
    assert COLLAPSE in note and "back to step 6, at 0.5 times" in note, "those of 8 and 10 contain the first sign"
    assert [folder.name for folder in step_folders(tmp_path)] == ["00000018", "00000020"]
    assert load_latest(tmp_path)[0].state["rollbacks"] == 1


@pytest.mark.parametrize("kill", [(7, 1.0), (9, 1.0), (11, 1.0), (6, 0.5), (7, 0.5), (13, 0.5)])
def test_a_kill_around_the_rollback_ends_in_the_same_bits(kill, collapsing, tmp_path):
    whole, expected = collapsing(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        collapsing(tmp_path / "cut", kill=kill)
    weights, notes = collapsing(tmp_path / "cut", resume=True)
    assert max_difference(whole, weights) == 0.0 and notes == ([] if kill == (13, 0.5) else expected)
    assert load_latest(tmp_path / "cut")[0].state == load_latest(tmp_path / "whole")[0].state


def test_no_rollback_to_a_stop_amid_signs(collapsing, tmp_path):
    whole, expected = collapsing(tmp_path / "whole")
    collapsing(tmp_path / "cut", stop_after=9)
    assert load_latest(tmp_path / "cut")[0].state["step"] == 9
    weights, notes = collapsing(tmp_path / "cut", resume=True)
    assert notes == expected and max_difference(whole, weights) == 0.0


def test_a_rollback_removes_later_checkpoints(collapsing, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        collapsing(tmp_path, kill=(6, 0.5))
    assert [folder.name for folder in step_folders(tmp_path)] == ["00000006"]


def test_a_run_with_intermittent_signs_is_saved_all_the_same(tmp_path):
    ranks = iter([1.0, 4.0] * 10)  # whenever it is saved
    plan = Plan(steps=18, batch_size=12, save_every=2, monitor_every=1, on_collapse="rollback")
    fit(
        small_train_module("rotation"),
        make_images(),
        plan,
        Optim(),
        run=tmp_path,
        observers=Observers(feature_monitor=lambda backbone: {"effective_rank": next(ranks)}),
    )
    assert [folder.name for folder in step_folders(tmp_path)] == ["00000000", "00000016", "00000018"]
    assert load_latest(tmp_path)[0].state["rollbacks"] == 0


def test_monitoring_changes_nothing(animals):
    def weights(monitor):
        with seeded(0):
            network = small_backbone(drop_path=0.2)
            task = TASKS["rotation"].task.build(network, DataInfo(COUNT, 3, lambda n: animals[:n], SIDE))
        module = TrainModule(network, task)
        fit(
            module,
            animals,
            Plan(steps=4, batch_size=16, monitor_every=1),
            Optim(),
            observers=Observers(feature_monitor=monitor),
        )
        return module.state_dict()

    monitored, plain = weights(make_feature_monitor(animals, SIDE)), weights(None)
    assert all(torch.equal(monitored[name], plain[name]) for name in plain)


def twice(metrics, before=()):
    """The message at the second reading in a row."""
    history = dict(before)
    assert detect_collapse(metrics, history) is None
    return detect_collapse(metrics, history)


def test_detectors_name_the_cause_in_combinations_too():
    healthy = {"loss": 1.0, "accuracy": 0.1, "simsiam.feature_std": 0.9, "simsiam.cosine": 0.1}
    history = {}
    assert detect_collapse(healthy, history) is None
    assert "not stopped" in twice({"simsiam.feature_std": 0.15, "simsiam.cosine": 0.9}, history)
    assert "negatives" in twice({"feature_std": 0.15, "contrastive_top1": 0.1}, {"feature_std": 0.9})
    distinct = {"contrastive_top1": 0.1, "target_std": 0.9}
    assert twice({"feature_std": 0.1, **distinct}, {"feature_std": 0.9}) is None, (
        "features may share a part that the projector subtracts"
    )
    for others in ({"coordinate_std": 0.5}, {"redundancy": 0.2}, {"marginal_entropy": 6.3, "assignment_entropy": 6.1}):
        assert twice({"feature_std": 0.1, **others}, {"feature_std": 0.9}) is None, (
            "nor where other metrics tell images apart"
        )
    assert "negatives" in twice(
        {"feature_std": 0.4, **distinct, "target_std": 0.3}, {"feature_std": 0.9, "target_std": 0.9}
    )
    assert "rate" in twice({"feature_std": 0.15, "dino.contrastive_top1": 0.1}, {"feature_std": 0.9})
    assert twice({"feature_std": 0.2}, {"feature_std": 0.9}) is None, "a linear probe subtracts what all features share"
    assert twice({"target_std": 0.5}, {"target_std": 0.9}) is None
    leaking, history = {"target_std": 0.55, "cosine": 0.9}, {"target_std": 0.99}
    assert [detect_collapse(leaking, history) for _ in range(4)] == [None] * 4, (
        "SimSiam's targets may dip early in training"
    )
    assert (
        "predictor" in detect_collapse(leaking, history) and twice({"target_std": 0.65, "cosine": 0.9}, history) is None
    )
    assert "variance term" in twice({"a.coordinate_std": 0.01}) and "Gaussian" in twice(
        {"coordinate_std": 0.01, "sigreg": 4.0}
    )
    assert "one way" in twice({"effective_rank": 1.1}) and "rate" in twice({"effective_rank": 1.1})
    assert "standard deviation of the features" in twice({"std": 0.015, "effective_rank": 4.0}, {"std": 0.6})
    assert twice({"std": 0.015}) is None and twice({"std": 0.05}, {"std": 0.6}) is None
    assert "redundancy term" in twice({"redundancy": 0.6}, {"redundancy": 0.2})
    assert twice({"redundancy": 0.6}) is None, "high from the beginning, but not rising"


def test_two_kinds_of_prototype_collapse():
    one_prototype = {"marginal_entropy": 0.01, "assignment_entropy": 0.01}
    uniform = {"a.patch_marginal_entropy": 2.484, "a.patch_assignment_entropy": 2.48}
    assert "same prototype" in twice(one_prototype) and "centering" in twice(one_prototype)
    assert "Sinkhorn" in twice(one_prototype | {"target_entropy": 2.0})
    history = {"a.patch_marginal_entropy": 0.1}  # the information that assignments had before
    assert [detect_collapse(uniform, history) for _ in range(4)] == [None] * 4, (
        "a young network may pass through this state"
    )
    assert "temperature" in detect_collapse(uniform, history)
    assert all(detect_collapse(uniform, history) is None for history in [{}] for _ in range(9)), (
        "assignments never carried information"
    )
    assert (
        twice({"marginal_entropy": 0.5, "assignment_entropy": 0.0, "coordinate_std": 0.3, "effective_rank": 4.0})
        is None
    )
    fallen = {"feature_std": 0.1, "marginal_entropy": 2.4}
    assert "temperature" in twice(fallen | {"assignment_entropy": 2.399}, {"feature_std": 0.6})
    assert "rate is too high" in twice(fallen, {"feature_std": 0.6}), "a custom task may log one entropy alone"


def test_an_intermittent_sign_is_no_collapse():
    history = {}
    for value, sign in ((1.0, False), (0.1, True), (0.9, False), (0.15, True), (1.1, False)):
        assert detect_collapse({"feature_std": value}, history) is None and has_pending_sign(history) == sign
