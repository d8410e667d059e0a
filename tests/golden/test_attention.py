"""Our multi-head attention is torch's, in both forms, forwards and backwards, in float64."""

import pytest
import torch
from torch import nn

from headway.errors import HeadwayError
from headway.nn.attention import MultiHeadAttention, use_form

FORMS = ("plain", "fused")


def pair(width=24, heads=3, context_width=None, bias=True):
    """Ours and torch's with the same weights."""
    torch.manual_seed(0)
    ours = MultiHeadAttention(width, heads, bias=bias, context_width=context_width).double()
    extra = {} if context_width is None else {"kdim": context_width, "vdim": context_width}
    theirs = nn.MultiheadAttention(width, heads, bias=bias, batch_first=True, dtype=torch.float64, **extra)
    with torch.no_grad():
        if context_width is None:
            theirs.in_proj_weight.copy_(ours.qkv.weight)
            biases = [ours.qkv.bias]
        else:
            theirs.q_proj_weight.copy_(ours.query.weight)
            for mine, half in zip(
                (theirs.k_proj_weight, theirs.v_proj_weight), ours.key_value.weight.chunk(2), strict=True
            ):
                mine.copy_(half)
            biases = [ours.query.bias, ours.key_value.bias]
        theirs.out_proj.weight.copy_(ours.output.weight)
        if bias:
            theirs.in_proj_bias.copy_(torch.cat(biases))
            theirs.out_proj.bias.copy_(ours.output.bias)
    return ours, theirs


def assert_near(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bias", [True, False])
def test_self_attention_and_its_gradients(form, bias):
    ours, theirs = pair(bias=bias)
    use_form(ours, form)
    x = torch.randn(2, 7, 24, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    out, (reference, weights) = ours(x), theirs(y, y, y, average_attn_weights=False)
    assert_near(out, reference)
    assert_near(ours.weights(x), weights)
    out.square().sum().backward()
    reference.square().sum().backward()
    assert_near(x.grad, y.grad)
    assert_near(ours.qkv.weight.grad, theirs.in_proj_weight.grad)
    assert_near(ours.output.weight.grad, theirs.out_proj.weight.grad)
    if bias:
        assert_near(ours.qkv.bias.grad, theirs.in_proj_bias.grad)


@pytest.mark.parametrize("form", FORMS)
def test_cross_attention_and_its_gradients(form):
    ours, theirs = pair(context_width=10)
    use_form(ours, form)
    x, context = (torch.randn(2, n, d, dtype=torch.float64, requires_grad=True) for n, d in ((3, 24), (5, 10)))
    out, reference = ours(x, context), theirs(x, context, context, need_weights=False)[0]
    assert_near(out, reference)
    for mine, its in zip(*(torch.autograd.grad(o.square().sum(), (x, context)) for o in (out, reference)), strict=True):
        assert_near(mine, its)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("additive", [False, True])
def test_masks(form, additive):
    ours, theirs = pair()
    use_form(ours, form)
    x = torch.randn(2, 6, 24, dtype=torch.float64)
    may = torch.ones(6, 6, dtype=torch.bool).tril()
    mask = torch.zeros(6, 6, dtype=torch.float64).masked_fill(~may, float("-inf")) if additive else may
    assert_near(ours(x, mask=mask), theirs(x, x, x, attn_mask=~may, need_weights=False)[0])
    assert ours.weights(x, mask=mask)[..., ~may].eq(0).all()


def test_a_count_that_does_not_divide_names_those_that_do():
    words = "embed_dim 100 is not divisible by 3 attention heads; the nearest counts that divide it are 2, 4, 5"
    with pytest.raises(HeadwayError, match=words):
        MultiHeadAttention(100, 3)


def test_context_must_fit_the_kind_of_attention():
    x = torch.randn(1, 2, 8)
    with pytest.raises(ValueError, match="a context was given to attention made for self-attention"):
        MultiHeadAttention(8, 2)(x, x)
    with pytest.raises(ValueError, match="no context was given to attention made for cross-attention"):
        MultiHeadAttention(8, 2, context_width=8)(x)
    with pytest.raises(ValueError, match="plain and fused"):
        use_form(MultiHeadAttention(8, 2), "flash")
