"""What every task of TASKS must satisfy, and combinations of them as well."""

import dataclasses
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from headway.backbones.build import check_supports
from headway.nn.batch_norm import BatchNorm
from headway.pretext import TASKS, describe_task
from headway.protocol import Batch, PretextTask, TrainingClock
from headway.rng import SampleRNG
from headway.train.engine.step import check_batch_size
from tests.errors import raises
from tests.small import LARGE, SIDE, make_images, small_train_module

CLOCK = TrainingClock(0, 10, 0.0)
TASK_NAMES = [*TASKS, "rotation+mae", "dino+simmim", "simclr+data2vec"]
BATCH_COUPLED = {
    "simclr", "moco_v3", "byol", "simsiam", "barlow_twins", "vicreg", "swav", "dinov2", "lejepa",
}  # fmt: skip
"""Tasks whose loss of one image depends on the others in its batch, by their papers' formulas or batch norms."""
BACKBONES = ["vit", "timm:resnet10t"]


def batch_and_rng(module, count=6, seed=0, backbone="vit"):
    batch = Batch(make_images(count, side_for(backbone) + 8), torch.arange(count))
    return batch, SampleRNG(seed, torch.arange(count))


def side_for(backbone):
    return SIDE if backbone == "vit" else LARGE


def module_or_skip(task, backbone):
    try:
        module = small_train_module(task, backbone, side=side_for(backbone))
    except Exception as error:
        pytest.fail(f"{task} on {backbone}: {error}")
    if check_supports(module.backbone, module.task.requires):
        pytest.skip(f"{backbone} does not support {', '.join(module.task.requires)}, which {task} requires")
    return module


def tensors(tree):
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("task", TASK_NAMES)
def test_finite_and_every_trainable_parameter_gets_a_gradient(task, backbone):
    module = module_or_skip(task, backbone)
    outcome = module(*batch_and_rng(module, backbone=backbone), CLOCK)
    outcome.loss.backward()
    assert outcome.loss.shape == () and torch.isfinite(outcome.loss)
    assert all(torch.isfinite(value) and not value.requires_grad for value in outcome.metrics.values())
    without_gradient = [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert not without_gradient


@pytest.mark.parametrize("task", TASK_NAMES)
def test_views_depend_on_the_seed_and_leave_images_unchanged(task):
    module = small_train_module(task)
    batch, _ = batch_and_rng(module)
    before = batch.images.clone()
    repeats = [module.task.make_views(batch, SampleRNG(seed, torch.arange(6))) for seed in (3, 3, 4)]
    assert all(torch.equal(a, b) for a, b in zip(tensors(repeats[0]), tensors(repeats[1]), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(tensors(repeats[0]), tensors(repeats[2]), strict=True))
    assert torch.equal(batch.images, before)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_views_depend_on_the_stream_position_and_not_on_the_rest_of_the_batch(task):
    module = small_train_module(task)
    images, places = make_images(6), torch.arange(100, 106)
    whole = module.task.make_views(Batch(images, torch.arange(6)), SampleRNG(0, places))
    part = module.task.make_views(Batch(images[2:4], torch.arange(2, 4)), SampleRNG(0, places[2:4]))
    for everything, some in zip(tensors(whole), tensors(part), strict=True):
        rows = everything.reshape(-1, 6, *everything.shape[1:])[:, 2:4].flatten(0, 1)  # V*2, view-major
        assert torch.equal(rows, some)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("task", TASK_NAMES)
def test_forward_changes_only_the_statistics_of_batch_norms(task, backbone):
    module = module_or_skip(task, backbone)
    norms = {name for name, module in module.named_modules() if isinstance(module, BatchNorm)}
    saved = {**module.state_dict(), **dict(module.named_buffers())}  # weights, and buffers that are not saved
    before = {name: tensor.clone() for name, tensor in saved.items()}
    module(*batch_and_rng(module, backbone=backbone), CLOCK)
    changed = [name for name, tensor in saved.items() if not torch.equal(tensor, before[name])]
    assert all(name.rpartition(".")[0] in norms for name in changed)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_learns_under_bf16_with_a_float32_loss(task):
    module = small_train_module(task)
    with torch.autocast("cpu", torch.bfloat16):
        outcome = module(*batch_and_rng(module), CLOCK)
    outcome.loss.backward()
    assert outcome.loss.dtype == torch.float32 and torch.isfinite(outcome.loss)
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize("task", TASK_NAMES)
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_the_smallest_batches_are_finite_or_refused(task, count, half):
    module = small_train_module(task)
    if count < module.task.min_batch_size:
        with raises("value-out-of-range"):
            check_batch_size(module, count, grad_accum=1)
        return
    check_batch_size(module, count, grad_accum=1)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        outcome = module(*batch_and_rng(module, count), CLOCK)
    outcome.loss.backward()
    assert torch.isfinite(outcome.loss) and all(torch.isfinite(value) for value in outcome.metrics.values())
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_split_batches_are_refused_where_a_loss_compares_images():
    coupled = {task for task in TASKS if small_train_module(task).task.batch_coupled}
    min_sizes = {task: small_train_module(task).task.min_batch_size for task in TASKS}
    assert {task for task in TASKS if min_sizes[task] == 2} == coupled == BATCH_COUPLED
    assert set(min_sizes.values()) == {1, 2}
    for task in coupled:
        with raises("backbone-unsupported"):
            check_batch_size(small_train_module(task), 12, grad_accum=2)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_saves_and_loads(task, tmp_path):
    module = small_train_module(task)
    save_file({name: t.contiguous() for name, t in module.state_dict().items()}, tmp_path / "weights.safetensors")
    other = small_train_module(task, seed=1)
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(module(*batch_and_rng(module), CLOCK).loss, other(*batch_and_rng(other), CLOCK).loss)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_backbone_and_task_share_no_parameter(task):
    module = small_train_module(task)
    names = {name.partition(".")[0] for name in module.state_dict()}
    assert names <= {"backbone", "task"}
    assert not any(
        parameter is other for parameter in module.backbone.parameters() for other in module.task.parameters()
    )


@pytest.mark.parametrize("with_network", [False, True])
@pytest.mark.parametrize("task", TASK_NAMES)
def test_panels_show_the_samples(task, with_network):
    module = small_train_module(task).eval()
    batch, rng = batch_and_rng(module)
    with torch.no_grad():
        views = module.task.make_views(batch, rng)
        panels = module.task.visualize(batch, views, module.backbone if with_network else None)
    assert panels
    for panel in panels:
        assert panel.title and panel.images.shape[:1] == (6,) and panel.images.shape[1] in (1, 3)
        assert panel.images.dtype == torch.float32 and panel.images.min() >= 0 and panel.images.max() <= 1
        assert len(panel.captions) in (0, 6)


@pytest.mark.parametrize("task", TASKS)
def test_recipe_is_documented(task):
    recipe = TASKS[task]
    summary, paper, file = describe_task(recipe)
    assert re.fullmatch(r"https://(arxiv|doi)\.org/[\w./-]*\w", paper)
    assert summary and file.startswith("headway/pretext/")
    assert dataclasses.is_dataclass(recipe.task) and recipe.task.__dataclass_params__.frozen
    assert type(small_train_module(task).task).__mro__[1] is PretextTask, "a task is never subclassed"
