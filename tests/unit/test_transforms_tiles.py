"""Tiles: positions, color transforms, and permutations with large Hamming distances."""

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F

from headway.errors import HeadwayError
from headway.rng import SampleRNG
from headway.transforms.patches import permute_patches
from headway.transforms.permutations import max_hamming_permutations
from headway.transforms.pixels import to_float01
from headway.transforms.tiles import (
    NUM_CELLS,
    Tiles,
    assemble_tiles,
    drop_channels,
    normalize_tiles,
    project_colors,
    tile_size_for,
)
from tests.errors import raises

PLAIN = Tiles(scale=(1.0, 1.0), gap=0.2, jitter=0.0, flip_prob=0.0)


def noise(batch, height, width=None):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, 3, height, width or height), generator=generator, dtype=torch.uint8)


def test_tiles_without_jitter_are_centered_in_their_cells():
    boxes = PLAIN.boxes(SampleRNG(0, torch.arange(1)), 30, 30)[0]
    assert boxes.tolist() == [[1 + 10 * row, 1 + 10 * column, 8, 8] for row in range(3) for column in range(3)]


@pytest.mark.parametrize(("height", "width"), [(24, 24), (36, 50), (337, 336)])
@pytest.mark.parametrize(("gap", "jitter"), [(0.0, 0.5), (0.15, 0.5), (1 / 3, 0.15), (0.9, 0.5)])
def test_tiles_start_at_whole_pixels_of_their_own_cell(height, width, gap, jitter):
    tiles, positions = Tiles(scale=(0.5, 1.0), gap=gap, jitter=jitter), torch.arange(200)
    squares = Tiles(scale=(0.5, 1.0), gap=0.0, jitter=0.0).boxes(SampleRNG(0, positions), height, width)
    boxes = tiles.boxes(SampleRNG(0, positions), height, width)
    assert torch.equal(boxes, boxes.round())
    widths = set()
    for image_boxes, square in zip(boxes.tolist(), squares.tolist(), strict=True):
        side = square[8][0] + square[8][2] - square[0][0]  # of tiles that fill their cells, to within a pixel
        assert len({tuple(box[2:]) for box in image_boxes}) == 1, "tiles of an image differ in size"
        widths.add(image_boxes[0][2])
        for index, (top, left, tile, _) in enumerate(image_boxes):
            assert top >= 0 and left >= 0 and top + tile <= height and left + tile <= width
            row, column = divmod(index, 3)
            for start, cell, origin in ((top, row, square[0][0]), (left, column, square[0][1])):
                middle = origin + side * (2 * cell + 1) / 6
                assert abs(start + tile / 2 - middle) <= jitter * gap * side / 3 + 2
    assert len(widths) > 1 or gap == 0.9


@pytest.mark.parametrize("stored", [24, 96])
def test_tiles_equal_a_loop_over_images_and_cells(stored):
    images, positions, tiles = noise(4, stored), torch.arange(4), Tiles()
    order = SampleRNG(1, positions).permutation("order", NUM_CELLS)[:, :5]
    result = tiles(images, SampleRNG(0, positions), 12, order).unflatten(0, (5, 4))
    rng = SampleRNG(0, positions)
    flipped, boxes = rng.bernoulli("flip", 0.5), tiles.boxes(rng, stored, stored)
    assert flipped.any() and not flipped.all()
    for i in range(4):
        image = to_float01(images[i : i + 1])
        image = image.flip(3) if flipped[i] else image
        for view in range(5):
            top, left, height, width = boxes[i, order[i, view]].int().tolist()
            crop = image[:, :, top : top + height, left : left + width]
            expected = F.interpolate(crop, (12, 12), mode="bilinear", antialias=True)[0]
            assert torch.allclose(result[view, i], expected, atol=1e-5)


def test_default_is_all_nine_tiles_row_by_row():
    images, order = noise(2, 30), torch.arange(9).expand(2, -1)
    result = PLAIN(images, SampleRNG(0, torch.arange(2)), 8)
    assert torch.equal(result, PLAIN(images, SampleRNG(0, torch.arange(2)), 8, order))
    assert torch.equal(result[2 * 5], to_float01(images[:, :, 11:19, 21:29])[0])


def test_tile_size_is_whole_patches_near_a_third():
    sides = {(16, 4): 8, (32, 4): 12, (32, 8): 16, (64, 8): 24, (224, 16): 80, (64, 32): 32, (16, 32): 32}
    assert {(size, patch): tile_size_for(size, patch) for size, patch in sides} == sides


def test_invalid_parameters_are_refused():
    for invalid in ({"scale": (0.0, 1.0)}, {"gap": 1.0}, {"jitter": 0.6}, {"flip_prob": -0.1}):
        with pytest.raises(HeadwayError, match=f"tiles {next(iter(invalid))}"):
            Tiles(**invalid)


