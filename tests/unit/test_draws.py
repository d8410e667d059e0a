"""Chance per picture: uniform, independent of company, repeatable."""

import pytest
import torch
from scipy import stats

from headway.draws import Draws, keep_mask


def draws(count=20_000, seed=0, start=0, step=0):
    return Draws(seed, torch.arange(start, start + count), step)


def test_uniform_and_normal_have_their_distributions():
    d = draws()
    assert stats.kstest(d.uniform().numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest(d.normal(2).flatten().numpy(), "norm").pvalue > 1e-3
    assert stats.chisquare(torch.bincount(d.integers(7), minlength=7).numpy()).pvalue > 1e-3
    assert float(d.chance(0.3).float().mean()) == pytest.approx(0.3, abs=0.02)


def test_neighbours_calls_seeds_and_elements_are_unrelated():
    a = draws(seed=0)
    columns = [a.uniform(), a.uniform(), draws(seed=1).uniform(), draws(start=1).uniform()]
    table = torch.corrcoef(torch.stack([*columns, *draws().uniform(3).unbind(1)[1:]]))
    assert (table - torch.eye(len(table))).abs().max() < 0.03


def test_permutations_are_permutations_and_all_alike():
    order = draws(6000).permutation(3)
    assert torch.equal(order.sort(1).values, torch.arange(3).expand(6000, 3))
    codes = torch.bincount(order @ torch.tensor([9, 3, 1]), minlength=27)
    assert stats.chisquare(codes[codes > 0].numpy()).pvalue > 1e-3 and int((codes > 0).sum()) == 6


def test_numbers_depend_on_place_and_not_on_company():
    whole, part = draws(10), draws(3, start=4)
    for name, arguments in (("uniform", (2,)), ("normal", (2,)), ("integers", (5,)), ("permutation", (4,))):
        assert torch.equal(getattr(whole, name)(*arguments)[4:7], getattr(part, name)(*arguments))


def test_forks_have_numbers_of_their_own_and_do_not_disturb():
    a, b = draws(10), draws(10)
    assert torch.equal(a.fork("x").uniform(), b.fork("x").uniform())
    assert not torch.equal(a.fork("x").uniform(), a.fork("y").uniform())
    assert torch.equal(a.uniform(), b.uniform())


def test_step_is_the_same_everywhere_and_moves_with_the_step():
    assert draws(2, step=3).step.random() == draws(5, start=7, step=3).step.random()
    assert draws(2, step=3).step.random() != draws(2, step=4).step.random()


def test_integers_refuses_ranges_it_cannot_fill():
    with pytest.raises(ValueError, match="high"):
        draws(2).integers(0)


def test_keep_mask_follows_pictures_through_views():
    with draws(4).active():
        whole = keep_mask(8, 0.5, 3)  # two views of four pictures
    with draws(2, start=1).active():
        part = keep_mask(4, 0.5, 3)
    assert torch.equal(whole.reshape(2, 4, 3)[:, 1:3].flatten(0, 1), part)
    assert set(whole.unique().tolist()) == {0.0, 2.0}


def test_keep_mask_needs_draws_of_these_pictures():
    with pytest.raises(RuntimeError, match="needs draws"):
        keep_mask(4, 0.5)
    with draws(3).active(), pytest.raises(RuntimeError, match="no multiple"):
        keep_mask(4, 0.5)
