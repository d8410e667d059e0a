"""Every kind of file in ``kinds``: seen as it was meant, or skipped for its true reason; no crash, warning or hang."""

import re
import warnings

import numpy as np
import pytest
import torch

from headway.data.check import inspect
from headway.data.decode import read_picture
from headway.data.form import RGB
from headway.data.look import look
from headway.data.open import open_source
from headway.data.pillow import FORMATS
from headway.data.source import Unreadable
from tests.unit.kinds import IMAGE, NOTED, READ, REFUSED, SCENE, save

LOSSY = 3.0
"""Mean difference, of 255, that JPEG and conversions of colour may leave."""


def seen(picture):
    """H W or H W C -> 3 H W, float."""
    height, width = picture.shape[:2]
    colours = np.broadcast_to(picture.reshape(height, width, -1), (height, width, 3))
    return torch.tensor(colours.astype(np.float32)).permute(2, 0, 1)


@pytest.fixture(autouse=True)
def _silence(capfd):
    """Nothing may be printed either, by whatever library."""
    yield
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""


@pytest.mark.parametrize("name", READ)
def test_what_is_to_be_seen(name):
    make, expected = READ[name]
    data = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture, header = read_picture(data), look(data)
    assert picture.pixels.shape == seen(expected).shape
    apart = (picture.pixels.float() - seen(expected)).abs()
    assert float(apart.mean()) < LOSSY and float(apart.median()) <= 4, name
    assert sorted((header.height, header.width)) == sorted(expected.shape[:2])
    assert NOTED.get(name) is None or NOTED[name] in picture.notes, picture.notes


@pytest.mark.parametrize("name", REFUSED)
def test_the_reason_is_the_true_one(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, reason = REFUSED[name]
    with warnings.catch_warnings(), pytest.raises(Unreadable) as fault:
        warnings.simplefilter("error")
        read_picture(data)
    text = str(fault.value)
    assert re.search(reason, text), text
    assert len(text) < 160 and "\n" not in text and "object at" not in text
    assert not list(tmp_path.iterdir())  # nothing ran


@pytest.mark.skipif("AVIF" not in FORMATS, reason="this Pillow reads no AVIF")
def test_avif_still_and_moving():
    for words, notes in (
        ({}, ()),
        ({"save_all": True, "append_images": [IMAGE.rotate(9)]}, ("the first of several frames",)),
    ):
        picture = read_picture(save(IMAGE, "AVIF", quality=95, **words))
        assert picture.notes == notes and float((picture.pixels.float() - seen(SCENE)).abs().mean()) < LOSSY


def test_a_folder_of_them_all(tmp_path):
    files = {f"{name}.jpg": make() for name, (make, _) in READ.items()}
    files |= {f"{name}.png": data for name, (data, _) in REFUSED.items()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    found = inspect(open_source(tmp_path), RGB)
    assert len(found.kept) == len(READ)
    assert {name: bool(re.search(REFUSED[name[:-4]][1], reason)) for name, reason in found.skipped} == {
        f"{name}.png": True for name in REFUSED
    }
    notes = {name[:-4]: note for name, note in found.notes}
    assert notes.keys() >= NOTED.keys()
