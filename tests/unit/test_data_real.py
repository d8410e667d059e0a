"""Real images from tars, if they are next to the project."""

from pathlib import Path

import pytest

from headway.data.dataset.image_store import build_store, median_short_side
from headway.data.open import open_source
from tests.errors import raises

SHARED = Path(__file__).parents[3] / "shared"
CIFAR, ANIMALS = SHARED / "cifar10", SHARED / "tiny-animals64"


@pytest.mark.skipif(not CIFAR.is_dir(), reason="no CIFAR-10 beside the project (../shared/cifar10)")
def test_cifar_is_read_from_its_gzipped_tar():
    source = open_source(CIFAR / "test.tar.gz", labeled=True)
    assert len(source) == 10_000 and source.classes[0] == "airplane" and median_short_side(source)[0] == 32
    store = build_store(source, 32, indices=range(0, 10_000, 10))
    assert store.images.shape == (1000, 3, 32, 32) and not store.skipped
    assert source.name(0) == "test.tar.gz/00000.jpg" and source.label(0) == "truck"  # its .cls holds 9
    with raises("no-images", "tar.gz"):
        open_source(CIFAR)


@pytest.mark.skipif(not ANIMALS.is_dir(), reason="no tiny-animals64 beside the project (../shared/tiny-animals64)")
def test_animals_are_read_from_their_tar():
    source = open_source(ANIMALS / "test.tar", labeled=True)
    store = build_store(source, 48)
    assert store.images.shape == (1450, 3, 48, 48) and store.labels.bincount().tolist() == [25] * 58
