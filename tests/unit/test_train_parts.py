"""Optimizer rules, schedules, durations, sizes and configs."""

import dataclasses

import pytest
import torch

from headway.config import NO_DECAY, Optim, Rule
from headway.data.picked import Picked
from headway.errors import HeadwayError, unknown
from headway.pretext import TASKS, find_recipe
from headway.protocol import Clock
from headway.schedule import cosine, warmup_cosine
from headway.train import planning
from headway.train.choices import steps_for
from headway.train.job import Job, main_size, seconds_of, stored_side
from headway.train.optim import load_state_by_name, make_optimizer, set_rates, state_by_name
from headway.train.planning import channel_statistics
from tests.small import pictures, small_learner


def test_every_vector_is_spared_decay_and_every_matrix_is_not():
    learner = small_learner("dino")
    optimizer = make_optimizer(learner, Optim())
    names = {id(p): name for name, p in learner.named_parameters()}
    spared = {names[id(p)] for group in optimizer.param_groups if group["decay"] == 0 for p in group["params"]}
    decayed = {names[id(p)] for group in optimizer.param_groups if group["decay"] == 1 for p in group["params"]}
    assert {n for n, p in learner.named_parameters() if p.requires_grad} == spared | decayed
    assert all(learner.get_parameter(n).ndim > 1 for n in decayed)
    assert "backbone.positions" in spared and "backbone.class_token" in spared and "backbone.norm.weight" in spared
    assert "backbone.blocks.0.attention.qkv.weight" in decayed or any("attention" in n for n in decayed)


def test_rates_follow_clock_and_first_matching_rule():
    module = torch.nn.ModuleDict({"head": torch.nn.Linear(2, 2), "body": torch.nn.Linear(2, 2)})
    optim = Optim(lr=0.1, weight_decay=0.2, warmup=0.5, final=0.0, rules=(Rule("head", rate=3.0, decay=0.5), *NO_DECAY))
    optimizer = make_optimizer(module, optim)
    set_rates(optimizer, optim, 256, Clock(0, 3, 0.0))  # a quarter through: half of the warm-up
    by_parameter = {id(p): g for g in optimizer.param_groups for p in g["params"]}
    assert by_parameter[id(module["head"].weight)]["lr"] == pytest.approx(0.15)
    assert by_parameter[id(module["head"].bias)]["weight_decay"] == pytest.approx(0.1)
    assert by_parameter[id(module["body"].weight)]["lr"] == pytest.approx(0.05)
    assert by_parameter[id(module["body"].bias)]["weight_decay"] == 0


def test_schedules():
    assert warmup_cosine(0.05, 0.1) == pytest.approx(0.5) and warmup_cosine(0.1, 0.1) == 1.0
    assert warmup_cosine(1.0, 0.1, 0.2) == pytest.approx(0.2) and warmup_cosine(0.0, 0.0) == 1.0
    assert cosine(0.5, 1.0, 0.0) == pytest.approx(0.5) and cosine(2.0, 1.0, 0.0) == pytest.approx(0.0)


def test_peak_grows_with_the_batch_then_with_its_root():
    assert Optim(lr=1.0).peak(128) == 0.5 and Optim(lr=1.0).peak(4096) == 8.0


@pytest.mark.parametrize("bad", [{"lr": float("nan")}, {"lr": -1.0}, {"weight_decay": float("inf")}, {"warmup": 1.0}])
def test_optim_refuses_numbers_that_are_none(bad):
    with pytest.raises(HeadwayError, match=next(iter(bad))):
        Optim(**bad)


