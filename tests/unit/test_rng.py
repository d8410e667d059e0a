"""Random numbers per image: uniform, independent of the rest of the batch, repeatable."""

import pytest
import torch
from scipy import stats

from headway.rng import SampleRNG, dropout_mask


def make_rng(count=20_000, seed=0, start=0, step=0):
    return SampleRNG(seed, torch.arange(start, start + count), step)


def test_uniform_and_normal_have_their_distributions():
    rng = make_rng()
    assert stats.kstest(rng.uniform().numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest(rng.normal(2).flatten().numpy(), "norm").pvalue > 1e-3
    assert stats.chisquare(torch.bincount(rng.integers(7), minlength=7).numpy()).pvalue > 1e-3
    assert float(rng.bernoulli(0.3).float().mean()) == pytest.approx(0.3, abs=0.02)


def test_images_calls_seeds_and_elements_are_uncorrelated():
    a = make_rng(seed=0)
    columns = [a.uniform(), a.uniform(), make_rng(seed=1).uniform(), make_rng(start=1).uniform()]
    table = torch.corrcoef(torch.stack([*columns, *make_rng().uniform(3).unbind(1)[1:]]))
    assert (table - torch.eye(len(table))).abs().max() < 0.03


def test_permutations_are_uniform():
    order = make_rng(6000).permutation(3)
    assert torch.equal(order.sort(1).values, torch.arange(3).expand(6000, 3))
    codes = torch.bincount(order @ torch.tensor([9, 3, 1]), minlength=27)
    assert stats.chisquare(codes[codes > 0].numpy()).pvalue > 1e-3 and int((codes > 0).sum()) == 6


def test_numbers_depend_on_the_stream_position_alone():
    whole, part = make_rng(10), make_rng(3, start=4)
    for name, arguments in (("uniform", (2,)), ("normal", (2,)), ("integers", (5,)), ("permutation", (4,))):
        assert torch.equal(getattr(whole, name)(*arguments)[4:7], getattr(part, name)(*arguments))


def test_named_streams_are_independent():
    a, b = make_rng(10), make_rng(10)
    assert torch.equal(a.fold_in("x").uniform(), b.fold_in("x").uniform())
    assert not torch.equal(a.fold_in("x").uniform(), a.fold_in("y").uniform())
    assert torch.equal(a.uniform(), b.uniform())


def test_step_rng_depends_on_the_step_alone():
    assert make_rng(2, step=3).step_rng.random() == make_rng(5, start=7, step=3).step_rng.random()
    assert make_rng(2, step=3).step_rng.random() != make_rng(2, step=4).step_rng.random()


def test_integers_refuses_invalid_ranges():
    with pytest.raises(ValueError, match="high"):
        make_rng(2).integers(0)


def test_dropout_mask_follows_images_through_views():
    with make_rng(4).use_for_dropout():
        whole = dropout_mask(8, 0.5, 3)  # two views of four images
    with make_rng(2, start=1).use_for_dropout():
        part = dropout_mask(4, 0.5, 3)
    assert torch.equal(whole.reshape(2, 4, 3)[:, 1:3].flatten(0, 1), part)
    assert set(whole.unique().tolist()) == {0.0, 2.0}


def test_dropout_mask_needs_an_rng_of_these_images():
    with pytest.raises(RuntimeError, match="needs an RNG"):
        dropout_mask(4, 0.5)
    with make_rng(3).use_for_dropout(), pytest.raises(RuntimeError, match="no multiple"):
        dropout_mask(4, 0.5)
