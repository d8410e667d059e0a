"""What cannot be known must not be learned: where pictures hold no answer, a trained network answers by chance.

Each game is trained on pictures without an up, or without anything that one tile could tell of another, and asked about
fresh ones. Above chance it would have found a shortcut: a trace that cutting, turning or resizing leaves. The same
network in as many steps does learn from pictures that hold an answer, so it would have learned from a trace.
"""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from headway.config import Optim
from headway.draws import Draws, seeded
from headway.pretext import TASKS
from headway.protocol import Batch, Clock, Facts, Learner
from headway.train.loop import fit
from headway.train.plan import Plan
from tests.small import SIDE, SMALLER, small_backbone

STORED, TRAINED, FRESH = SIDE + 8, 1024, 600
CHANCE = {"rotation": 1 / 4, "relative_position": 1 / 8, "jigsaw": 1 / 5, "tokens": 1 / 16}


def white(count, seed):
    """Every pixel by itself."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, STORED, STORED, generator=generator)


def soft(count, seed):
    """Blobs without a direction: white noise, blurred alike down and across."""
    bell = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (bell[:, None] * bell).expand(3, 1, 5, 5)
    blurred = F.conv2d(F.pad(white(count, seed), (2, 2, 2, 2), mode="circular"), kernel, groups=3)
    return (0.5 + 2 * (blurred - 0.5)).clamp(0, 1)


def symmetric(count, seed):
    """Ornaments that look the same from all four sides."""
    texture = soft(count, seed)
    turned = sum(texture.rot90(quarter, (2, 3)) for quarter in range(4)) / 4
    return (0.5 + 2 * (turned - 0.5)).clamp(0, 1)


def lit(count, seed):
    """Noise on a ball lit from above: every tile and every turn has an answer."""
    line = torch.linspace(-1, 1, STORED)
    down, across = line[:, None].expand(STORED, STORED), line.expand(STORED, STORED)
    ball = torch.stack([0.5 - 0.4 * down, 0.5 - 0.4 * (down.square() + across.square()), 0.5 + 0.4 * across])
    return (ball + 0.2 * (white(count, seed) - 0.5)).clamp(0, 1)


def accuracy(game, draw, steps, **choices):
    """Share of right answers about fresh pictures after training on others."""
    task = "jigsaw" if game == "tokens" else game
    config = replace(TASKS[task].task, **SMALLER.get(task, {}), **choices)
    if game == "tokens":
        config = replace(config, form="tokens")
    images, fresh = ((draw(count, seed) * 255).to(torch.uint8) for count, seed in ((TRAINED, 0), (FRESH, 1)))
    with seeded(0):
        backbone = small_backbone()
        learner = Learner(backbone, config.build(backbone, Facts(TRAINED, 3, lambda n: images[:n], SIDE)))
    fit(learner, images, Plan(steps=steps, batch=64), Optim(lr=0.012, warmup=0.1))
    learner.eval()
    places = torch.arange(FRESH)
    with torch.no_grad():
        views = learner.task.views(Batch(fresh, places), Draws(9, places))
        return float(learner.task(backbone, views, Clock(0, 1, 0.0)).metrics["accuracy"])


def by_chance(found, chance, answers=FRESH):
    """Within the interval that holds 99.9 % of guesses."""
    return abs(found - chance) <= 3.3 * math.sqrt(chance * (1 - chance) / answers)


@pytest.mark.parametrize("draw", [white, soft, symmetric])
def test_no_turn_without_an_up(draw):
    assert by_chance(accuracy("rotation", draw, 60), CHANCE["rotation"])


@pytest.mark.parametrize("colour", ["keep", "drop", "project"])
def test_no_side_in_noise(colour):
    assert by_chance(accuracy("relative_position", white, 60, colour=colour), CHANCE["relative_position"])


@pytest.mark.parametrize("normalise", [False, True])
def test_no_permutation_in_noise(normalise):
    assert by_chance(accuracy("jigsaw", white, 40, normalise=normalise), CHANCE["jigsaw"])


def test_no_place_in_noise():
    assert by_chance(accuracy("tokens", white, 60), CHANCE["tokens"], FRESH)


@pytest.mark.parametrize("game", CHANCE)
def test_the_same_network_learns_where_there_is_an_answer(game):
    assert accuracy(game, lit, 40 if game == "jigsaw" else 60) > 1.5 * CHANCE[game]
