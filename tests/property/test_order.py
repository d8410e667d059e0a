"""The order of an epoch: a bijection, another one each epoch and seed, and as good as chance."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from headway.data.order import place_to_index

SEEDS = st.integers(0, 2**62)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 5000), epoch=st.integers(0, 10**6), seed=SEEDS)
def test_every_epoch_shows_every_picture_once(count, epoch, seed):
    places = epoch * count + torch.arange(count)
    assert place_to_index(places, count, seed).sort().values.equal(torch.arange(count))


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 5000), seed=SEEDS, data=st.data())
def test_places_are_looked_up_one_by_one_or_together(count, seed, data):
    places = torch.tensor(data.draw(st.lists(st.integers(0, 3 * count), min_size=1, max_size=8)))
    together = place_to_index(places, count, seed)
    assert together.tolist() == [int(place_to_index(place, count, seed)) for place in places]


@pytest.mark.parametrize("count", [50, 1000, 4097])
def test_epochs_and_seeds_differ(count):
    epochs = place_to_index(torch.arange(3 * count), count, 7).reshape(3, count)
    other = place_to_index(torch.arange(count), count, 8)
    for a, b in ((epochs[0], epochs[1]), (epochs[1], epochs[2]), (epochs[0], other)):
        assert int((a == b).sum()) <= 10  # a random permutation agrees in one place, on average


@pytest.mark.parametrize("count", [3, 10, 17])
def test_every_index_comes_equally_often_at_every_place(count):
    epochs = 20_000 // count
    index = place_to_index(torch.arange(epochs * count), count, 3).reshape(epochs, count)
    seen = torch.stack([(index == value).sum(0) for value in range(count)]).double()  # count count
    expected = epochs / count
    statistic = float(((seen - expected) ** 2 / expected).sum())
    assert statistic < chi2.ppf(0.9999, (count - 1) ** 2)


@pytest.mark.parametrize("count", [1000, 50_000])
def test_neighbours_are_unrelated(count):
    index = place_to_index(torch.arange(count), count, 0).double()
    steps = torch.stack([index[:-1], index[1:]])
    assert abs(float(torch.corrcoef(steps)[0, 1])) < 5 / count**0.5
    cells = (steps[0] * 10 // count * 10 + steps[1] * 10 // count).long().bincount(minlength=100).double()
    assert float(((cells - count / 100) ** 2 / (count / 100)).sum()) < chi2.ppf(0.9999, 99)


@pytest.mark.parametrize("count", [10**12, 2**40 + 1, 2**61 + 5])
def test_huge_counts(count):
    places = torch.randint(0, count, (20_000,), generator=torch.Generator().manual_seed(0))
    index = place_to_index(places, count, 1)
    assert int(index.min()) >= 0 and int(index.max()) < count
    assert len(index.unique()) == len(places.unique())
    tenths = (index // (count // 10)).clamp_max(9).bincount(minlength=10).double()
    assert float(((tenths - 2000) ** 2 / 2000).sum()) < chi2.ppf(0.9999, 9)


def test_the_order_is_fixed_for_ever():
    golden = [8, 7, 3, 2, 4, 5, 6, 0, 1, 9, 2, 0, 8, 5, 3, 7, 4, 1, 6, 9]
    assert place_to_index(torch.arange(20), 10, 0).tolist() == golden  # or no old run could be resumed


def test_faults():
    with pytest.raises(ValueError, match="count"):
        place_to_index(torch.zeros(1, dtype=torch.int64), 0, 0)
    with pytest.raises(ValueError, match="places"):
        place_to_index(torch.tensor([-1]), 5, 0)
    assert place_to_index(torch.empty(0, dtype=torch.int64), 5, 0).shape == (0,)
