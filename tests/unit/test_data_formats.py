"""Every file in ``format_samples`` decodes to the expected pixels, or is refused for the right reason, silently."""

import re
import warnings

import numpy as np
import pytest
import torch

from headway.data.decoding.decode import decode_with_notes
from headway.data.decoding.header import read_header
from headway.data.decoding.pillow import PILLOW_FORMATS
from headway.data.decoding.pixel_format import RGB
from headway.data.inspection.scan import scan
from headway.data.open import open_source
from headway.errors import UnreadableImageError
from tests.unit.format_samples import IMAGE, NOTED, READ, REFUSED, SCENE, save

LOSSY = 3.0
"""Mean difference, of 255, that JPEG and color conversions may cause."""


def as_tensor(pixels):
    """H W or H W C -> 3 H W, float."""
    height, width = pixels.shape[:2]
    rgb = np.broadcast_to(pixels.reshape(height, width, -1), (height, width, 3))
    return torch.tensor(rgb.astype(np.float32)).permute(2, 0, 1)


@pytest.fixture(autouse=True)
def _no_output(capfd):
    """No library may print anything."""
    yield
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""


@pytest.mark.parametrize("name", READ)
def test_pixels_are_as_expected(name):
    make, expected = READ[name]
    data = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image, header = decode_with_notes(data), read_header(data)
    assert image.pixels.shape == as_tensor(expected).shape
    difference = (image.pixels.float() - as_tensor(expected)).abs()
    assert float(difference.mean()) < LOSSY and float(difference.median()) <= 4, name
    assert sorted((header.height, header.width)) == sorted(expected.shape[:2])
    assert NOTED.get(name) is None or NOTED[name] in image.notes, image.notes


@pytest.mark.parametrize("name", REFUSED)
def test_refused_files_have_the_right_reason(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, reason = REFUSED[name]
    with warnings.catch_warnings(), pytest.raises(UnreadableImageError) as error:
        warnings.simplefilter("error")
        decode_with_notes(data)
    text = str(error.value)
    assert re.search(reason, text), text
    assert len(text) < 160 and "\n" not in text and "object at" not in text
    assert not list(tmp_path.iterdir())  # no code of the file was run


@pytest.mark.skipif("AVIF" not in PILLOW_FORMATS, reason="this Pillow reads no AVIF")
def test_still_and_animated_avif():
    for options, notes in (
        ({}, ()),
        ({"save_all": True, "append_images": [IMAGE.rotate(9)]}, ("the first of several frames",)),
    ):
        image = decode_with_notes(save(IMAGE, "AVIF", quality=95, **options))
        assert image.notes == notes and float((image.pixels.float() - as_tensor(SCENE)).abs().mean()) < LOSSY


def test_scan_of_all_samples(tmp_path):
    files = {f"{name}.jpg": make() for name, (make, _) in READ.items()}
    files |= {f"{name}.png": data for name, (data, _) in REFUSED.items()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    found = scan(open_source(tmp_path), RGB)
    assert len(found.source_indices) == len(READ)
    assert {name: bool(re.search(REFUSED[name[:-4]][1], reason)) for name, reason in found.skipped} == {
        f"{name}.png": True for name in REFUSED
    }
    notes = {name[:-4]: note for name, note in found.notes}
    assert notes.keys() >= NOTED.keys()
