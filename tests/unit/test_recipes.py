"""Recipes adapt to the data, and invalid configurations are refused with name and value."""

import math
from dataclasses import fields, replace

import pytest
import torch

from headway.errors import HeadwayError
from headway.metrics.training_metrics import batch_feature_std
from headway.nn.projection_heads import PrototypeHead
from headway.nn.teacher import center_momentum, teacher_momentum
from headway.pretext import TASKS
from headway.protocol import Batch, DataInfo, TrainingClock
from headway.rng import SampleRNG
from tests.errors import raises
from tests.small import make_images, small_backbone, small_train_module

WITH_TILES = ("relative_position", "jigsaw")
"""Tasks whose views have the side of a tile."""
WITH_TEACHER = [name for name, recipe in TASKS.items() if hasattr(recipe.task, "ema_horizon")]
CLOCK = TrainingClock(0, 10, 0.0)


def numeric():
    for name, recipe in TASKS.items():
        for field in fields(recipe.task):
            given = getattr(recipe.task, field.name)
            parts = given if isinstance(given, tuple) else (given,)
            if parts and all(isinstance(part, (int, float)) and not isinstance(part, bool) for part in parts):
                yield name, field.name, given


@pytest.mark.parametrize(("task", "field", "given"), list(numeric()))
def test_nan_is_refused_with_name_and_value(task, field, given):
    bad = (*given[:-1], math.nan) if isinstance(given, tuple) else math.nan
    with raises("value-out-of-range") as caught:
        replace(TASKS[task].task, **{field: bad})
    assert str(caught.value).startswith(f"{task} {field} must be ") and str(caught.value).endswith(f"; got {bad}")


def test_errors_name_the_valid_range():
    with raises("value-out-of-range", "mask_ratio", "1.5"):
        replace(TASKS["mae"].task, mask_ratio=1.5)
    with raises("value-out-of-range", "global_scale", "0.9", "0.3"):
        replace(TASKS["dino"].task, global_scale=(0.9, 0.3))
    with raises("value-out-of-range", "target_scale", "0.15", "0.9", "context_scale", "0.85", "1.0"):
        replace(TASKS["ijepa"].task, target_scale=(0.15, 0.9))


@pytest.mark.parametrize(("task", "field"), [("mae", "decoder_dim"), ("ijepa", "predictor_dim")])
@pytest.mark.parametrize(("dim", "advice"), [(30, "take 32"), (100, "take 96 or 128")])
def test_a_dim_that_is_no_multiple_of_the_head_dim_is_refused_with_advice(task, field, dim, advice):
    expected = f"^{task} {field} must be whole attention heads of 32; got {dim}, {advice}$"
    with pytest.raises(HeadwayError, match=expected):
        replace(TASKS[task].task, **{field: dim})


@pytest.mark.parametrize("task", [name for name in TASKS if name not in WITH_TILES])
@pytest.mark.parametrize(("count", "side"), [(200, 32), (50_000, 32), (200, 64)])
def test_recipes_work_on_few_and_on_many_small_images(task, count, side):
    recipe = TASKS[task]
    backbone = small_backbone(pool=recipe.pooling, side=side)
    images = make_images(4, side + 8)
    pretext_task = recipe.task.build(backbone, DataInfo(count, 3, lambda n: images[:n], side))
    views = pretext_task.make_views(Batch(images, torch.arange(4)), SampleRNG(0, torch.arange(4)))
    with torch.no_grad():
        assert torch.isfinite(pretext_task(backbone, views, CLOCK).loss)
    sides = {leaf.shape[-1] for leaf in torch.utils._pytree.tree_leaves(views) if getattr(leaf, "ndim", 0) == 4}
    assert sides <= {side, {32: 12, 64: 28}[side]}, "local crops have three sevenths of the side, in whole patches"
    expected = {200: (64, 37, 200), 50_000: (4096, 593, 50_000)}[count]
    if task in ("dino", "ibot", "dinov2"):
        assert pretext_task.head.prototypes.shape[0] == expected[0]
    elif task == "swav":
        assert pretext_task.prototypes.shape[0] == expected[1] and pretext_task.queue.shape[1] == expected[1]
    elif task == "diet":
        assert pretext_task.head.weight.shape[0] == expected[2]


