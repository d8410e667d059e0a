"""The tile games' losses against slow, obvious ones."""

import math
from dataclasses import replace

import pytest
import torch

from headway.draws import Draws
from headway.pretext import TASKS
from headway.pretext.jigsaw_tokens import lay
from headway.protocol import Batch, Clock, Facts, Learner
from headway.views.pixels import to_unit
from headway.views.tiles import Tiles
from tests.small import SIDE, SMALLER, pictures, small_backbone

CLOCK = Clock(0, 1, 0.0)
STILL = Tiles(scale=(1.0, 1.0), gap=0.25, jitter=0.0, flip=0.0)  # of 24 pixels: cells of 8, tiles of 6


def learner_of(task, **choices):
    backbone = small_backbone().double()
    config = replace(TASKS[task].task, **SMALLER[task], **choices)
    return Learner(backbone, config.build(backbone, Facts(20, 3, lambda n: pictures(n), SIDE)).double())


def deal(learner, count):
    return learner.task.views(Batch(pictures(count), torch.arange(count)), Draws(0, torch.arange(count)))


def negative_log(row, answer):
    top = max(row)
    return math.log(sum(math.exp(x - top) for x in row)) + top - row[answer]


def cut(images, cell):
    """The 8 x 8 pixels that STILL cuts 6 x 6 of, seen at 8 x 8."""
    row, column = divmod(cell, 3)
    tile = to_unit(images)[..., row * 8 + 1 : row * 8 + 7, column * 8 + 1 : column * 8 + 7]
    return torch.nn.functional.interpolate(tile, (8, 8), mode="bilinear", antialias=True)


@pytest.mark.parametrize("every", [False, True])
def test_relative_position_pair_by_pair(every):
    learner = learner_of("relative_position", tiles=STILL, all_neighbours=every)
    views, total, right = deal(learner, 5), 0.0, 0
    for row, side in enumerate(views.sides.tolist()):
        picture = pictures(5)[row % 5 : row % 5 + 1]
        cell = side if side < 4 else side + 1
        assert every is False or side == row // 5
        both = [learner.backbone(cut(picture, which)).pooled[0] for which in (4, cell)]
        logits = learner.task.head(torch.cat(both)[None])[0].tolist()
        total += negative_log(logits, side)
        right += max(range(8), key=logits.__getitem__) == side
    assert len(views.sides) == (40 if every else 5)
    outcome = learner.task(learner.backbone, views, CLOCK)
    assert float(outcome.loss.detach()) == pytest.approx(total / len(views.sides), rel=1e-5)
    assert float(outcome.metrics["accuracy"]) == pytest.approx(right / len(views.sides))


def test_relative_position_deals_every_side_and_ends_where_it_says():
    learner = learner_of("relative_position", tiles=STILL)
    images = pictures(64)
    views = deal(learner, 64)
    assert set(views.sides.tolist()) == set(range(8))
    names = [
        caption.removesuffix(" the centre") for caption in learner.task.panels(Batch(images, 0), views)[1].captions
    ]
    moves = {"above": (-1, 0), "below": (1, 0), "left": (0, -1), "right": (0, 1)}
    for picture, name in enumerate(names):
        steps = [moves[word] for word in name.split() if word in moves]
        cell = 4 + sum(3 * down + across for down, across in steps)
        assert torch.allclose(views.tiles[64 + picture], cut(images[picture : picture + 1], cell)[0], atol=1e-5)


@pytest.mark.parametrize("normalise", [False, True])
def test_jigsaw_tile_by_tile(normalise):
    learner = learner_of("jigsaw", tiles=STILL, normalise=normalise, puzzles=3)
    task, images, total, right = learner.task, pictures(5), 0.0, 0
    views = deal(learner, 5)
    for row, number in enumerate(views.numbers.tolist()):
        picture, projected = row % 5, []
        for cell in task.permutations[number].tolist():
            tile = cut(images[picture : picture + 1], cell)
            if normalise:
                mean, deviation = tile.mean((2, 3), keepdim=True), tile.std((2, 3), keepdim=True, unbiased=False)
                tile = ((tile - mean) / deviation.clamp(min=0.02) * 0.2 + 0.5).clamp(0, 1)
            projected.append(task.project(learner.backbone(tile).pooled)[0].clamp(min=0))
        logits = task.head(torch.cat(projected)[None])[0].tolist()
        total += negative_log(logits, number)
        right += max(range(5), key=logits.__getitem__) == number
    outcome = task(learner.backbone, views, CLOCK)
    assert float(outcome.loss.detach()) == pytest.approx(total / 15, rel=1e-5)
    assert float(outcome.metrics["accuracy"]) == pytest.approx(right / 15)


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_jigsaw_of_tokens_place_by_place(ratio):
    learner = learner_of("jigsaw", form="tokens", ratio=ratio)
    views, total, right = deal(learner, 5), 0.0, 0
    seen = round(16 * ratio)
    for picture in range(5):
        keep = torch.arange(seen)[None]
        tokens = learner.backbone(views.images[picture : picture + 1], keep=keep, place=False).patches[0]
        for token, place in zip(tokens, views.places[picture, :seen].tolist(), strict=True):
            logits = learner.task.head(token[None])[0].tolist()
            total += negative_log(logits, place)
            right += max(range(16), key=logits.__getitem__) == place
    outcome = learner.task(learner.backbone, views, CLOCK)
    assert float(outcome.loss.detach()) == pytest.approx(total / (5 * seen), rel=1e-9)
    assert float(outcome.metrics["accuracy"]) == pytest.approx(right / (5 * seen))


def test_tokens_are_told_nothing_of_their_place():
    learner = learner_of("jigsaw", form="tokens")
    views = deal(learner, 2)
    plain = learner.backbone(views.images, place=False).patches
    other = Draws(1, torch.arange(2)).permutation(16)
    moved = learner.backbone(lay(views.images, other, 4), place=False).patches
    assert torch.allclose(moved, plain.gather(1, other[..., None].expand_as(plain)), atol=1e-9)