def test_moments_travel_by_name():
    first, second = small_learner("rotation"), small_learner("rotation", seed=1)
    optimizers = [make_optimizer(learner, Optim()) for learner in (first, second)]
    for p in first.parameters():
        p.grad = torch.ones_like(p)
    optimizers[0].step()
    moments = state_by_name(first, optimizers[0])
    load_state_by_name(second, optimizers[1], moments)
    again = state_by_name(second, optimizers[1])
    assert again.keys() == moments.keys() and all(torch.equal(again[k], moments[k]) for k in moments)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("2m", 120), ("1h30m", 5400), ("15", 15), (4, 4), ("1.5m", 90)]
)
def test_durations(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "soon", "-3s", "2d"])
def test_durations_that_are_none(text):
    with pytest.raises(HeadwayError, match="duration"):
        seconds_of(text)


def job(**choices):
    return Job(task="rotation", recipe=TASKS["rotation"], **choices)


def test_sizes():
    assert main_size(32, job()) == (32, 4) and main_size(64, job()) == (64, 8) and main_size(375, job()) == (224, 16)
    assert main_size(99, job()) == (96, 16) and main_size(500, job(size=96)) == (96, 8)
    assert main_size(64, job(backbone="timm:resnet18")) == (64, 0)
    assert stored_side(375, 224, 1.5) == 336 and stored_side(240, 224, 1.5) == 240 and stored_side(20, 32, 1.5) == 32
    with pytest.raises(HeadwayError, match="multiple"):
        main_size(64, job(size=50))
    with pytest.raises(HeadwayError, match="2 x 2"):
        main_size(6, job())


@pytest.mark.parametrize("bad", [{"steps": 0}, {"epochs": float("nan")}, {"budget": -1.0}, {"steps": 3, "epochs": 2.0}])
def test_jobs_that_cannot_be(bad):
    with pytest.raises(HeadwayError, match=next(iter(bad))):
        job(**bad)


def test_budgets_keep_their_steps_while_they_fit():
    assert steps_for(100, 1.0, None) == 100 and steps_for(100, 1.0, 97) == 97 and steps_for(100, 1.0, 80) == 100
    assert steps_for(-5, 1.0, None) == 1


@pytest.mark.parametrize("deep", [False, True])
def test_channel_statistics_are_those_of_all_values_at_once(deep):
    images = pictures(50)
    images = images[:, :1].float().div(255) * 1e-2 + 0.9 if deep else images
    found, values = channel_statistics(images), images.double() / (1 if deep else 255)
    assert found.channels == images.shape[1]
    assert found.mean == tuple(round(mean, 4) for mean in values.mean((0, 2, 3)).tolist())
    assert found.std == tuple(round(std, 4) for std in values.std((0, 2, 3)).tolist())


def test_few_pictures_at_a_time_are_widened_for_channel_statistics():
    images, asked = pictures(100), []

    class Watched(Picked):
        def __getitem__(self, index):
            asked.append(len(index))
            return super().__getitem__(index)

    assert channel_statistics(Watched(images, torch.arange(100))) == channel_statistics(images)
    assert max(asked) <= 16 and sum(asked) == 100


def test_unknown_names_suggest_the_nearest():
    assert "did you mean rotation" in str(unknown("task", "rotatoin", TASKS))
    for bad in ("rotatoin", "a+b", "no_such_module:RECIPE", "json:dumps"):
        with pytest.raises(HeadwayError):
            find_recipe(bad)


def test_own_recipes_by_module_and_name(tmp_path, monkeypatch):
    (tmp_path / "mine_for_test.py").write_text(
        "from headway.config import Recipe\n"
        "from headway.pretext.rotation import Rotation\n"
        "MINE = Recipe(task=Rotation())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert dataclasses.asdict(find_recipe("mine_for_test:MINE"))["batch"] == 256


@pytest.mark.parametrize(
    ("processes", "count", "batch", "steps"),
    [(1, 5000, 256, 100), (1, 5000, 64, 400), (1, 40, 40, 100), (1, 5000, 1024, 100), (8, 5000, 256, 800)],
)
def test_features_are_looked_at_as_often_as_it_costs_little(processes, count, batch, steps, monkeypatch):
    monkeypatch.setattr(planning, "world", lambda: processes)
    assert planning.between_looks(count, batch) == steps