def test_normalized_tiles_have_equal_mean_and_std():
    tiles = 0.3 + 0.1 * torch.rand(6, 3, 12, 12) * torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)
    result = normalize_tiles(tiles)
    assert torch.allclose(result.mean((2, 3)), torch.tensor(0.5), atol=1e-5)
    assert torch.allclose(result.std((2, 3), unbiased=False)[:, 2], torch.tensor(0.2), atol=1e-5)
    assert torch.equal(normalize_tiles(torch.full((1, 3, 4, 4), 0.9)), torch.full((1, 3, 4, 4), 0.5))
    faint = normalize_tiles(0.5 + 0.001 * torch.randn(1, 3, 8, 8))
    assert faint.std() < 0.02, "noise is amplified"


def test_one_channel_is_kept_and_the_others_are_weak_noise():
    tiles = torch.rand(3 * 200, 3, 6, 6)
    result = drop_channels(tiles, SampleRNG(0, torch.arange(200)))
    kept = (result == tiles).flatten(2).all(2)
    assert (kept.sum(1) == 1).all() and torch.allclose(kept.float().mean(0), torch.tensor(1 / 3), atol=0.06)
    noise = (result[~kept] - 0.5).flatten(1)
    expected = 0.01 * tiles[kept].flatten(1).std(1, unbiased=False).repeat_interleave(2)
    assert torch.allclose(noise.std(1) / expected, torch.tensor(1.0), atol=0.5)
    assert abs(float((noise.std(1) / expected).mean()) - 1) < 0.02


def test_projected_colors_have_no_green_magenta_component():
    tiles = 0.3 + 0.4 * torch.rand(2, 3, 5, 5)
    red, green, blue = project_colors(tiles).unbind(1)
    assert torch.allclose(2 * green, red + blue, atol=1e-6)
    assert torch.allclose(red + green + blue, tiles.sum(1), atol=1e-6)
    assert torch.allclose(red - blue, tiles[:, 0] - tiles[:, 2], atol=1e-6)
    gray = torch.rand(2, 1, 5, 5)
    assert torch.equal(project_colors(gray), gray)


def test_assemble_tiles_shows_each_tile_in_its_cell():
    tiles, cells = torch.rand(2 * 3, 3, 4, 4), torch.tensor([[4, 0], [8, 2], [6, 5]])
    grid = assemble_tiles(tiles, cells)
    assert grid.shape == (3, 3, 18, 18)
    for image in range(3):
        for index in range(9):
            row, column = divmod(index, 3)
            cell = grid[image, :, row * 6 : row * 6 + 6, column * 6 : column * 6 + 6]
            tile = torch.ones(3, 6, 6)
            if index in cells[image]:
                tile[:, 1:5, 1:5] = tiles[3 * cells[image].tolist().index(index) + image]
            assert torch.equal(cell, tile)


def test_permute_patches_moves_patches_and_can_be_inverted():
    images = torch.rand(3, 2, 8, 12)
    positions = SampleRNG(0, torch.arange(3)).permutation("positions", 6)
    permuted = permute_patches(images, positions, 4)
    for image in range(3):
        for index in range(6):
            (r, c), (row, column) = divmod(index, 3), divmod(int(positions[image, index]), 3)
            patch = permuted[image, :, r * 4 : r * 4 + 4, c * 4 : c * 4 + 4]
            assert torch.equal(patch, images[image, :, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4])
    assert torch.equal(permute_patches(permuted, positions.argsort(1), 4), images)


def slow_greedy(n, count):
    every, selected = list(permutations(range(n))), [tuple(range(n))]
    while len(selected) < count:
        rest = [p for p in every if p not in selected]
        distances = {p: [sum(a != b for a, b in zip(p, q, strict=True)) for q in selected] for p in rest}
        selected.append(max(rest, key=lambda p: (min(distances[p]), sum(distances[p]))))  # the first of equal ones
    return selected


@pytest.mark.parametrize(("n", "count"), [(3, 6), (4, 24), (5, 40)])
def test_permutations_equal_a_slow_greedy_selection(n, count):
    assert [tuple(row) for row in max_hamming_permutations(n, count).tolist()] == slow_greedy(n, count)


@pytest.mark.parametrize(("count", "min_distance"), [(24, 7), (100, 6), (1000, 5)])
def test_permutations_are_distinct_with_large_distances(count, min_distance):
    selected = max_hamming_permutations(9, count)
    assert selected.shape == (count, 9) and len({tuple(row) for row in selected.tolist()}) == count
    assert torch.equal(selected.sort(1).values, torch.arange(9).expand(count, -1))
    distances = (selected[:, None] != selected).sum(2) + 9 * torch.eye(count, dtype=torch.int64)
    assert distances.min() == min_distance
    max_hamming_permutations.cache_clear()
    assert torch.equal(max_hamming_permutations(9, 24), max_hamming_permutations(9, 100)[:24])  # a prefix


@pytest.mark.parametrize("count", [1, 7])
def test_impossible_numbers_of_permutations_are_refused(count):
    with raises("value-out-of-range"):
        max_hamming_permutations(3, count)
