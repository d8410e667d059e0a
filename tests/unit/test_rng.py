"""Random numbers per image: uniform, independent of the rest of the batch, repeatable."""

import pytest
import torch
from scipy import stats

from headway.rng import SampleRNG, dropout_mask


def make_rng(count=20_000, seed=0, start=0, step=0):
    return SampleRNG(seed, torch.arange(start, start + count), step)


def test_uniform_and_normal_have_their_distributions():
    rng = make_rng()
    assert stats.kstest(rng.uniform("a").numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest(rng.normal("b", 2).flatten().numpy(), "norm").pvalue > 1e-3
    assert stats.chisquare(torch.bincount(rng.integers("c", 7), minlength=7).numpy()).pvalue > 1e-3
    assert float(rng.bernoulli("d", 0.3).float().mean()) == pytest.approx(0.3, abs=0.02)


def test_images_names_seeds_and_elements_are_uncorrelated():
    a = make_rng(seed=0)
    columns = [a.uniform("a"), a.uniform("b"), make_rng(seed=1).uniform("a"), make_rng(start=1).uniform("a")]
    table = torch.corrcoef(torch.stack([*columns, *make_rng().uniform("a", 3).unbind(1)[1:]]))
    assert (table - torch.eye(len(table))).abs().max() < 0.03


def test_permutations_are_uniform():
    order = make_rng(6000).permutation("order", 3)
    assert torch.equal(order.sort(1).values, torch.arange(3).expand(6000, 3))
    codes = torch.bincount(order @ torch.tensor([9, 3, 1]), minlength=27)
    assert stats.chisquare(codes[codes > 0].numpy()).pvalue > 1e-3 and int((codes > 0).sum()) == 6


def test_numbers_depend_on_the_stream_position_alone():
    whole, part = make_rng(10), make_rng(3, start=4)
    for name, arguments in (("uniform", (2,)), ("normal", (2,)), ("integers", (5,)), ("permutation", (4,))):
        assert torch.equal(getattr(whole, name)(name, *arguments)[4:7], getattr(part, name)(name, *arguments))


def test_named_streams_are_independent():
    a, b = make_rng(10), make_rng(10)
    assert torch.equal(a.fold_in("x").uniform("u"), b.fold_in("x").uniform("u"))
    assert not torch.equal(a.fold_in("x").uniform("u"), a.fold_in("y").uniform("u"))
    assert torch.equal(a.uniform("u"), b.uniform("u"))


def test_a_draw_does_not_depend_on_other_draws():
    alone, among = make_rng(10), make_rng(10)
    among.normal("other", 3)
    among.for_step("other step")
    assert torch.equal(alone.uniform("u", 2), among.uniform("u", 2))
    assert alone.for_step("s").random() == among.for_step("s").random()


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.uniform("u"), lambda rng: rng.normal("u"), lambda rng: rng.integers("u", 3),
        lambda rng: rng.bernoulli("u", 0.5), lambda rng: rng.permutation("u", 3), lambda rng: rng.for_step("u"),
    ],
)  # fmt: skip
def test_a_name_is_drawn_once(draw):
    rng = make_rng(2)
    draw(rng)
    with pytest.raises(RuntimeError, match="'u' was drawn before"):
        draw(rng)


def test_numbers_of_a_step_depend_on_step_and_name_alone():
    first = make_rng(2, step=3).for_step("s").random()
    assert first == make_rng(5, start=7, step=3).for_step("s").random()
    assert first != make_rng(2, step=4).for_step("s").random()
    assert first != make_rng(2, step=3).for_step("t").random()


def test_integers_refuses_invalid_ranges():
    with pytest.raises(ValueError, match="high"):
        make_rng(2).integers("i", 0)


def test_dropout_mask_follows_images_through_views():
    with make_rng(4).use_for_dropout():
        whole = dropout_mask("layer", 8, 0.5, 3)  # two views of four images
    with make_rng(2, start=1).use_for_dropout():
        part = dropout_mask("layer", 4, 0.5, 3)
    assert torch.equal(whole.reshape(2, 4, 3)[:, 1:3].flatten(0, 1), part)
    assert set(whole.unique().tolist()) == {0.0, 2.0}


def test_dropout_mask_needs_an_rng_of_these_images():
    with pytest.raises(RuntimeError, match="needs an RNG"):
        dropout_mask("layer", 4, 0.5)
    with make_rng(3).use_for_dropout(), pytest.raises(RuntimeError, match="no multiple"):
        dropout_mask("layer", 4, 0.5)


def test_dropout_masks_of_one_layer_do_not_depend_on_those_of_another():
    with make_rng(4).use_for_dropout():
        first, second = dropout_mask("attention", 4, 0.5, 9), dropout_mask("attention", 4, 0.5, 9)
    with make_rng(4).use_for_dropout():
        again = dropout_mask("attention", 4, 0.5, 9)
        dropout_mask("drop path", 4, 0.5, 9)
        assert torch.equal(first, again) and torch.equal(second, dropout_mask("attention", 4, 0.5, 9))
    assert not torch.equal(first, second)
