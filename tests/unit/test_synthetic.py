import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headway.data.sources.base import Source
from headway.metrics.knn import knn_accuracy
from headway.synthetic import CLASSES, VERSION, DrawnAnimals, class_index, draw_animal, parallel, write_folder

FROZEN_CLASSES = ["bird", "cat", "rabbit", "turtle"]
FROZEN = {
    0: [[222, 172, 177, 175], [163, 142, 107, 93], [99, 65, 78, 82], [114, 110, 96, 84]],
    2: [[235, 203, 224, 217], [236, 194, 192, 213], [140, 137, 116, 100], [147, 140, 127, 127]],
    1000: [[248, 252, 240, 254], [125, 151, 141, 138], [119, 110, 123, 135], [120, 123, 135, 150]],
}
"""Mean brightness of 4 x 4 parts of images, by index."""


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**40), index=st.integers(0, 10**9), side=st.integers(32, 96))
def test_an_image_is_a_function_of_seed_and_index(seed, index, side):
    first, second = draw_animal(seed, index, side), draw_animal(seed, index, side)
    assert first.shape == (side, side, 3)
    assert first.dtype == np.uint8
    assert first.flags.c_contiguous
    assert np.array_equal(first, second)
    assert 0 <= class_index(seed, index) < len(CLASSES)


def test_other_seeds_and_indices_give_other_images():
    images = [draw_animal(0, 0, 32), draw_animal(0, 1, 32), draw_animal(1, 0, 32)]
    assert len({image.tobytes() for image in images}) == 3


def test_every_block_has_each_class_once():
    n = len(CLASSES)
    assert n >= 10
    for block in range(20):
        assert sorted(class_index(3, block * n + i) for i in range(n)) == list(range(n))
    assert len({tuple(class_index(3, block * n + i) for i in range(n)) for block in range(20)}) == 20


def test_the_sky_is_above():
    """The ground is textured and, except for snow, darker than the sky, so rotation can be predicted."""
    rows = torch.stack([DrawnAnimals(120, 32).image(i) for i in range(120)])
    gray = rows.float().mean(1)  # n H W
    top, bottom = gray[:, :6].mean((1, 2)), gray[:, -6:].mean((1, 2))
    assert (top > bottom).float().mean() > 0.8


def test_the_images_of_this_version_are_frozen():
    """A change of these images must increment VERSION. Means over large areas tolerate rounding."""
    assert VERSION == 2
    assert [CLASSES[class_index(7, index)] for index in range(4)] == FROZEN_CLASSES
    for index, expected in FROZEN.items():
        coarse = draw_animal(7, index, 64).reshape(4, 16, 4, 16, 3).mean((1, 3, 4))  # 4 4
        assert np.abs(coarse - expected).max() < 1.5, np.round(coarse).astype(int).tolist()


def test_large_images_show_what_small_ones_show():
    small = draw_animal(0, 5, 64).astype(float)
    large = draw_animal(0, 5, 128).astype(float).reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert abs(small - large).mean() < 12


def test_colors_and_raw_pixels_say_little_about_the_class():
    source = DrawnAnimals(1440, 32)
    x = torch.stack([source.image(i) for i in range(1440)]).float()
    y = torch.tensor([class_index(0, i) for i in range(1440)])
    pixels, colors = x.flatten(1), x.mean((2, 3)) - x.mean((0, 2, 3))
    for features in (pixels, colors):
        assert knn_accuracy(features[:1200], y[:1200], features[1200:], y[1200:], len(CLASSES)) < 35


@pytest.mark.parametrize(("index", "side"), [(0, 31), (0, 257), (-1, 64)])
def test_out_of_range_is_refused(index, side):
    with pytest.raises(ValueError, match="side must lie in"):
        draw_animal(0, index, side)


def test_drawn_animals_are_a_source():
    source = DrawnAnimals(25, side=48, seed=7)
    assert isinstance(source, Source)
    assert len(source) == 25
    decoded = np.asarray(Image.open(io.BytesIO(source.read(12))))
    assert np.array_equal(decoded, source.image(12).permute(1, 2, 0).numpy())
    assert source.name(12) == f"drawn/00012-{source.label(12)}.png"
    assert source.label(12) == source.classes[class_index(7, 12)]
    assert source.version_key() != DrawnAnimals(25, side=48, seed=8).version_key()
    with pytest.raises(IndexError):
        source.image(25)


@pytest.mark.parametrize("stopped", [False, True])
def test_processes_draw_the_same_pixels(monkeypatch, stopped):
    if stopped:  # no worker starts: all is drawn in this process
        monkeypatch.setattr(parallel, "_start_worker", lambda *_: None)
    calls = []
    drawn = parallel.draw_all(5, 7, 32, lambda done, of: calls.append((done, of)), workers=2)
    assert np.array_equal(drawn, np.stack([draw_animal(5, index, 32) for index in range(7)])) and calls == [(7, 7)]


def test_prerendered_images_are_the_same():
    source, rendered = DrawnAnimals(5, side=32, seed=7), DrawnAnimals(5, side=32, seed=7)
    rendered.prerender()
    assert all(torch.equal(source.image(i), rendered.image(i)) and source.read(i) == rendered.read(i) for i in range(5))


def test_a_worker_process_imports_no_torch():
    code = "import sys, headway.synthetic.parallel; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_write_folder(tmp_path):
    folder = write_folder(tmp_path / "animals", count=2 * len(CLASSES), side=32, seed=1)
    assert sorted(p.name for p in folder.iterdir()) == list(CLASSES)
    assert len(list(folder.glob("*/*.png"))) == 2 * len(CLASSES)
    label = CLASSES[class_index(1, 0)]
    assert np.array_equal(np.asarray(Image.open(folder / label / "00000.png")), draw_animal(1, 0, 32))