def test_small_images_are_neither_blurred_nor_jittered_like_large_ones():
    small, large = (
        TASKS["simclr"].task.build(small_backbone(side=s), DataInfo(9, 3, make_images, s)) for s in (32, 64)
    )
    assert small.augment.blur_prob == 0 and large.augment.blur_prob == 0.5
    assert small.augment.brightness == pytest.approx(large.augment.brightness / 2)
    byol = TASKS["byol"].task.build(small_backbone(side=64), DataInfo(9, 3, make_images, 64)).augments
    assert [(augment.blur_prob, augment.solarize_prob) for augment in byol] == [(1.0, 0.0), (0.1, 0.2)]


@pytest.mark.parametrize("task", WITH_TEACHER)
def test_all_teachers_have_one_momentum_schedule(task):
    module = small_train_module(task).double()
    pretext_task, config = module.task, TASKS[task].task
    assert config.ema_horizon == (1 / 4 if task in ("data2vec", "ijepa") else 1 / 40)
    clock = TrainingClock(300, 1000, 0.0)
    start = min(config.momentum, 1 - 1 / (config.ema_horizon * 1000))
    expected = 1 - (1 - start) * (1 + math.cos(math.pi * 0.3)) / 2
    assert teacher_momentum(clock, config.momentum, config.ema_horizon) == pytest.approx(expected)
    assert teacher_momentum(TrainingClock(0, 10**7, 0.0), config.momentum, config.ema_horizon) == config.momentum
    assert teacher_momentum(TrainingClock(0, 1, 0.0), config.momentum, config.ema_horizon) == 0.0
    views = pretext_task.make_views(Batch(make_images(3), torch.arange(3)), SampleRNG(0, torch.arange(3)))
    step_stats = pretext_task(module.backbone, views, clock).step_stats
    before = pretext_task.teacher.network.norm.weight.clone()
    with torch.no_grad():
        module.backbone.norm.weight.add_(1.0)
        pretext_task.after_step(module.backbone, [step_stats], clock)
    assert torch.allclose(pretext_task.teacher.network.norm.weight - before, torch.full((16,), 1 - expected).double())


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
def test_center_momentum_follows_that_of_the_teacher(teacher, most, expected):
    assert center_momentum(teacher, most) == pytest.approx(expected)


def test_redundancy_costs_the_same_for_any_projection_dim():
    for dim in (512, 1024, 8192):
        config = replace(TASKS["barlow_twins"].task, projection_dim=dim)
        pretext_task = config.build(small_backbone(), DataInfo(9, 3, make_images, 16))
        assert pretext_task.redundancy_weight * dim == pytest.approx(0.0051 * 8192)


@pytest.mark.parametrize("hidden", [16, 512, 2048])
def test_a_small_prototype_head_keeps_the_scale_of_its_bottleneck(hidden):
    torch.manual_seed(0)
    head, seen = PrototypeHead(64, 8, hidden, 32), []
    head.linears[-1].register_forward_hook(lambda module, given, made: seen.append(made))
    head(torch.randn(16, 64))
    assert 0.1 < float(seen[0].detach().square().mean().sqrt()) < 2, (
        "scaling a vector near 0 to length 1 makes gradients explode"
    )


class Recorder(torch.nn.Module):
    """A backbone that records its outputs."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.outputs = backbone, []

    def forward(self, *args, **kwargs):
        self.outputs.append(self.backbone(*args, **kwargs))
        return self.outputs[-1]


@pytest.mark.parametrize("task", ["simclr", "moco_v3", "byol", "simsiam", "barlow_twins", "vicreg", "swav", "dino",
                                  "ibot", "dinov2", "lejepa", "diet"])  # fmt: skip
def test_feature_std_is_that_of_the_pooled_features_of_first_views(task):
    module = small_train_module(task)
    recorder = Recorder(module.backbone)
    views = module.task.make_views(Batch(make_images(5), torch.arange(5)), SampleRNG(0, torch.arange(5)))
    metrics = module.task(recorder, views, CLOCK).metrics
    assert metrics["feature_std"] == pytest.approx(float(batch_feature_std(recorder.outputs[0].pooled[:5])))
