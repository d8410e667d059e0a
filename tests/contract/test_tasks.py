"""What every member of TASKS must hold to, whatever it plays, and combinations of them as well."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file

from headway.backbones.load import missing
from headway.draws import Draws
from headway.errors import HeadwayError
from headway.nn.batch_norm import BatchNorm
from headway.pretext import TASKS, source_of
from headway.protocol import Batch, Clock, PretextTask
from headway.train.step import check_batch
from tests.small import LARGE, SIDE, pictures, small_learner

CLOCK = Clock(0, 10, 0.0)
GAMES = [*TASKS, "rotation+mae", "dino+simmim", "simclr+data2vec"]
COMPARING = {
    "simclr", "moco_v3", "byol", "simsiam", "barlow_twins", "vicreg", "swav", "dinov2", "lejepa",
}  # fmt: skip
"""Games whose loss of one picture depends on the others in its batch, by their papers' formulas or batch norms."""
BACKBONES = ["vit", "timm:resnet10t"]


def deal(learner, count=6, seed=0, backbone="vit"):
    batch = Batch(pictures(count, side_for(backbone) + 8), torch.arange(count))
    return batch, Draws(seed, torch.arange(count))


def side_for(backbone):
    return SIDE if backbone == "vit" else LARGE


def learner_or_skip(task, backbone):
    try:
        learner = small_learner(task, backbone, side=side_for(backbone))
    except Exception as fault:
        pytest.fail(f"{task} on {backbone}: {fault}")
    if missing(learner.backbone, learner.task.needs):
        pytest.skip(f"{backbone} cannot {', '.join(learner.task.needs)}, which {task} needs")
    return learner


def tensors(tree):
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("task", GAMES)
def test_finite_and_every_trainable_parameter_gets_a_gradient(task, backbone):
    learner = learner_or_skip(task, backbone)
    outcome = learner(*deal(learner, backbone=backbone), CLOCK)
    outcome.loss.backward()
    assert outcome.loss.shape == () and torch.isfinite(outcome.loss)
    assert all(torch.isfinite(value) and not value.requires_grad for value in outcome.metrics.values())
    bare = [name for name, p in learner.named_parameters() if p.requires_grad and p.grad is None]
    assert not bare


@pytest.mark.parametrize("task", GAMES)
def test_same_draws_same_views_and_views_leave_pictures_alone(task):
    learner = small_learner(task)
    batch, _ = deal(learner)
    before = batch.images.clone()
    deals = [learner.task.views(batch, Draws(seed, torch.arange(6))) for seed in (3, 3, 4)]
    assert all(torch.equal(a, b) for a, b in zip(tensors(deals[0]), tensors(deals[1]), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(tensors(deals[0]), tensors(deals[2]), strict=True))
    assert torch.equal(batch.images, before)


@pytest.mark.parametrize("task", GAMES)
def test_views_depend_on_the_place_alone_and_not_on_the_company(task):
    learner = small_learner(task)
    images, places = pictures(6), torch.arange(100, 106)
    whole = learner.task.views(Batch(images, torch.arange(6)), Draws(0, places))
    part = learner.task.views(Batch(images[2:4], torch.arange(2, 4)), Draws(0, places[2:4]))
    for everything, some in zip(tensors(whole), tensors(part), strict=True):
        rows = everything.reshape(-1, 6, *everything.shape[1:])[:, 2:4].flatten(0, 1)  # V*2, view-major
        assert torch.equal(rows, some)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("task", GAMES)
def test_forward_changes_nothing_but_a_batch_norms_statistics(task, backbone):
    learner = learner_or_skip(task, backbone)
    norms = {name for name, module in learner.named_modules() if isinstance(module, BatchNorm)}
    held = {**learner.state_dict(), **dict(learner.named_buffers())}  # weights, and buffers that are not saved
    before = {name: tensor.clone() for name, tensor in held.items()}
    learner(*deal(learner, backbone=backbone), CLOCK)
    changed = [name for name, tensor in held.items() if not torch.equal(tensor, before[name])]
    assert all(name.rpartition(".")[0] in norms for name in changed)


@pytest.mark.parametrize("task", GAMES)
def test_learns_under_bf16_with_a_wide_loss(task):
    learner = small_learner(task)
    with torch.autocast("cpu", torch.bfloat16):
        outcome = learner(*deal(learner), CLOCK)
    outcome.loss.backward()
    assert outcome.loss.dtype == torch.float32 and torch.isfinite(outcome.loss)
    assert all(torch.isfinite(p.grad).all() for p in learner.parameters() if p.grad is not None)


@pytest.mark.parametrize("task", GAMES)
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_the_smallest_batches_are_finite_or_refused(task, count, half):
    learner = small_learner(task)
    if count < learner.task.minimum_batch:
        with pytest.raises(HeadwayError, match=r"batch 1 is too small: .* needs at least 2 pictures a step"):
            check_batch(learner, count, accumulate=1)
        return
    check_batch(learner, count, accumulate=1)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        outcome = learner(*deal(learner, count), CLOCK)
    outcome.loss.backward()
    assert torch.isfinite(outcome.loss) and all(torch.isfinite(value) for value in outcome.metrics.values())
    assert all(torch.isfinite(p.grad).all() for p in learner.parameters() if p.grad is not None)


def test_batches_are_refused_where_a_loss_compares_pictures():
    comparing = {task for task in TASKS if small_learner(task).task.couples_batch}
    least = {task: small_learner(task).task.minimum_batch for task in TASKS}
    assert {task for task in TASKS if least[task] == 2} == comparing == COMPARING
    assert set(least.values()) == {1, 2}
    for task in comparing:
        with pytest.raises(HeadwayError, match="cannot accumulate 2 micro-batches"):
            check_batch(small_learner(task), 12, accumulate=2)


@pytest.mark.parametrize("task", GAMES)
def test_saves_and_loads(task, tmp_path):
    learner = small_learner(task)
    save_file({name: t.contiguous() for name, t in learner.state_dict().items()}, tmp_path / "weights.safetensors")
    other = small_learner(task, seed=1)
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(learner(*deal(learner), CLOCK).loss, other(*deal(other), CLOCK).loss)


@pytest.mark.parametrize("task", GAMES)
def test_transfer_drops_every_trace_of_the_task(task):
    learner = small_learner(task)
    names = {name.partition(".")[0] for name in learner.state_dict()}
    assert names <= {"backbone", "task"}
    assert not any(
        parameter is other for parameter in learner.backbone.parameters() for other in learner.task.parameters()
    )


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("task", GAMES)
def test_panels_are_pictures_of_the_samples(task, answered):
    learner = small_learner(task).eval()
    batch, draws = deal(learner)
    with torch.no_grad():
        views = learner.task.views(batch, draws)
        panels = learner.task.panels(batch, views, learner.backbone if answered else None)
    assert panels
    for panel in panels:
        assert panel.title and panel.images.shape[:1] == (6,) and panel.images.shape[1] in (1, 3)
        assert panel.images.dtype == torch.float32 and panel.images.min() >= 0 and panel.images.max() <= 1
        assert len(panel.captions) in (0, 6)


@pytest.mark.parametrize("task", TASKS)
def test_recipe_is_documented(task):
    recipe = TASKS[task]
    claim, paper, file = source_of(recipe)
    assert claim and paper.startswith("https://") and file.startswith("headway/pretext/")
    assert dataclasses.is_dataclass(recipe.task) and recipe.task.__dataclass_params__.frozen
    assert type(small_learner(task).task).__mro__[1] is PretextTask, "a task is never subclassed"
