"""Combinations: each game as it would be alone, balanced, and equal however the batch is cut."""

from dataclasses import replace

import pytest
import torch

from headway.draws import Draws
from headway.errors import HeadwayError
from headway.pretext import find_recipe
from headway.protocol import Batch, Clock, Facts
from tests.small import SIDE, farthest, pictures, small_backbone, small_learner, train

CLOCK = Clock(5, 1000, 0.0)


def deal(count=6):
    return Batch(pictures(count), torch.arange(count)), Draws(0, torch.arange(count))


PAIRS = ["rotation+mae", "dino+simmim", "lejepa+data2vec"]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("processes", "batch"), [(2, 12), (3, 11)])
def test_processes_equal_one(name, processes, batch, workers):
    alone = train(name, 8, batch=batch)
    for weights in workers(processes).run(train, name, 8, 1, batch):
        assert farthest(alone, weights) < 1e-9
    assert not torch.equal(alone["task.scales"], torch.ones(2, dtype=torch.float64))


def test_accumulated_equals_whole_batch(workers):
    whole = train("rotation+mae", 8)
    assert farthest(whole, train("rotation+mae", 8, accumulate=3)) < 1e-9
    assert farthest(whole, workers(2).run(train, "rotation+mae", 8, 2)[1]) < 1e-9


@pytest.mark.parametrize("name", PAIRS)
def test_resumed_equals_uninterrupted_to_the_bit(name, tmp_path, monkeypatch):
    monkeypatch.setattr("headway.pretext.combined.BEGINNING", 0.5)  # so that scales are still being measured then
    whole = train(name, precision="float32")
    train(name, precision="float32", run=str(tmp_path), stop_after=3)
    resumed = train(name, precision="float32", run=str(tmp_path), resume=True)
    assert farthest(whole, resumed) == 0.0


def test_loss_is_the_weighted_sum_in_units_of_the_beginning():
    learner = small_learner("rotation+mae").double()
    learner.task.weights = (1.0, 3.0)
    with torch.no_grad():
        learner.task.scales.copy_(torch.tensor([2.0, 0.5]))
        batch, draws = deal()
        outcome = learner(batch, draws, CLOCK)
        losses = [
            game(learner.backbone, game.views(batch, draws.fork(name)), CLOCK).loss
            for name, game in learner.task.games.items()
        ]
    assert float(outcome.loss) == pytest.approx(float(losses[0] / 2 + 3 * losses[1] / 0.5), rel=1e-12)
    assert {"rotation.loss", "rotation.accuracy", "mae.loss"} <= set(outcome.metrics)


def test_scales_are_means_over_the_first_hundredth_and_then_stand():
    learner = small_learner("rotation+mae").double()
    seen = []
    with torch.no_grad():
        for step in range(14):
            outcome = learner(*deal(), Clock(step, 1000, 0.0))
            seen.append(torch.stack([outcome.metrics["rotation.loss"], outcome.metrics["mae.loss"]]))
            learner.task.after_step(learner.backbone, [outcome.carry], Clock(step + 1, 1000, 0.0))
            learner.backbone.norm.weight.mul_(1.1)  # so that losses change
    assert torch.allclose(learner.task.scales, torch.stack(seen[:10]).mean(0), rtol=1e-12)


def test_a_step_that_was_skipped_does_not_count():
    learner = small_learner("rotation+mae").double()
    with torch.no_grad():
        outcome = learner(*deal(), CLOCK)
        for step in (2, 3):  # the first was skipped: a run of 20 steps measures but one
            learner.task.after_step(learner.backbone, [outcome.carry], Clock(step, 20, 0.0))
            learner.task.games["mae"].decoder.say.weight.mul_(3.0)
            outcome = learner(*deal(), CLOCK)
    found = learner(*deal(), CLOCK).metrics  # rotation's loss is what it was
    assert float(learner.task.scales[0]) == pytest.approx(float(found["rotation.loss"]), rel=1e-12)
    assert float(learner.task.scales[1]) != pytest.approx(float(found["mae.loss"]), rel=1e-3)


def test_every_game_is_what_it_is_alone():
    pair = small_learner("rotation+dino")
    assert pair.task.couples_batch is False and pair.task.needs == frozenset()
    assert small_learner("simclr+mae").task.couples_batch and small_learner("simclr+mae").task.minimum_batch == 2
    assert small_learner("ijepa+simmim").task.needs == {"keep", "mask"}
    before = pair.task.games["dino"].centre.clone()
    outcome = pair(*deal(), CLOCK)
    outcome.loss.backward()
    assert all(p.grad is not None for p in pair.parameters() if p.requires_grad)
    with torch.no_grad():
        pair.task.after_step(pair.backbone, [outcome.carry], CLOCK)
    assert not torch.equal(pair.task.games["dino"].centre, before)
    with torch.no_grad():
        batch, draws = deal()
        titles = [panel.title for panel in pair.task.panels(batch, pair.task.views(batch, draws))]
    assert any(title.startswith("rotation: ") for title in titles)
    assert any(title.startswith("dino: ") for title in titles)


def test_recipe_takes_from_each_part():
    both = find_recipe("mae+dino")
    mae, dino = find_recipe("mae"), find_recipe("dino")
    assert both.optim == mae.optim and both.pool == "class" and both.epochs == max(mae.epochs, dino.epochs)
    assert both.task.mae == mae.task and both.task.dino == dino.task


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("rotation+rotation", "two of its games are called 'rotation'"),
        ("mae+mine.mae:RECIPE", "two of its games are called 'mae'"),
        ("a.game:RECIPE+b.game:RECIPE+mae", "two of its games are called 'game'"),
        ("rotation+", "joins the names of tasks"),
        ("rotation+nonsense", "unknown task 'nonsense'"),
        ("+", "joins the names of tasks"),
    ],
)
def test_what_cannot_be_combined_is_refused(name, why):
    with pytest.raises(HeadwayError, match=why):
        find_recipe(name)


def test_weights_must_fit_and_arrive():
    choices = replace(find_recipe("rotation+simmim").task, weights=(1.0, 3.0))
    assert choices.build(small_backbone(), Facts(9, 3, pictures, SIDE)).weights == (1.0, 3.0)
    with pytest.raises(HeadwayError, match="2 weights"):
        replace(find_recipe("rotation+mae").task, weights=(1.0, 2.0, 3.0))
