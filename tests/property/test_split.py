"""Properties of splits for any labels, groups and seed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.data.sampling.split import folds_until, sample_per_class, stratified_folds, stratified_split

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=120).map(torch.tensor)
SEEDS = st.integers(0, 1000)


@settings(max_examples=80, deadline=None)
@given(labels=LABELS, seed=SEEDS, fraction=st.sampled_from([0.05, 0.2, 0.5, 0.9]))
def test_a_split_is_a_partition_with_every_class_on_both_sides(labels, seed, fraction):
    train, test = stratified_split(labels, fraction, seed)
    assert torch.cat([train, test]).sort().values.equal(torch.arange(len(labels)))
    for label in labels.unique():
        count, num_test = int((labels == label).sum()), int((labels[test] == label).sum())
        assert num_test == (0 if count == 1 else min(max(1, round(fraction * count)), count - 1))
    again = stratified_split(labels, fraction, seed)
    assert train.equal(again[0]) and test.equal(again[1])


@settings(max_examples=80, deadline=None)
@given(labels=LABELS, seed=SEEDS, data=st.data())
def test_groups_stay_whole_and_every_class_is_trained_on(labels, seed, data):
    groups = data.draw(st.lists(st.integers(0, 20), min_size=len(labels), max_size=len(labels)))
    train, test = stratified_split(labels, 0.2, seed, groups)
    assert torch.cat([train, test]).sort().values.equal(torch.arange(len(labels)))
    assert not {groups[i] for i in train.tolist()} & {groups[i] for i in test.tolist()}
    assert set(labels[train].tolist()) == set(labels.tolist())


def test_groups_of_one_class_each_are_split_at_the_fraction():
    groups = torch.arange(200) // 5  # 40 groups of 5
    labels = groups % 4
    train, test = stratified_split(labels, 0.2, 0, groups)
    assert len(train) == 160 and labels[test].bincount().tolist() == [10] * 4


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, seed=SEEDS, n=st.integers(1, 30))
def test_a_draw_has_n_images_of_every_class_and_contains_smaller_draws(labels, seed, n):
    drawn = sample_per_class(labels, n, seed)
    assert drawn.equal(drawn.unique())
    for label in labels.unique():
        assert int((labels[drawn] == label).sum()) == min(n, int((labels == label).sum()))
    assert set(drawn.tolist()) <= set(sample_per_class(labels, n + 1, seed).tolist())


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, seed=SEEDS, k=st.integers(2, 7))
def test_folds_hold_out_everything_once_and_spread_classes(labels, seed, k):
    folds = list(stratified_folds(labels, k, seed))
    assert len(folds) == (min(k, len(labels)) if len(labels) > 1 else 0), "one image leaves no training image"
    if folds:
        assert torch.cat([held_out for _, held_out in folds]).sort().values.equal(torch.arange(len(labels)))
    for train, held_out in folds:
        assert torch.cat([train, held_out]).sort().values.equal(torch.arange(len(labels)))
    for label in labels.unique():
        counts = [int((labels[held_out] == label).sum()) for _, held_out in folds] or [0]
        assert max(counts) - min(counts) <= 1
    single_groups = stratified_folds(labels, k, seed, torch.randperm(len(labels)))  # each image is a group
    assert all(torch.equal(a[0], b[0]) for a, b in zip(folds, single_groups, strict=True))


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, seed=SEEDS, k=st.integers(2, 5), data=st.data())
def test_folds_never_divide_a_group(labels, seed, k, data):
    drawn = data.draw(st.lists(st.integers(0, 20), min_size=len(labels), max_size=len(labels)))
    groups = torch.tensor(drawn)
    folds = list(stratified_folds(labels, k, seed, groups))
    assert len(folds) == (min(k, len(set(drawn))) if len(set(drawn)) > 1 else 0)
    for train, held_out in folds:
        assert torch.cat([train, held_out]).sort().values.equal(torch.arange(len(labels)))
        assert not set(groups[train].tolist()) & set(groups[held_out].tolist())
    assert not folds or torch.cat([held_out for _, held_out in folds]).sort().values.equal(torch.arange(len(labels)))


def test_folds_of_groups_spread_classes_and_sizes():
    labels = torch.arange(240) % 4
    groups = torch.where(torch.arange(240) < 120, torch.arange(240) // 4 // 5, torch.arange(240))
    for _, held_out in stratified_folds(labels, 3, 0, groups):  # 6 groups of 20 images, and 120 groups of one image
        assert labels[held_out].bincount().tolist() == [20] * 4


def test_no_folds_if_no_class_has_a_second_group():
    labels = torch.tensor([0, 0, 0, 1, 1])
    assert folds_until(labels, 3, 99, groups=torch.tensor([7, 7, 7, 8, 8])) == []
    assert len(folds_until(labels, 3, 99, groups=torch.tensor([7, 7, 9, 8, 8]))) == 3
    assert len(folds_until(labels, 3, 99)) == 3


def test_seeds_differ():
    labels = torch.arange(200) % 4
    assert not stratified_split(labels, seed=0)[1].equal(stratified_split(labels, seed=1)[1])
    assert not sample_per_class(labels, 5, 0).equal(sample_per_class(labels, 5, 1))
    assert not next(iter(stratified_folds(labels, 5, 0)))[1].equal(next(iter(stratified_folds(labels, 5, 1)))[1])


def test_invalid_arguments():
    labels = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="fraction"):
        stratified_split(labels, 1.0)
    with pytest.raises(ValueError, match="groups"):
        stratified_split(labels, groups=[1])
    with pytest.raises(ValueError, match="n must"):
        sample_per_class(labels, 0)
    with pytest.raises(ValueError, match="k must"):
        next(stratified_folds(labels, 1))
    with pytest.raises(ValueError, match="1 groups for 2"):
        next(stratified_folds(labels, 2, groups=torch.tensor([1])))


def test_a_small_group_is_tested_on_rather_than_a_giant_one():
    labels = torch.zeros(100, dtype=torch.int64)
    groups = torch.tensor([0] * 90 + [1] * 5 + [2] * 5)
    assert all(len(stratified_split(labels, seed=seed, groups=groups)[1]) <= 10 for seed in range(12))
