import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headway.data.source import Source
from headway.measure.knn import knn_accuracy
from headway.samples import KINDS, VERSION, DrawnAnimals, crew, draw, kind_of, write_folder

FROZEN_KINDS = ["bird", "cat", "rabbit", "turtle"]
FROZEN = {
    0: [[222, 172, 177, 175], [163, 142, 107, 93], [99, 65, 78, 82], [114, 110, 96, 84]],
    2: [[235, 203, 224, 217], [236, 194, 192, 213], [140, 137, 116, 100], [147, 140, 127, 127]],
    1000: [[248, 252, 240, 254], [125, 151, 141, 138], [119, 110, 123, 135], [120, 123, 135, 150]],
}
"""Mean brightness of 4 x 4 parts of pictures, by index."""


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**40), index=st.integers(0, 10**9), side=st.integers(32, 96))
def test_a_picture_is_a_function_of_seed_and_index(seed, index, side):
    first, second = draw(seed, index, side), draw(seed, index, side)
    assert first.shape == (side, side, 3)
    assert first.dtype == np.uint8
    assert first.flags.c_contiguous
    assert np.array_equal(first, second)
    assert 0 <= kind_of(seed, index) < len(KINDS)


def test_other_seeds_and_indices_give_other_pictures():
    pictures = [draw(0, 0, 32), draw(0, 1, 32), draw(1, 0, 32)]
    assert len({p.tobytes() for p in pictures}) == 3


def test_every_block_holds_each_kind_once():
    n = len(KINDS)
    assert n >= 10
    for block in range(20):
        assert sorted(kind_of(3, block * n + i) for i in range(n)) == list(range(n))
    assert len({tuple(kind_of(3, block * n + i) for i in range(n)) for block in range(20)}) == 20


def test_the_sky_is_above():
    """Ground is textured and, but for snow, darker than the sky: upright can be told from upside down."""
    rows = torch.stack([DrawnAnimals(120, 32).image(i) for i in range(120)])
    grey = rows.float().mean(1)  # n H W
    top, bottom = grey[:, :6].mean((1, 2)), grey[:, -6:].mean((1, 2))
    assert (top > bottom).float().mean() > 0.8


def test_the_pictures_of_this_version_are_frozen():
    """Results are told apart by VERSION: whoever changes a picture raises it. Coarse means outlive rounding."""
    assert VERSION == 2
    assert [KINDS[kind_of(7, index)] for index in range(4)] == FROZEN_KINDS
    for index, expected in FROZEN.items():
        coarse = draw(7, index, 64).reshape(4, 16, 4, 16, 3).mean((1, 3, 4))  # 4 4
        assert np.abs(coarse - expected).max() < 1.5, np.round(coarse).astype(int).tolist()


def test_large_pictures_show_what_small_ones_show():
    small = draw(0, 5, 64).astype(float)
    large = draw(0, 5, 128).astype(float).reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert abs(small - large).mean() < 12


def test_colours_and_raw_pixels_give_little_away():
    source = DrawnAnimals(1440, 32)
    x = torch.stack([source.image(i) for i in range(1440)]).float()
    y = torch.tensor([kind_of(0, i) for i in range(1440)])
    pixels, colours = x.flatten(1), x.mean((2, 3)) - x.mean((0, 2, 3))
    for features in (pixels, colours):
        assert knn_accuracy(features[:1200], y[:1200], features[1200:], y[1200:], len(KINDS)) < 35


@pytest.mark.parametrize(("index", "side"), [(0, 31), (0, 257), (-1, 64)])
def test_out_of_range_is_refused(index, side):
    with pytest.raises(ValueError, match="side must lie in"):
        draw(0, index, side)


def test_drawn_animals_are_a_source():
    source = DrawnAnimals(25, side=48, seed=7)
    assert isinstance(source, Source)
    assert len(source) == 25
    decoded = np.asarray(Image.open(io.BytesIO(source.read(12))))
    assert np.array_equal(decoded, source.image(12).permute(1, 2, 0).numpy())
    assert source.name(12) == f"drawn/00012-{source.label(12)}.png"
    assert source.label(12) == source.classes[kind_of(7, 12)]
    assert source.stamp() != DrawnAnimals(25, side=48, seed=8).stamp()
    with pytest.raises(IndexError):
        source.image(25)


@pytest.mark.parametrize("stopped", [False, True])
def test_processes_draw_the_same_pixels(monkeypatch, stopped):
    if stopped:  # nobody answers: what is missing is drawn here
        monkeypatch.setattr(crew, "_start", lambda *share: None)
    told = []
    drawn = crew.draw_all(5, 7, 32, lambda done, of: told.append((done, of)), workers=2)
    assert np.array_equal(drawn, np.stack([draw(5, index, 32) for index in range(7)])) and told == [(7, 7)]


def test_what_is_drawn_ahead_is_what_would_be_drawn():
    source, ahead = DrawnAnimals(5, side=32, seed=7), DrawnAnimals(5, side=32, seed=7)
    ahead.draw_ahead()
    assert all(torch.equal(source.image(i), ahead.image(i)) and source.read(i) == ahead.read(i) for i in range(5))


def test_a_process_that_draws_imports_no_torch():
    code = "import sys, headway.samples.crew; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_folder_of_pictures(tmp_path):
    folder = write_folder(tmp_path / "animals", count=2 * len(KINDS), side=32, seed=1)
    assert sorted(p.name for p in folder.iterdir()) == list(KINDS)
    assert len(list(folder.glob("*/*.png"))) == 2 * len(KINDS)
    kind = KINDS[kind_of(1, 0)]
    assert np.array_equal(np.asarray(Image.open(folder / kind / "00000.png")), draw(1, 0, 32))
