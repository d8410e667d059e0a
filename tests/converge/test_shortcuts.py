"""No task can be solved by a shortcut: on images without information about the target, accuracy stays at chance.

Each task is trained on images without an upright orientation, or with tiles that are independent of one another, and
tested on new images. An accuracy above chance would show a shortcut, such as traces of cropping, rotation or resizing.
In as many steps the same network does learn from images that have the information, so it would have learned a shortcut.
"""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from headway.config import Optim
from headway.pretext import TASKS
from headway.protocol import Batch, DataInfo, TrainingClock, TrainModule
from headway.rng import SampleRNG, seeded
from headway.train.config import Plan
from headway.train.loop.loop import fit
from tests.small import SIDE, SMALL_CONFIGS, small_backbone

STORED_SIZE, NUM_TRAIN, NUM_TEST = SIDE + 8, 1024, 600
CHANCE = {"rotation": 1 / 4, "relative_position": 1 / 8, "jigsaw": 1 / 5, "tokens": 1 / 16}


def white(count, seed):
    """Independent pixels."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, STORED_SIZE, STORED_SIZE, generator=generator)


def soft(count, seed):
    """Blobs without a direction: white noise, blurred alike down and across."""
    bell = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (bell[:, None] * bell).expand(3, 1, 5, 5)
    blurred = F.conv2d(F.pad(white(count, seed), (2, 2, 2, 2), mode="circular"), kernel, groups=3)
    return (0.5 + 2 * (blurred - 0.5)).clamp(0, 1)


def symmetric(count, seed):
    """Textures that are invariant to rotations by 90 degrees."""
    texture = soft(count, seed)
    turned = sum(texture.rot90(quarter, (2, 3)) for quarter in range(4)) / 4
    return (0.5 + 2 * (turned - 0.5)).clamp(0, 1)


def lit(count, seed):
    """Noise on a ball lit from above, whose tiles and rotations can be told apart."""
    line = torch.linspace(-1, 1, STORED_SIZE)
    down, across = line[:, None].expand(STORED_SIZE, STORED_SIZE), line.expand(STORED_SIZE, STORED_SIZE)
    ball = torch.stack([0.5 - 0.4 * down, 0.5 - 0.4 * (down.square() + across.square()), 0.5 + 0.4 * across])
    return (ball + 0.2 * (white(count, seed) - 0.5)).clamp(0, 1)


def accuracy(name, draw, steps, **choices):
    """Accuracy on new images after training on others."""
    task = "jigsaw" if name == "tokens" else name
    config = replace(TASKS[task].task, **SMALL_CONFIGS.get(task, {}), **choices)
    if name == "tokens":
        config = replace(config, variant="tokens")
    images, fresh = ((draw(count, seed) * 255).to(torch.uint8) for count, seed in ((NUM_TRAIN, 0), (NUM_TEST, 1)))
    with seeded(0):
        backbone = small_backbone()
        module = TrainModule(backbone, config.build(backbone, DataInfo(NUM_TRAIN, 3, lambda n: images[:n], SIDE)))
    fit(module, images, Plan(steps=steps, batch_size=64), Optim(lr=0.012, warmup_fraction=0.1))
    module.eval()
    positions = torch.arange(NUM_TEST)
    with torch.no_grad():
        views = module.task.make_views(Batch(fresh, positions), SampleRNG(9, positions))
        return float(module.task(backbone, views, TrainingClock(0, 1, 0.0)).metrics["accuracy"])


def by_chance(found, chance, answers=NUM_TEST):
    """Whether an accuracy lies within the 99.9 % interval of chance."""
    return abs(found - chance) <= 3.3 * math.sqrt(chance * (1 - chance) / answers)


@pytest.mark.parametrize("draw", [white, soft, symmetric])
def test_rotation_of_images_without_orientation_stays_at_chance(draw):
    assert by_chance(accuracy("rotation", draw, 60), CHANCE["rotation"])


@pytest.mark.parametrize("color", ["keep", "drop", "project"])
def test_relative_position_in_noise_stays_at_chance(color):
    assert by_chance(accuracy("relative_position", white, 60, color=color), CHANCE["relative_position"])


@pytest.mark.parametrize("normalize", [False, True])
def test_permutation_in_noise_stays_at_chance(normalize):
    assert by_chance(accuracy("jigsaw", white, 40, normalize_tiles=normalize), CHANCE["jigsaw"])


def test_token_positions_in_noise_stay_at_chance():
    assert by_chance(accuracy("tokens", white, 60), CHANCE["tokens"], NUM_TEST)


@pytest.mark.parametrize("name", CHANCE)
def test_the_same_network_learns_from_informative_images(name):
    assert accuracy(name, lit, 40 if name == "jigsaw" else 60) > 1.5 * CHANCE[name]
