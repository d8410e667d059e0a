"""Tiles: where they are cut, what becomes of their colours, and permutations that lie far apart."""

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F

from headway.draws import Draws
from headway.errors import HeadwayError
from headway.pretext.jigsaw_tokens import lay
from headway.views.permutations import far_permutations
from headway.views.pixels import to_unit
from headway.views.tiles import (
    CELLS,
    Tiles,
    board,
    drop_channels,
    normalise,
    project_colours,
    tile_side,
)

PLAIN = Tiles(scale=(1.0, 1.0), gap=0.2, jitter=0.0, flip=0.0)


def noise(batch, height, width=None):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, 3, height, width or height), generator=generator, dtype=torch.uint8)


def test_without_chance_tiles_stand_in_the_middle_of_their_cells():
    boxes = PLAIN.boxes(Draws(0, torch.arange(1)), 30, 30)[0]
    assert boxes.tolist() == [[1 + 10 * row, 1 + 10 * column, 8, 8] for row in range(3) for column in range(3)]


@pytest.mark.parametrize(("height", "width"), [(24, 24), (36, 50), (337, 336)])
@pytest.mark.parametrize(("gap", "jitter"), [(0.0, 0.5), (0.15, 0.5), (1 / 3, 0.15), (0.9, 0.5)])
def test_tiles_are_whole_pixels_of_their_own_cell(height, width, gap, jitter):
    tiles, places = Tiles(scale=(0.5, 1.0), gap=gap, jitter=jitter), torch.arange(200)
    squares = Tiles(scale=(0.5, 1.0), gap=0.0, jitter=0.0).boxes(Draws(0, places), height, width)
    boxes = tiles.boxes(Draws(0, places), height, width)
    assert torch.equal(boxes, boxes.round())
    widths = set()
    for picture, square in zip(boxes.tolist(), squares.tolist(), strict=True):
        side = square[8][0] + square[8][2] - square[0][0]  # of tiles that fill their cells, but for a pixel
        assert len({tuple(box[2:]) for box in picture}) == 1, "one width for all tiles of a picture"
        widths.add(picture[0][2])
        for place, (top, left, tall, wide) in enumerate(picture):
            assert top >= 0 and left >= 0 and top + tall <= height and left + wide <= width
            row, column = divmod(place, 3)
            for begin, cell, origin in ((top, row, square[0][0]), (left, column, square[0][1])):
                middle = origin + side * (2 * cell + 1) / 6
                assert abs(begin + tall / 2 - middle) <= jitter * gap * side / 3 + 2
    assert len(widths) > 1 or gap == 0.9


@pytest.mark.parametrize("stored", [24, 96])
def test_tiles_equal_a_loop_over_pictures_and_cells(stored):
    images, places, tiles = noise(4, stored), torch.arange(4), Tiles()
    order = Draws(1, places).permutation(CELLS)[:, :5]
    dealt = tiles(images, Draws(0, places), 12, order).unflatten(0, (5, 4))
    draws = Draws(0, places)
    mirrored, boxes = draws.chance(0.5), tiles.boxes(draws, stored, stored)
    assert mirrored.any() and not mirrored.all()
    for picture in range(4):
        image = to_unit(images[picture : picture + 1])
        image = image.flip(3) if mirrored[picture] else image
        for place in range(5):
            top, left, tall, wide = boxes[picture, order[picture, place]].int().tolist()
            cut = image[:, :, top : top + tall, left : left + wide]
            expected = F.interpolate(cut, (12, 12), mode="bilinear", antialias=True)[0]
            assert torch.allclose(dealt[place, picture], expected, atol=1e-5)


def test_all_nine_tiles_row_by_row_where_no_order_is_given():
    images, order = noise(2, 30), torch.arange(9).expand(2, -1)
    dealt = PLAIN(images, Draws(0, torch.arange(2)), 8)
    assert torch.equal(dealt, PLAIN(images, Draws(0, torch.arange(2)), 8, order))
    assert torch.equal(dealt[2 * 5], to_unit(images[:, :, 11:19, 21:29])[0])


def test_tile_side_is_whole_patches_near_a_third():
    sides = {(16, 4): 8, (32, 4): 12, (32, 8): 16, (64, 8): 24, (224, 16): 80, (64, 32): 32, (16, 32): 32}
    assert {(size, patch): tile_side(size, patch) for size, patch in sides} == sides


def test_a_bad_cut_is_refused():
    for wrong in ({"scale": (0.0, 1.0)}, {"gap": 1.0}, {"jitter": 0.6}, {"flip": -0.1}):
        with pytest.raises(HeadwayError, match=f"tiles {next(iter(wrong))}"):
            Tiles(**wrong)


