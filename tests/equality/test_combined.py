"""Combinations: each task is unchanged, losses are scaled, and splitting the batch changes nothing."""

from dataclasses import replace

import pytest
import torch

from headway.errors import HeadwayError
from headway.pretext import find_recipe
from headway.protocol import Batch, DataInfo, TrainingClock
from headway.rng import SampleRNG
from tests.errors import raises
from tests.small import SIDE, make_images, max_difference, small_backbone, small_train_module, train

CLOCK = TrainingClock(5, 1000, 0.0)


def batch_and_rng(count=6):
    return Batch(make_images(count), torch.arange(count)), SampleRNG(0, torch.arange(count))


PAIRS = ["rotation+mae", "dino+simmim", "lejepa+data2vec"]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("processes", "batch"), [(2, 12), (3, 11)])
def test_processes_equal_one(name, processes, batch, workers):
    expected = train(name, 8, batch=batch)
    for weights in workers(processes).run(train, name, 8, 1, batch):
        assert max_difference(expected, weights) < 1e-9
    assert not torch.equal(expected["task.loss_scales"], torch.ones(2, dtype=torch.float64))


def test_accumulated_equals_whole_batch(workers):
    whole = train("rotation+mae", 8)
    assert max_difference(whole, train("rotation+mae", 8, accumulate=3)) < 1e-9
    assert max_difference(whole, workers(2).run(train, "rotation+mae", 8, 2)[1]) < 1e-9


@pytest.mark.parametrize("name", PAIRS)
def test_resumed_equals_uninterrupted_to_the_bit(name, tmp_path, monkeypatch):
    # Scales are still being measured at the stop.
    monkeypatch.setattr("headway.pretext.combined.NORMALIZATION_FRACTION", 0.5)
    whole = train(name, precision="float32")
    train(name, precision="float32", run=str(tmp_path), stop_after=3)
    resumed = train(name, precision="float32", run=str(tmp_path), resume=True)
    assert max_difference(whole, resumed) == 0.0


def test_loss_is_the_weighted_sum_of_scaled_losses():
    module = small_train_module("rotation+mae").double()
    module.task.weights = (1.0, 3.0)
    with torch.no_grad():
        module.task.loss_scales.copy_(torch.tensor([2.0, 0.5]))
        batch, rng = batch_and_rng()
        outcome = module(batch, rng, CLOCK)
        losses = [
            pretext_task(module.backbone, pretext_task.make_views(batch, rng.fold_in(name)), CLOCK).loss
            for name, pretext_task in module.task.tasks.items()
        ]
    assert float(outcome.loss) == pytest.approx(float(losses[0] / 2 + 3 * losses[1] / 0.5), rel=1e-12)
    assert {"rotation.loss", "rotation.accuracy", "mae.loss"} <= set(outcome.metrics)


def test_scales_are_means_over_the_first_hundredth_of_the_run():
    module = small_train_module("rotation+mae").double()
    seen = []
    with torch.no_grad():
        for step in range(14):
            outcome = module(*batch_and_rng(), TrainingClock(step, 1000, 0.0))
            seen.append(torch.stack([outcome.metrics["rotation.loss"], outcome.metrics["mae.loss"]]))
            module.task.after_step(module.backbone, [outcome.step_stats], TrainingClock(step + 1, 1000, 0.0))
            module.backbone.norm.weight.mul_(1.1)  # so that losses change
    assert torch.allclose(module.task.loss_scales, torch.stack(seen[:10]).mean(0), rtol=1e-12)


def test_skipped_steps_do_not_count():
    module = small_train_module("rotation+mae").double()
    with torch.no_grad():
        outcome = module(*batch_and_rng(), CLOCK)
        for step in (2, 3):  # the first was skipped: a run of 20 steps measures only one
            module.task.after_step(module.backbone, [outcome.step_stats], TrainingClock(step, 20, 0.0))
            module.task.tasks["mae"].decoder.output_proj.weight.mul_(3.0)
            outcome = module(*batch_and_rng(), CLOCK)
    found = module(*batch_and_rng(), CLOCK).metrics  # rotation's loss has not changed
    assert float(module.task.loss_scales[0]) == pytest.approx(float(found["rotation.loss"]), rel=1e-12)
    assert float(module.task.loss_scales[1]) != pytest.approx(float(found["mae.loss"]), rel=1e-3)


def test_every_task_is_trained_as_by_itself():
    pair = small_train_module("rotation+dino")
    assert pair.task.batch_coupled is False and pair.task.requires == frozenset()
    assert (
        small_train_module("simclr+mae").task.batch_coupled
        and small_train_module("simclr+mae").task.min_batch_size == 2
    )
    assert small_train_module("ijepa+simmim").task.requires == {"keep_indices", "mask"}
    before = pair.task.tasks["dino"].center.clone()
    outcome = pair(*batch_and_rng(), CLOCK)
    outcome.loss.backward()
    assert all(p.grad is not None for p in pair.parameters() if p.requires_grad)
    with torch.no_grad():
        pair.task.after_step(pair.backbone, [outcome.step_stats], CLOCK)
    assert not torch.equal(pair.task.tasks["dino"].center, before)
    with torch.no_grad():
        batch, rng = batch_and_rng()
        titles = [panel.title for panel in pair.task.visualize(batch, pair.task.make_views(batch, rng))]
    assert any(title.startswith("rotation: ") for title in titles)
    assert any(title.startswith("dino: ") for title in titles)


def test_recipe_takes_from_each_part():
    both = find_recipe("mae+dino")
    mae, dino = find_recipe("mae"), find_recipe("dino")
    assert both.optim == mae.optim and both.pooling == "class" and both.epochs == max(mae.epochs, dino.epochs)
    assert both.task.mae == mae.task and both.task.dino == dino.task


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("rotation+rotation", "two of its tasks are called 'rotation'"),
        ("mae+mine.mae:RECIPE", "two of its tasks are called 'mae'"),
        ("a.mine:RECIPE+b.mine:RECIPE+mae", "two of its tasks are called 'mine'"),
        ("rotation+", "joins the names of tasks"),
        ("rotation+nonsense", "unknown task 'nonsense'"),
        ("+", "joins the names of tasks"),
    ],
)
def test_what_cannot_be_combined_is_refused(name, why):
    with pytest.raises(HeadwayError, match=why):
        find_recipe(name)


def test_weights_must_match_the_tasks():
    choices = replace(find_recipe("rotation+simmim").task, weights=(1.0, 3.0))
    assert choices.build(small_backbone(), DataInfo(9, 3, make_images, SIDE)).weights == (1.0, 3.0)
    with raises("value-out-of-range"):
        replace(find_recipe("rotation+mae").task, weights=(1.0, 2.0, 3.0))
