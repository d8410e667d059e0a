"""Labelled pictures: several labels each, and pictures that stay on the disk."""

import pytest
import torch
from PIL import Image

from headway.data import store
from headway.data.arrays import Arrays
from headway.data.open import open_source, open_test
from headway.data.picked import Picked, pick
from headway.data.source import evenly
from headway.data.split import strata
from headway.downstream.labelled import gather_labelled
from headway.downstream.transfer import transfer
from headway.errors import HeadwayError
from headway.measure.metrics import accuracy
from headway.verdict.trial import remembering
from tests.small import SIDE, pictures, small_backbone


@pytest.fixture
def table(tmp_path):
    """Forty pictures that are red or not, and bright or not, in a table; two without a label."""
    lines = ["file,label"]
    for number in range(42):
        red, bright = number % 2, number // 2 % 2
        level = 90 + 110 * bright + number
        colour = (level, level if not red else level // 4, level if not red else level // 5)
        Image.new("RGB", (20, 20), tuple(min(c, 255) for c in colour)).save(tmp_path / f"{number}.png")
        names = [name for name, has in (("red", red), ("bright", bright)) if has]
        lines.append(f"{number}.png,{';'.join(names) or ';'}" if number < 40 else f"{number}.png,")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return open_source(tmp_path / "labels.csv", labelled=True)


def test_several_labels_are_read_split_and_learnt(table):
    pictures = gather_labelled(table, None, SIDE, several=True)
    assert pictures.classes == ("bright", "red") and len(pictures.images) + len(pictures.test_images) == 40
    both = torch.cat([pictures.labels, pictures.test_labels])
    assert both.dtype == torch.float32 and both.sum(0).tolist() == [20, 20] and (both.sum(1) == 0).sum() == 10
    assert all(0 < count < len(pictures.test_labels) for count in pictures.test_labels.sum(0))
    classifier = transfer(
        small_backbone(), pictures.images, pictures.labels, pictures.classes, SIDE, head="linear", folds=3
    )
    assert classifier.several
    right = (classifier.probabilities(pictures.test_images) >= 0.5) == (pictures.test_labels > 0)
    assert accuracy(right.flatten()) > 85
    few = gather_labelled(table, None, SIDE, several=True, per_class_count=2)
    assert 2 <= len(few.labels) <= 6
    with pytest.raises(HeadwayError, match="take another head"):
        transfer(small_backbone(), few.images, few.labels, few.classes, SIDE, head="knn")


def test_strata_are_the_rarest_labels():
    has = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0], [0, 1, 0.0]])
    assert strata(has).tolist() == [1, 0, 2, 3, 1]
    assert strata(torch.tensor([3, 1])).tolist() == [3, 1]


def test_pictures_that_are_mapped_stay_on_the_disk_and_give_the_same(table, monkeypatch):
    inside = gather_labelled(table, None, SIDE)
    monkeypatch.setattr(store, "quarter_of_memory", lambda: 0)
    outside = gather_labelled(table, None, SIDE, side=SIDE)
    assert isinstance(outside.images, Picked) and outside.images.images.untyped_storage().filename  # a mapped file
    network = small_backbone()
    classifiers = [transfer(network, p.images, p.labels, p.classes, SIDE, head="linear") for p in (inside, outside)]
    first, second = (c.probabilities(p.test_images) for c, p in zip(classifiers, (inside, outside), strict=True))
    assert torch.equal(first, second)


def test_picked_reads_like_a_tensor():
    images = torch.arange(10 * 3 * 2 * 2, dtype=torch.uint8).reshape(10, 3, 2, 2)
    rows = torch.tensor([7, 2, 2, 9, 0])
    some, there = pick(images, rows), images[rows]
    assert len(some) == 5 and some.shape == there.shape and some.dtype == there.dtype
    assert torch.equal(some[torch.tensor([4, 1])], there[[4, 1]]) and torch.equal(some[1:4], there[1:4])
    assert torch.equal(some.index_select(0, torch.tensor([3])), there[3:4])
    assert [part.tolist() for part in some.split(2)] == [part.tolist() for part in there.split(2)]
    assert torch.equal(pick(some, torch.tensor([3, 0]))[:], there[[3, 0]])


def arrays(labels, seed=0):
    return Arrays(pictures(len(labels), seed=seed), labels)


class Listed(Arrays):
    """Pictures whose source lists more classes than occur, as a classes.txt may."""

    classes = ("a", "b", "c", "d")


def test_a_test_set_may_be_of_one_class_and_list_others():
    train = arrays(["a", "b"] * 6)
    assert gather_labelled(train, arrays(["b"] * 4, 1), SIDE).test_labels.tolist() == [1] * 4
    found = gather_labelled(train, Listed(pictures(3, seed=1), ["b", "a", "b"]), SIDE)
    assert found.classes == ("a", "b") and found.test_labels.tolist() == [1, 0, 1]
    with pytest.raises(HeadwayError, match="classes that no training picture has: c"):
        gather_labelled(Listed(pictures(6), ["a", "b"] * 3), Listed(pictures(2, seed=1), ["a", "c"]), SIDE)
    assert len(open_test(arrays(["b"] * 4))) == 4 and open_test(None) is None


def test_test_pictures_know_what_belongs_together():
    same = pictures(12)
    same[3] = same[7]
    pictured = gather_labelled(arrays(["a", "b"] * 6, 1), Arrays(same, ["a", "b"] * 6), SIDE)
    groups = pictured.tested_together()
    assert groups[3] == groups[7] and len(set(groups.tolist())) == 11
    assert gather_labelled(arrays(["a", "b"] * 6, 1), arrays(["a", "b"] * 6, 2), SIDE).tested_together() is None
    aside = gather_labelled(arrays(["a", "b"] * 6, 1), None, SIDE)
    assert aside.mark() == gather_labelled(arrays(["a", "b"] * 6, 1), None, SIDE).mark() != ""
    assert aside.mark() != gather_labelled(arrays(["a", "b"] * 6, 1), None, SIDE, seed=1).mark()
    assert pictured.mark() == "", "nothing was set aside"


def test_what_is_learnt_from_is_not_copied_before():
    store = pick(pictures(40), torch.arange(40))
    seen = []
    features = remembering(lambda images: seen.append(images) or torch.zeros(len(images), 2), store)
    assert features(torch.tensor([3, 1])).shape == (2, 2) and features(torch.tensor([1, 7])).shape == (2, 2)
    assert all(isinstance(images, Picked) for images in seen) and [len(images) for images in seen] == [2, 1]


def test_samples_of_classes_that_take_turns_have_all_of_them():
    for count, most in ((20000, 2000), (50000, 5000), (3000, 300)):
        places = evenly(count, most)
        assert len(places) == most and places == sorted(set(places)) and places[-1] < count
        kinds = torch.tensor(places).remainder(10).bincount(minlength=10)
        assert kinds.min() > 0.5 * most / 10
        assert all(low <= place < low + 10 for low, place in zip(range(0, count, 10), places, strict=True))
    assert evenly(5, 9) == [0, 1, 2, 3, 4] and evenly(0, 3) == []
