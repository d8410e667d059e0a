"""Optimizer rules, schedules, durations, sizes and configs."""

import dataclasses

import pytest
import torch

from headway.backbones.input_size import choose_view_size, storage_side
from headway.config import NO_DECAY, Optim, Rule
from headway.data.dataset.channel_statistics import channel_statistics
from headway.data.dataset.subset import ImageSubset
from headway.errors import HeadwayError, unknown_name_error
from headway.pretext import TASKS, find_recipe
from headway.protocol import TrainingClock
from headway.schedule import cosine, warmup_cosine
from headway.train.config import PretrainConfig
from headway.train.engine.optimizer import load_state_by_name, make_optimizer, set_lr_and_weight_decay, state_by_name
from headway.train.plan import make_plan as planning
from headway.train.plan.autotune import steps_in_budget
from headway.utils.duration import parse_duration
from tests.errors import raises
from tests.small import make_images, small_train_module


def test_weight_decay_applies_to_matrices_and_not_to_vectors():
    module = small_train_module("dino")
    optimizer = make_optimizer(module, Optim())
    names = {id(p): name for name, p in module.named_parameters()}
    without_decay = {
        names[id(p)] for group in optimizer.param_groups if group["wd_scale"] == 0 for p in group["params"]
    }
    decayed = {names[id(p)] for group in optimizer.param_groups if group["wd_scale"] == 1 for p in group["params"]}
    assert {n for n, p in module.named_parameters() if p.requires_grad} == without_decay | decayed
    assert all(module.get_parameter(n).ndim > 1 for n in decayed)
    assert (
        "backbone.pos_embed" in without_decay
        and "backbone.class_token" in without_decay
        and "backbone.norm.weight" in without_decay
    )
    assert "backbone.blocks.0.attention.qkv.weight" in decayed or any("attention" in n for n in decayed)


def test_learning_rates_follow_the_clock_and_the_first_matching_rule():
    module = torch.nn.ModuleDict({"head": torch.nn.Linear(2, 2), "body": torch.nn.Linear(2, 2)})
    optim = Optim(
        lr=0.1,
        weight_decay=0.2,
        warmup_fraction=0.5,
        min_lr_ratio=0.0,
        rules=(Rule("head", lr_scale=3.0, wd_scale=0.5), *NO_DECAY),
    )
    optimizer = make_optimizer(module, optim)
    set_lr_and_weight_decay(optimizer, optim, 256, TrainingClock(0, 3, 0.0))  # a quarter through: half of the warm-up
    by_parameter = {id(p): g for g in optimizer.param_groups for p in g["params"]}
    assert by_parameter[id(module["head"].weight)]["lr"] == pytest.approx(0.15)
    assert by_parameter[id(module["head"].bias)]["weight_decay"] == pytest.approx(0.1)
    assert by_parameter[id(module["body"].weight)]["lr"] == pytest.approx(0.05)
    assert by_parameter[id(module["body"].bias)]["weight_decay"] == 0


def test_schedules():
    assert warmup_cosine(0.05, 0.1) == pytest.approx(0.5) and warmup_cosine(0.1, 0.1) == 1.0
    assert warmup_cosine(1.0, 0.1, 0.2) == pytest.approx(0.2) and warmup_cosine(0.0, 0.0) == 1.0
    assert cosine(0.5, 1.0, 0.0) == pytest.approx(0.5) and cosine(2.0, 1.0, 0.0) == pytest.approx(0.0)


def test_the_peak_grows_with_the_batch_size_then_with_its_square_root():
    assert Optim(lr=1.0).peak_lr(128) == 0.5 and Optim(lr=1.0).peak_lr(4096) == 8.0


@pytest.mark.parametrize(
    "bad", [{"lr": float("nan")}, {"lr": -1.0}, {"weight_decay": float("inf")}, {"warmup_fraction": 1.0}]
)
def test_optim_refuses_invalid_numbers(bad):
    with pytest.raises(HeadwayError, match=next(iter(bad))):
        Optim(**bad)


def test_optimizer_state_is_stored_by_name():
    first, second = small_train_module("rotation"), small_train_module("rotation", seed=1)
    optimizers = [make_optimizer(module, Optim()) for module in (first, second)]
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
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "soon", "-3s", "2d"])
def test_invalid_durations_are_refused(text):
    with raises("value-unreadable"):
        parse_duration(text)


def config(**choices):
    return PretrainConfig(task="rotation", recipe=TASKS["rotation"], **choices)


def test_sizes():
    assert choose_view_size(32) == (32, 4) and choose_view_size(64) == (64, 8) and choose_view_size(375) == (224, 16)
    assert choose_view_size(99) == (96, 16) and choose_view_size(500, size=96) == (96, 8)
    assert choose_view_size(64, backbone="timm:resnet18") == (64, 0)
    assert storage_side(375, 224, 1.5) == 336 and storage_side(240, 224, 1.5) == 240 and storage_side(20, 32, 1.5) == 32
    with raises("image-size"):
        choose_view_size(64, size=50)
    with raises("image-size"):
        choose_view_size(6)


@pytest.mark.parametrize("bad", [{"steps": 0}, {"epochs": float("nan")}, {"budget": -1.0}, {"steps": 3, "epochs": 2.0}])
def test_contradictory_configs_are_refused(bad):
    with pytest.raises(HeadwayError, match=next(iter(bad))):
        config(**bad)


def test_a_cached_number_of_steps_is_kept_while_it_fits_the_budget():
    assert (
        steps_in_budget(100, 1.0, None) == 100
        and steps_in_budget(100, 1.0, 97) == 97
        and steps_in_budget(100, 1.0, 80) == 100
    )
    assert steps_in_budget(-5, 1.0, None) == 1


@pytest.mark.parametrize("deep", [False, True])
def test_channel_statistics_are_those_of_all_values_at_once(deep):
    images = make_images(50)
    images = images[:, :1].float().div(255) * 1e-2 + 0.9 if deep else images
    found, values = channel_statistics(images), images.double() / (1 if deep else 255)
    assert found.channels == images.shape[1]
    assert found.mean == tuple(round(mean, 4) for mean in values.mean((0, 2, 3)).tolist())
    assert found.std == tuple(round(std, 4) for std in values.std((0, 2, 3)).tolist())


def test_channel_statistics_convert_few_images_at_a_time():
    images, asked = make_images(100), []

    class Watched(ImageSubset):
        def __getitem__(self, index):
            asked.append(len(index))
            return super().__getitem__(index)

    assert channel_statistics(Watched(images, torch.arange(100))) == channel_statistics(images)
    assert max(asked) <= 16 and sum(asked) == 100


def test_unknown_names_suggest_the_nearest():
    assert "did you mean rotation" in str(unknown_name_error("task", "rotatoin", TASKS))
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
    assert dataclasses.asdict(find_recipe("mine_for_test:MINE"))["batch_size"] == 256


@pytest.mark.parametrize(
    ("processes", "count", "batch", "steps"),
    [(1, 5000, 256, 100), (1, 5000, 64, 400), (1, 40, 40, 100), (1, 5000, 1024, 100), (8, 5000, 256, 800)],
)
def test_features_are_monitored_as_often_as_it_costs_little(processes, count, batch, steps, monkeypatch):
    monkeypatch.setattr(planning, "world_size", lambda: processes)
    assert planning.monitor_interval(count, batch) == steps
