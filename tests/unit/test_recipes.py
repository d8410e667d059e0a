"""Recipes follow the data by their rules, and choices that mean nothing are refused by name and value."""

import math
from dataclasses import fields, replace

import pytest
import torch

from headway.draws import Draws
from headway.errors import HeadwayError
from headway.measure.health import spread
from headway.nn.heads import PrototypeHead
from headway.nn.teacher import centre_momentum, teacher_momentum
from headway.pretext import TASKS
from headway.protocol import Batch, Clock, Facts
from tests.small import pictures, small_backbone, small_learner

MODERN = ["simclr", "moco_v3", "byol", "simsiam", "barlow_twins", "vicreg", "swav", "dino", "ibot", "dinov2", "mae"]
MODERN += ["simmim", "ijepa", "data2vec", "lejepa", "diet"]
CLOCK = Clock(0, 10, 0.0)


def numeric():
    for name, recipe in TASKS.items():
        for field in fields(recipe.task):
            given = getattr(recipe.task, field.name)
            parts = given if isinstance(given, tuple) else (given,)
            if parts and all(isinstance(part, (int, float)) and not isinstance(part, bool) for part in parts):
                yield name, field.name, given


@pytest.mark.parametrize(("task", "field", "given"), list(numeric()))
def test_what_is_no_number_is_refused_by_name_and_value(task, field, given):
    bad = (*given[:-1], math.nan) if isinstance(given, tuple) else math.nan
    with pytest.raises(HeadwayError) as caught:
        replace(TASKS[task].task, **{field: bad})
    assert str(caught.value).startswith(f"{task} {field} must be ") and str(caught.value).endswith(f"; got {bad}")


def test_bounds_name_what_may_be():
    with pytest.raises(HeadwayError, match=r"^mae ratio must be above 0 and below 1; got 1.5$"):
        replace(TASKS["mae"].task, ratio=1.5)
    with pytest.raises(HeadwayError, match=r"^dino large_scale must be .* from low to high; got \(0.9, 0.3\)$"):
        replace(TASKS["dino"].task, large_scale=(0.9, 0.3))
    with pytest.raises(HeadwayError, match=r"got target_scale \(0.15, 0.9\) and context_scale \(0.85, 1.0\)"):
        replace(TASKS["ijepa"].task, target_scale=(0.15, 0.9))


@pytest.mark.parametrize("task", ["mae", "ijepa"])
@pytest.mark.parametrize(("width", "advice"), [(30, "take 32"), (100, "take 96 or 128")])
def test_a_width_of_broken_attention_heads_is_refused_with_advice(task, width, advice):
    with pytest.raises(
        HeadwayError, match=f"^{task} width must be whole attention heads of 32; got {width}, {advice}$"
    ):
        replace(TASKS[task].task, width=width)


@pytest.mark.parametrize("task", MODERN)
@pytest.mark.parametrize(("count", "side"), [(200, 32), (50_000, 32), (200, 64)])
def test_recipes_play_on_few_and_on_many_small_pictures(task, count, side):
    recipe = TASKS[task]
    backbone = small_backbone(pool=recipe.pool, side=side)
    images = pictures(4, side + 8)
    game = recipe.task.build(backbone, Facts(count, 3, lambda n: images[:n], side))
    views = game.views(Batch(images, torch.arange(4)), Draws(0, torch.arange(4)))
    with torch.no_grad():
        assert torch.isfinite(game(backbone, views, CLOCK).loss)
    sides = {leaf.shape[-1] for leaf in torch.utils._pytree.tree_leaves(views) if getattr(leaf, "ndim", 0) == 4}
    assert sides <= {side, {32: 12, 64: 28}[side]}, "small crops have three sevenths of the side, in whole patches"
    expected = {200: (64, 37, 200), 50_000: (4096, 593, 50_000)}[count]
    if task in ("dino", "ibot", "dinov2"):
        assert game.head.prototypes.shape[0] == expected[0]
    elif task == "swav":
        assert game.prototypes.shape[0] == expected[1] and game.queue.shape[1] == expected[1]
    elif task == "diet":
        assert game.head.weight.shape[0] == expected[2]


