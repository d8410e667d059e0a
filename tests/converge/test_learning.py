"""Each classical game is learned, within moments, from drawn animals: what is asked of held-out pictures is answered.

The bars are what a network could reach without looking: chance, the mean colour, the colours that are frequent.
"""

from dataclasses import replace
from functools import partial

import pytest
import torch

from headway.backbones.load import build_backbone
from headway.data.store import build_store
from headway.draws import Draws, seeded
from headway.pretext import find_recipe
from headway.protocol import Batch, Clock, Facts, Learner
from headway.samples import DrawnAnimals
from headway.train.loop import fit
from headway.train.plan import Plan
from headway.train.planning import channel_statistics, spread

SIZE, STORED, TRAINED, HELD = 32, 48, 640, 160


@pytest.fixture(scope="module")
def animals():
    images = build_store(DrawnAnimals(TRAINED + HELD, STORED, seed=5), STORED).images
    return images[:TRAINED], images[TRAINED:]


def after(task, animals, steps, batch=64, **choices):
    """Loss and metrics on pictures held out, after so many steps."""
    train, held = animals
    recipe = find_recipe(task)
    with seeded(0):
        inputs = channel_statistics(train)._replace(grey=recipe.grey)
        backbone = build_backbone("vit_nano", size=SIZE, stem="conv", patch_size=8, inputs=inputs)
        facts = Facts(len(train), 3, partial(spread, train), SIZE)
        learner = Learner(backbone, replace(recipe.task, **choices).build(backbone, facts))
    fit(learner, train, Plan(steps=steps, batch=batch, seed=0, log_every=1000), recipe.optim)
    index = torch.arange(len(held))
    with torch.no_grad():
        outcome = learner.eval()(Batch(held, index), Draws(9, index), Clock(steps, steps, 0.0))
    return {name: float(value) for name, value in (outcome.metrics | {"loss": outcome.loss}).items()}


@pytest.mark.parametrize(
    ("task", "choices", "bar", "steps"),
    [
        ("rotation", {}, 0.5, 60),
        ("relative_position", {}, 0.25, 40),
        ("jigsaw", {}, 2 / 24, 30),
        ("jigsaw", {"form": "tokens"}, 2 / 16, 60),
    ],
)
def test_answers_are_right_more_often_than_the_bar(task, choices, bar, steps, animals):
    assert after(task, animals, steps, **choices)["accuracy"] > bar


def test_colours_are_guessed_better_than_by_their_frequency(animals):
    found = after("colorization", animals, 90)
    assert found["loss"] < found["blind_loss"] - 0.05


@pytest.mark.parametrize("mask", ["region", "blocks", "central"])
def test_holes_are_filled_better_than_with_the_mean_colour(mask, animals):
    found = after("inpainting", animals, 60, mask=mask)
    assert found["error"] < 0.9 * found["mean_colour_error"]