def test_normalised_tiles_share_mean_and_deviation():
    tiles = 0.3 + 0.1 * torch.rand(6, 3, 12, 12) * torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)
    result = normalise(tiles)
    assert torch.allclose(result.mean((2, 3)), torch.tensor(0.5), atol=1e-5)
    assert torch.allclose(result.std((2, 3), unbiased=False)[:, 2], torch.tensor(0.2), atol=1e-5)
    assert torch.equal(normalise(torch.full((1, 3, 4, 4), 0.9)), torch.full((1, 3, 4, 4), 0.5))
    faint = normalise(0.5 + 0.001 * torch.randn(1, 3, 8, 8))
    assert faint.std() < 0.02, "noise must not be blown up"


def test_one_channel_stays_and_the_others_are_faint_noise():
    tiles = torch.rand(3 * 200, 3, 6, 6)
    result = drop_channels(tiles, Draws(0, torch.arange(200)))
    kept = (result == tiles).flatten(2).all(2)
    assert (kept.sum(1) == 1).all() and torch.allclose(kept.float().mean(0), torch.tensor(1 / 3), atol=0.06)
    noise = (result[~kept] - 0.5).flatten(1)
    expected = 0.01 * tiles[kept].flatten(1).std(1, unbiased=False).repeat_interleave(2)
    assert torch.allclose(noise.std(1) / expected, torch.tensor(1.0), atol=0.5)
    assert abs(float((noise.std(1) / expected).mean()) - 1) < 0.02


def test_projected_colours_have_no_green_or_magenta_left():
    tiles = 0.3 + 0.4 * torch.rand(2, 3, 5, 5)
    red, green, blue = project_colours(tiles).unbind(1)
    assert torch.allclose(2 * green, red + blue, atol=1e-6)
    assert torch.allclose(red + green + blue, tiles.sum(1), atol=1e-6)
    assert torch.allclose(red - blue, tiles[:, 0] - tiles[:, 2], atol=1e-6)
    grey = torch.rand(2, 1, 5, 5)
    assert torch.equal(project_colours(grey), grey)


def test_a_board_shows_each_tile_in_its_cell():
    tiles, places = torch.rand(2 * 3, 3, 4, 4), torch.tensor([[4, 0], [8, 2], [6, 5]])
    laid = board(tiles, places)
    assert laid.shape == (3, 3, 18, 18)
    for picture in range(3):
        for place in range(9):
            row, column = divmod(place, 3)
            cell = laid[picture, :, row * 6 : row * 6 + 6, column * 6 : column * 6 + 6]
            tile = torch.ones(3, 6, 6)
            if place in places[picture]:
                tile[:, 1:5, 1:5] = tiles[3 * places[picture].tolist().index(place) + picture]
            assert torch.equal(cell, tile)


def test_patches_are_laid_where_they_are_told_and_back():
    images = torch.rand(3, 2, 8, 12)
    places = Draws(0, torch.arange(3)).permutation(6)
    laid = lay(images, places, 4)
    for picture in range(3):
        for place in range(6):
            (r, c), (row, column) = divmod(place, 3), divmod(int(places[picture, place]), 3)
            there = laid[picture, :, r * 4 : r * 4 + 4, c * 4 : c * 4 + 4]
            assert torch.equal(there, images[picture, :, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4])
    assert torch.equal(lay(laid, places.argsort(1), 4), images)


def slow_greedy(n, count):
    every, chosen = list(permutations(range(n))), [tuple(range(n))]
    while len(chosen) < count:
        rest = [p for p in every if p not in chosen]
        distances = {p: [sum(a != b for a, b in zip(p, q, strict=True)) for q in chosen] for p in rest}
        chosen.append(max(rest, key=lambda p: (min(distances[p]), sum(distances[p]))))  # the first of the best
    return chosen


@pytest.mark.parametrize(("n", "count"), [(3, 6), (4, 24), (5, 40)])
def test_permutations_equal_a_slow_greedy_choice(n, count):
    assert [tuple(row) for row in far_permutations(n, count).tolist()] == slow_greedy(n, count)


@pytest.mark.parametrize(("count", "least"), [(24, 7), (100, 6), (1000, 5)])
def test_permutations_are_distinct_and_far_apart(count, least):
    chosen = far_permutations(9, count)
    assert chosen.shape == (count, 9) and len({tuple(row) for row in chosen.tolist()}) == count
    assert torch.equal(chosen.sort(1).values, torch.arange(9).expand(count, -1))
    distances = (chosen[:, None] != chosen).sum(2) + 9 * torch.eye(count, dtype=torch.int64)
    assert distances.min() == least
    far_permutations.cache_clear()
    assert torch.equal(far_permutations(9, 24), far_permutations(9, 100)[:24]), "a smaller set begins a larger one"


@pytest.mark.parametrize("count", [1, 7])
def test_more_permutations_than_there_are_is_an_error(count):
    with pytest.raises(HeadwayError, match=r"2\.\.6 for 3 tiles"):
        far_permutations(3, count)
