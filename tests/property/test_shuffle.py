"""The shuffle: a bijection, different for each epoch and seed, and statistically like a random one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from headway.data.sampling.shuffle import shuffled_index

SEEDS = st.integers(0, 2**62)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 5000), epoch=st.integers(0, 10**6), seed=SEEDS)
def test_every_epoch_contains_every_index_once(count, epoch, seed):
    positions = epoch * count + torch.arange(count)
    assert shuffled_index(positions, count, seed).sort().values.equal(torch.arange(count))


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 5000), seed=SEEDS, data=st.data())
def test_single_positions_equal_a_batch_of_positions(count, seed, data):
    positions = torch.tensor(data.draw(st.lists(st.integers(0, 3 * count), min_size=1, max_size=8)))
    together = shuffled_index(positions, count, seed)
    assert together.tolist() == [int(shuffled_index(position, count, seed)) for position in positions]


@pytest.mark.parametrize("count", [50, 1000, 4097])
def test_epochs_and_seeds_differ(count):
    epochs = shuffled_index(torch.arange(3 * count), count, 7).reshape(3, count)
    other = shuffled_index(torch.arange(count), count, 8)
    for a, b in ((epochs[0], epochs[1]), (epochs[1], epochs[2]), (epochs[0], other)):
        assert int((a == b).sum()) <= 10  # random permutations agree at one position, on average


@pytest.mark.parametrize("count", [3, 10, 17])
def test_every_index_is_equally_frequent_at_every_position(count):
    epochs = 20_000 // count
    index = shuffled_index(torch.arange(epochs * count), count, 3).reshape(epochs, count)
    observed = torch.stack([(index == value).sum(0) for value in range(count)]).double()  # count count
    expected = epochs / count
    statistic = float(((observed - expected) ** 2 / expected).sum())
    assert statistic < chi2.ppf(0.9999, (count - 1) ** 2)


@pytest.mark.parametrize("count", [1000, 50_000])
def test_consecutive_indices_are_uncorrelated(count):
    index = shuffled_index(torch.arange(count), count, 0).double()
    steps = torch.stack([index[:-1], index[1:]])
    assert abs(float(torch.corrcoef(steps)[0, 1])) < 5 / count**0.5
    cells = (steps[0] * 10 // count * 10 + steps[1] * 10 // count).long().bincount(minlength=100).double()
    assert float(((cells - count / 100) ** 2 / (count / 100)).sum()) < chi2.ppf(0.9999, 99)


@pytest.mark.parametrize("count", [10**12, 2**40 + 1, 2**61 + 5])
def test_huge_counts(count):
    positions = torch.randint(0, count, (20_000,), generator=torch.Generator().manual_seed(0))
    index = shuffled_index(positions, count, 1)
    assert int(index.min()) >= 0 and int(index.max()) < count
    assert len(index.unique()) == len(positions.unique())
    tenths = (index // (count // 10)).clamp_max(9).bincount(minlength=10).double()
    assert float(((tenths - 2000) ** 2 / 2000).sum()) < chi2.ppf(0.9999, 9)


def test_the_order_never_changes():
    golden = [8, 7, 3, 2, 4, 5, 6, 0, 1, 9, 2, 0, 8, 5, 3, 7, 4, 1, 6, 9]
    assert shuffled_index(torch.arange(20), 10, 0).tolist() == golden  # otherwise old runs could not be resumed


def test_invalid_arguments():
    with pytest.raises(ValueError, match="count"):
        shuffled_index(torch.zeros(1, dtype=torch.int64), 0, 0)
    with pytest.raises(ValueError, match="positions"):
        shuffled_index(torch.tensor([-1]), 5, 0)
    assert shuffled_index(torch.empty(0, dtype=torch.int64), 5, 0).shape == (0,)
