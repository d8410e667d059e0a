"""Each classical task is learned within seconds from drawn animals, as its metrics on held-out images show.

The bars are what a network could reach without seeing the image: chance, the mean color, the most frequent colors.
"""

from dataclasses import replace
from functools import partial

import pytest
import torch

from headway.backbones.build import build_backbone
from headway.data.dataset.channel_statistics import channel_statistics
from headway.data.dataset.image_store import build_store
from headway.data.dataset.subset import subsample_evenly
from headway.pretext import find_recipe
from headway.protocol import Batch, DataInfo, TrainingClock, TrainModule
from headway.rng import SampleRNG, seeded
from headway.synthetic import DrawnAnimals
from headway.train.config import Plan
from headway.train.loop.loop import fit

SIZE, STORED_SIZE, NUM_TRAIN, NUM_HELD_OUT = 32, 48, 640, 160


@pytest.fixture(scope="module")
def animals():
    images = build_store(DrawnAnimals(NUM_TRAIN + NUM_HELD_OUT, STORED_SIZE, seed=5), STORED_SIZE).images
    return images[:NUM_TRAIN], images[NUM_TRAIN:]


def after(task, animals, steps, batch=64, **choices):
    """Loss and metrics on held-out images after so many steps."""
    train, held_out = animals
    recipe = find_recipe(task)
    with seeded(0):
        inputs = channel_statistics(train)._replace(grayscale=recipe.grayscale)
        backbone = build_backbone("vit_nano", size=SIZE, stem="conv", patch_size=8, input_spec=inputs)
        data_info = DataInfo(len(train), 3, partial(subsample_evenly, train), SIZE)
        module = TrainModule(backbone, replace(recipe.task, **choices).build(backbone, data_info))
    fit(module, train, Plan(steps=steps, batch_size=batch, seed=0, log_every=1000), recipe.optim)
    index = torch.arange(len(held_out))
    with torch.no_grad():
        outcome = module.eval()(Batch(held_out, index), SampleRNG(9, index), TrainingClock(steps, steps, 0.0))
    return {name: float(value) for name, value in (outcome.metrics | {"loss": outcome.loss}).items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "choices", "bar", "steps"),
    [
        ("rotation", {}, 0.5, 60),
        ("relative_position", {}, 0.25, 40),
        ("jigsaw", {}, 2 / 24, 30),
        ("jigsaw", {"variant": "tokens"}, 2 / 16, 60),
    ],
)
def test_accuracy_exceeds_the_bar(task, choices, bar, steps, animals):
    assert after(task, animals, steps, **choices)["accuracy"] > bar


@pytest.mark.slow
def test_colors_are_predicted_better_than_by_their_frequency(animals):
    found = after("colorization", animals, 90)
    assert found["loss"] < found["prior_loss"] - 0.05


@pytest.mark.slow
@pytest.mark.parametrize("mask", ["region", "blocks", "central"])
def test_holes_are_filled_better_than_with_the_mean_color(mask, animals):
    found = after("inpainting", animals, 60, mask_type=mask)
    assert found["error"] < 0.9 * found["mean_color_error"]
