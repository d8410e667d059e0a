"""Labeled splits: several labels per image, test sets, and images that stay on disk."""

import pytest
import torch
from PIL import Image

from headway.data.dataset import image_store
from headway.data.dataset.subset import ImageSubset, evenly_spaced_indices, subset
from headway.data.open import open_source, open_test_source
from headway.data.sampling.split import strata
from headway.data.sources.in_memory import ArraySource
from headway.downstream.heads.registry import HEADS
from headway.downstream.labeled_split import load_labeled_split
from headway.downstream.targets import MULTILABEL
from headway.downstream.transfer import train_classifier
from headway.evaluation.evaluator import _FeatureCache
from headway.metrics.intervals import accuracy
from tests.errors import raises
from tests.small import SIDE, make_images, small_backbone


@pytest.fixture
def table(tmp_path):
    """Forty images that are red or not, and bright or not, in a table; two without a label."""
    lines = ["file,label"]
    for index in range(42):
        red, bright = index % 2, index // 2 % 2
        level = 90 + 110 * bright + index
        color = (level, level if not red else level // 4, level if not red else level // 5)
        Image.new("RGB", (20, 20), tuple(min(c, 255) for c in color)).save(tmp_path / f"{index}.png")
        names = [name for name, has in (("red", red), ("bright", bright)) if has]
        lines.append(f"{index}.png,{';'.join(names) or ';'}" if index < 40 else f"{index}.png,")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return open_source(tmp_path / "labels.csv", labeled=True)


def test_several_labels_are_read_split_and_learned(table):
    split = load_labeled_split(table, None, SIDE, target=MULTILABEL)
    assert split.classes == ("bright", "red") and len(split.images) + len(split.test_images) == 40
    both = torch.cat([split.labels, split.test_labels])
    assert both.dtype == torch.float32 and both.sum(0).tolist() == [20, 20] and (both.sum(1) == 0).sum() == 10
    assert all(0 < count < len(split.test_labels) for count in split.test_labels.sum(0))
    classifier, _ = train_classifier(small_backbone(), split.training_set(SIDE), HEADS["linear"], folds=3)
    assert classifier.target is MULTILABEL
    correct = (classifier.predict_proba(split.test_images) >= 0.5) == (split.test_labels > 0)
    assert accuracy(correct.flatten()) > 85
    few = load_labeled_split(table, None, SIDE, target=MULTILABEL, labels_per_class=2)
    assert 2 <= len(few.labels) <= 6
    with raises("backbone-unsupported"):
        train_classifier(small_backbone(), few.training_set(SIDE), HEADS["knn"])


def test_strata_are_the_rarest_labels():
    has = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0], [0, 1, 0.0]])
    assert strata(has).tolist() == [1, 0, 2, 3, 1]
    assert strata(torch.tensor([3, 1])).tolist() == [3, 1]


def test_mapped_images_stay_on_disk_and_give_the_same_classifier(table, monkeypatch):
    in_memory = load_labeled_split(table, None, SIDE)
    monkeypatch.setattr(image_store, "memory_budget", lambda: 0)
    mapped = load_labeled_split(table, None, SIDE)
    assert isinstance(mapped.images, ImageSubset) and mapped.images.images.untyped_storage().filename  # a mapped file
    network = small_backbone()
    classifiers = [
        train_classifier(network, split.training_set(SIDE), HEADS["linear"])[0] for split in (in_memory, mapped)
    ]
    first, second = (
        classifier.predict_proba(split.test_images)
        for classifier, split in zip(classifiers, (in_memory, mapped), strict=True)
    )
    assert torch.equal(first, second)


def test_a_subset_reads_like_a_tensor():
    images = torch.arange(10 * 3 * 2 * 2, dtype=torch.uint8).reshape(10, 3, 2, 2)
    rows = torch.tensor([7, 2, 2, 9, 0])
    some, there = subset(images, rows), images[rows]
    assert len(some) == 5 and some.shape == there.shape and some.dtype == there.dtype
    assert torch.equal(some[torch.tensor([4, 1])], there[[4, 1]]) and torch.equal(some[1:4], there[1:4])
    assert torch.equal(some.index_select(0, torch.tensor([3])), there[3:4])
    assert [part.tolist() for part in some.split(2)] == [part.tolist() for part in there.split(2)]
    assert torch.equal(subset(some, torch.tensor([3, 0]))[:], there[[3, 0]])


def arrays(labels, seed=0):
    return ArraySource(make_images(len(labels), seed=seed), labels)


class Listed(ArraySource):
    """Images whose source lists more classes than occur, as a classes.txt may."""

    classes = ("a", "b", "c", "d")


def test_a_test_set_may_be_of_one_class_and_list_others():
    train = arrays(["a", "b"] * 6)
    assert load_labeled_split(train, arrays(["b"] * 4, 1), SIDE).test_labels.tolist() == [1] * 4
    found = load_labeled_split(train, Listed(make_images(3, seed=1), ["b", "a", "b"]), SIDE)
    assert found.classes == ("a", "b") and found.test_labels.tolist() == [1, 0, 1]
    with raises("class-unknown"):
        load_labeled_split(Listed(make_images(6), ["a", "b"] * 3), Listed(make_images(2, seed=1), ["a", "c"]), SIDE)
    assert len(open_test_source(arrays(["b"] * 4))) == 4 and open_test_source(None) is None


def test_equal_test_images_are_in_one_group():
    same = make_images(12)
    same[3] = same[7]
    split = load_labeled_split(arrays(["a", "b"] * 6, 1), ArraySource(same, ["a", "b"] * 6), SIDE)
    groups = split.interval_groups()
    assert groups[3] == groups[7] and len(set(groups.tolist())) == 11
    assert load_labeled_split(arrays(["a", "b"] * 6, 1), arrays(["a", "b"] * 6, 2), SIDE).interval_groups() is None
    split_off = load_labeled_split(arrays(["a", "b"] * 6, 1), None, SIDE)
    assert split_off.test_set_hash() == load_labeled_split(arrays(["a", "b"] * 6, 1), None, SIDE).test_set_hash() != ""
    assert (
        split_off.test_set_hash() != load_labeled_split(arrays(["a", "b"] * 6, 1), None, SIDE, seed=1).test_set_hash()
    )
    assert split.test_set_hash() == "", "no test set was split off"


def test_training_images_are_not_copied_before_they_are_used(monkeypatch):
    store, seen = subset(make_images(40), torch.arange(40)), []
    monkeypatch.setattr(
        "headway.evaluation.evaluator.extract_features",
        lambda backbone, images, size: seen.append(images) or torch.zeros(len(images), 2),
    )
    cache = _FeatureCache(store, store, SIDE)
    assert cache.at(None, torch.tensor([3, 1])).shape == cache.at(None, torch.tensor([1, 7])).shape == (2, 2)
    assert all(isinstance(images, ImageSubset) for images in seen) and [len(images) for images in seen] == [2, 1]


def test_evenly_spaced_indices_of_alternating_classes_have_all_of_them():
    for count, most in ((20000, 2000), (50000, 5000), (3000, 300)):
        indices = evenly_spaced_indices(count, most)
        assert len(indices) == most and indices == sorted(set(indices)) and indices[-1] < count
        kinds = torch.tensor(indices).remainder(10).bincount(minlength=10)
        assert kinds.min() > 0.5 * most / 10
        assert all(low <= index < low + 10 for low, index in zip(range(0, count, 10), indices, strict=True))
    assert evenly_spaced_indices(5, 9) == [0, 1, 2, 3, 4] and evenly_spaced_indices(0, 3) == []
