"""Losses of tasks on tiles equal slow, obvious implementations."""

import math
from dataclasses import replace

import pytest
import torch

from headway.pretext import TASKS
from headway.protocol import Batch, DataInfo, TrainingClock, TrainModule
from headway.rng import SampleRNG
from headway.transforms.patches import permute_patches
from headway.transforms.pixels import to_float01
from headway.transforms.tiles import Tiles
from tests.small import SIDE, SMALL_CONFIGS, make_images, small_backbone

CLOCK = TrainingClock(0, 1, 0.0)
STILL = Tiles(scale=(1.0, 1.0), gap=0.25, jitter=0.0, flip_prob=0.0)  # of 24 pixels: cells of 8, tiles of 6


def module_of(task, **choices):
    backbone = small_backbone().double()
    config = replace(TASKS[task].task, **SMALL_CONFIGS[task], **choices)
    return TrainModule(backbone, config.build(backbone, DataInfo(20, 3, lambda n: make_images(n), SIDE)).double())


def views_of(module, count):
    return module.task.make_views(Batch(make_images(count), torch.arange(count)), SampleRNG(0, torch.arange(count)))


def negative_log(row, answer):
    top = max(row)
    return math.log(sum(math.exp(x - top) for x in row)) + top - row[answer]


def cut(images, cell):
    """The 8 x 8 pixels that STILL cuts 6 x 6 of, seen at 8 x 8."""
    row, column = divmod(cell, 3)
    tile = to_float01(images)[..., row * 8 + 1 : row * 8 + 7, column * 8 + 1 : column * 8 + 7]
    return torch.nn.functional.interpolate(tile, (8, 8), mode="bilinear", antialias=True)


@pytest.mark.parametrize("every", [False, True])
def test_relative_position_pair_by_pair(every):
    module = module_of("relative_position", tiles=STILL, all_neighbors=every)
    views, total, right = views_of(module, 5), 0.0, 0
    for row, side in enumerate(views.targets.tolist()):
        image = make_images(5)[row % 5 : row % 5 + 1]
        cell = side if side < 4 else side + 1
        assert every is False or side == row // 5
        both = [module.backbone(cut(image, which)).pooled[0] for which in (4, cell)]
        logits = module.task.head(torch.cat(both)[None])[0].tolist()
        total += negative_log(logits, side)
        right += max(range(8), key=logits.__getitem__) == side
    assert len(views.targets) == (40 if every else 5)
    outcome = module.task(module.backbone, views, CLOCK)
    assert float(outcome.loss.detach()) == pytest.approx(total / len(views.targets), rel=1e-5)
    assert float(outcome.metrics["accuracy"]) == pytest.approx(right / len(views.targets))


def test_relative_position_covers_every_direction():
    module = module_of("relative_position", tiles=STILL)
    images = make_images(64)
    views = views_of(module, 64)
    assert set(views.targets.tolist()) == set(range(8))
    names = [
        caption.removesuffix(" the center") for caption in module.task.visualize(Batch(images, 0), views)[1].captions
    ]
    moves = {"above": (-1, 0), "below": (1, 0), "left": (0, -1), "right": (0, 1)}
    for image, name in enumerate(names):
        steps = [moves[word] for word in name.split() if word in moves]
        cell = 4 + sum(3 * down + across for down, across in steps)
        assert torch.allclose(views.tiles[64 + image], cut(images[image : image + 1], cell)[0], atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
def test_jigsaw_tile_by_tile(normalize):
    module = module_of("jigsaw", tiles=STILL, normalize_tiles=normalize, num_shuffles=3)
    task, images, total, right = module.task, make_images(5), 0.0, 0
    views = views_of(module, 5)
    for row, number in enumerate(views.targets.tolist()):
        image, projected = row % 5, []
        for cell in task.permutations[number].tolist():
            tile = cut(images[image : image + 1], cell)
            if normalize:
                mean, deviation = tile.mean((2, 3), keepdim=True), tile.std((2, 3), keepdim=True, unbiased=False)
                tile = ((tile - mean) / deviation.clamp(min=0.02) * 0.2 + 0.5).clamp(0, 1)
            projected.append(task.projection(module.backbone(tile).pooled)[0].clamp(min=0))
        logits = task.head(torch.cat(projected)[None])[0].tolist()
        total += negative_log(logits, number)
        right += max(range(5), key=logits.__getitem__) == number
    outcome = task(module.backbone, views, CLOCK)
    assert float(outcome.loss.detach()) == pytest.approx(total / 15, rel=1e-5)
    assert float(outcome.metrics["accuracy"]) == pytest.approx(right / 15)


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_jigsaw_of_tokens_position_by_position(ratio):
    module = module_of("jigsaw", variant="tokens", keep_ratio=ratio)
    views, total, right = views_of(module, 5), 0.0, 0
    seen = round(16 * ratio)
    for image in range(5):
        keep = torch.arange(seen)[None]
        tokens = module.backbone(views.images[image : image + 1], keep_indices=keep, use_pos_embed=False).patches[0]
        for token, place in zip(tokens, views.positions[image, :seen].tolist(), strict=True):
            logits = module.task.head(token[None])[0].tolist()
            total += negative_log(logits, place)
            right += max(range(16), key=logits.__getitem__) == place
    outcome = module.task(module.backbone, views, CLOCK)
    assert float(outcome.loss.detach()) == pytest.approx(total / (5 * seen), rel=1e-9)
    assert float(outcome.metrics["accuracy"]) == pytest.approx(right / (5 * seen))


def test_tokens_do_not_know_their_position():
    module = module_of("jigsaw", variant="tokens")
    views = views_of(module, 2)
    plain = module.backbone(views.images, use_pos_embed=False).patches
    other = SampleRNG(1, torch.arange(2)).permutation("positions", 16)
    moved = module.backbone(permute_patches(views.images, other, 4), use_pos_embed=False).patches
    assert torch.allclose(moved, plain.gather(1, other[..., None].expand_as(plain)), atol=1e-9)