def test_small_pictures_are_not_blurred_nor_jittered_as_large_ones():
    small, large = (TASKS["simclr"].task.build(small_backbone(side=s), Facts(9, 3, pictures, s)) for s in (32, 64))
    assert small.augment.blur == 0 and large.augment.blur == 0.5
    assert small.augment.brightness == pytest.approx(large.augment.brightness / 2)
    byol = TASKS["byol"].task.build(small_backbone(side=64), Facts(9, 3, pictures, 64)).augments
    assert [(kind.blur, kind.solarise) for kind in byol] == [(1.0, 0.0), (0.1, 0.2)]


@pytest.mark.parametrize("task", ["byol", "moco_v3", "dino", "ibot", "dinov2", "data2vec", "ijepa"])
def test_one_rule_says_how_slow_a_teacher_is(task):
    learner = small_learner(task).double()
    game, config = learner.task, TASKS[task].task
    assert config.memory == (1 / 4 if task in ("data2vec", "ijepa") else 1 / 40)
    clock = Clock(300, 1000, 0.0)
    start = min(config.momentum, 1 - 1 / (config.memory * 1000))
    expected = 1 - (1 - start) * (1 + math.cos(math.pi * 0.3)) / 2
    assert teacher_momentum(clock, config.momentum, config.memory) == pytest.approx(expected)
    assert teacher_momentum(Clock(0, 10**7, 0.0), config.momentum, config.memory) == config.momentum
    assert teacher_momentum(Clock(0, 1, 0.0), config.momentum, config.memory) == 0.0
    views = game.views(Batch(pictures(3), torch.arange(3)), Draws(0, torch.arange(3)))
    carry = game(learner.backbone, views, clock).carry
    before = game.teacher.network.norm.weight.clone()
    with torch.no_grad():
        learner.backbone.norm.weight.add_(1.0)
        game.after_step(learner.backbone, [carry], clock)
    assert torch.allclose(game.teacher.network.norm.weight - before, torch.full((16,), 1 - expected).double())


@pytest.mark.parametrize(
    "teacher, most, expected",
    [
        (0.996, 0.9, 0.9),
        (0.98, 0.9, 0.5),
        (0.885, 0.9, 0.0),
        (0.0, 0.9, 0.0),
        (1.0, 0.9, 0.9),
        (0.98, 0.3, 0.3),
        (0, 1, 1),
    ],
)
def test_a_centre_keeps_ahead_of_its_teacher(teacher, most, expected):
    assert centre_momentum(teacher, most) == pytest.approx(expected)


def test_redundancy_costs_the_same_whatever_the_width():
    for width in (512, 1024, 8192):
        config = replace(TASKS["barlow_twins"].task, projection=width)
        game = config.build(small_backbone(), Facts(9, 3, pictures, 16))
        assert game.redundancy * width == pytest.approx(0.0051 * 8192)


@pytest.mark.parametrize("hidden", [16, 512, 2048])
def test_a_narrow_prototype_head_keeps_its_bottleneck_alive(hidden):
    torch.manual_seed(0)
    head, seen = PrototypeHead(64, 8, hidden, 32), []
    head.linears[-1].register_forward_hook(lambda module, given, made: seen.append(made))
    head(torch.randn(16, 64))
    assert 0.1 < float(seen[0].detach().square().mean().sqrt()) < 2, (
        "a vector near 0, scaled to length 1, blows gradients up"
    )


class Watched(torch.nn.Module):
    """A backbone that keeps what it says."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.said = backbone, []

    def forward(self, *args, **kwargs):
        self.said.append(self.backbone(*args, **kwargs))
        return self.said[-1]


@pytest.mark.parametrize("task", ["simclr", "moco_v3", "byol", "simsiam", "barlow_twins", "vicreg", "swav", "dino",
                                  "ibot", "dinov2", "lejepa", "diet"])  # fmt: skip
def test_spread_is_that_of_the_pooled_features_of_first_views(task):
    learner = small_learner(task)
    watched = Watched(learner.backbone)
    views = learner.task.views(Batch(pictures(5), torch.arange(5)), Draws(0, torch.arange(5)))
    metrics = learner.task(watched, views, CLOCK).metrics
    assert metrics["spread"] == pytest.approx(float(spread(watched.said[0].pooled[:5])))
