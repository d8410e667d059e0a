"""Our multi-head attention is torch's and timm's, in both forms, forwards and backwards, in float64."""

from functools import partial

import pytest
import torch
from timm.layers import Attention
from torch import nn

from headway.draws import Draws
from headway.errors import HeadwayError
from headway.nn.attention import MultiHeadAttention, use_form

FORMS = ("plain", "fused")


def pair(width=24, heads=3, key_width=None, value_width=None, bias=True):
    """Ours and torch's with the same weights."""
    torch.manual_seed(0)
    ours = MultiHeadAttention(width, heads, bias=bias, key_width=key_width, value_width=value_width).double()
    extra = {} if key_width is None else {"kdim": key_width, "vdim": value_width or key_width}
    theirs = nn.MultiheadAttention(width, heads, bias=bias, batch_first=True, dtype=torch.float64, **extra)
    parts = [ours.qkv] if key_width is None else [ours.query, ours.key, ours.value]
    with torch.no_grad():
        if theirs.in_proj_weight is not None:  # torch keeps one matrix where all widths are equal
            theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        else:
            for name, part in zip("qkv", parts, strict=True):
                getattr(theirs, f"{name}_proj_weight").copy_(part.weight)
        theirs.out_proj.weight.copy_(ours.output.weight)
        if bias:
            theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
            theirs.out_proj.bias.copy_(ours.output.bias)
    return ours, theirs


def timm_pair(**choices):
    """Ours and timm's with the same weights."""
    torch.manual_seed(0)
    norm = partial(nn.LayerNorm, eps=1e-6)
    theirs = Attention(24, 3, qkv_bias=True, norm_layer=norm, **choices).double()
    ours = MultiHeadAttention(
        24, 3, head_width=choices.get("attn_head_dim"), qk_norm=choices.get("qk_norm", False)
    ).double()
    names = {"q_norm": "query_norm", "k_norm": "key_norm", "proj": "output"}
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    state = {".".join(names.get(p, p) for p in name.split(".")): t for name, t in theirs.state_dict().items()}
    ours.load_state_dict(state)
    return ours, theirs


def tokens(*shape, seed=1):
    x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x.requires_grad_()


def assert_near(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def assert_same_gradients(one, two, inputs):
    """Of a sum that sees every entry, with respect to the inputs (the same tensors went into both)."""
    for mine, its in zip(
        *(torch.autograd.grad(y.pow(3).sum(), inputs, retain_graph=True) for y in (one, two)), strict=True
    ):
        assert_near(mine, its)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bias", [True, False])
def test_self_attention_and_its_gradients_are_torchs(form, bias):
    ours, theirs = pair(bias=bias)
    use_form(ours, form)
    x = tokens(2, 7, 24)
    out, (reference, weights) = ours(x), theirs(x, x, x, average_attn_weights=False)
    assert_near(out, reference)
    assert_near(ours.steps(x).weights, weights)
    assert_same_gradients(out, reference, [x])
    out.square().sum().backward()
    reference.square().sum().backward()
    assert_near(ours.qkv.weight.grad, theirs.in_proj_weight.grad)
    assert_near(ours.output.weight.grad, theirs.out_proj.weight.grad)
    if bias:
        assert_near(ours.qkv.bias.grad, theirs.in_proj_bias.grad)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("widths", [(10, None), (10, 14), (24, 24)])
def test_cross_attention_and_its_gradients_are_torchs(form, widths):
    ours, theirs = pair(key_width=widths[0], value_width=widths[1])
    use_form(ours, form)
    x, key, value = tokens(2, 3, 24), tokens(2, 5, widths[0], seed=2), tokens(2, 5, widths[1] or widths[0], seed=3)
    out, (reference, weights) = ours(x, key, value), theirs(x, key, value, average_attn_weights=False)
    assert_near(out, reference)
    assert_near(ours.steps(x, key, value).weights, weights)
    assert_same_gradients(out, reference, [x, key, value])
    if widths[1] is None:
        assert_near(ours(x, key), theirs(x, key, key, need_weights=False)[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("choices", [{}, {"qk_norm": True}, {"attn_head_dim": 5}], ids=str)
def test_self_attention_and_its_gradients_are_timms(form, choices):
    ours, theirs = timm_pair(**choices)
    use_form(ours, form)
    x = tokens(2, 7, 24)
    may = torch.ones(7, 7, dtype=torch.bool).tril()
    for mask in (None, may):
        out, reference = ours(x, mask=mask), theirs(x, mask)
        assert_near(out, reference)
        assert_same_gradients(out, reference, [x])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["bool", "additive", "padding", "both", "per attention head"])
def test_masks_are_torchs(form, kind):
    ours, theirs = pair()
    use_form(ours, form)
    x = tokens(2, 6, 24)
    may = torch.ones(6, 6, dtype=torch.bool).tril()
    bias = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    each = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    padding = torch.tensor([[False] * 6, [False] * 3 + [True] * 3])
    closed = torch.zeros_like(bias).masked_fill(~may, float("-inf"))
    mine = {
        "bool": {"mask": may},
        "additive": {"mask": bias},
        "padding": {"padding": padding},
        "both": {"mask": may, "padding": padding},
        "per attention head": {"mask": each, "padding": padding},
    }[kind]
    shut = torch.zeros(padding.shape, dtype=torch.float64).masked_fill(padding, float("-inf"))
    its = {
        "bool": {"attn_mask": ~may},
        "additive": {"attn_mask": bias},
        "padding": {"key_padding_mask": padding},
        "both": {"attn_mask": closed, "key_padding_mask": shut},
        "per attention head": {"attn_mask": each.flatten(0, 1), "key_padding_mask": shut},
    }[kind]
    out, (reference, weights) = ours(x, **mine), theirs(x, x, x, average_attn_weights=False, **its)
    assert_near(out, reference)
    assert_near(ours.steps(x, **mine).weights, weights)
    assert_same_gradients(out, reference, [x])


def test_every_step_has_its_shape_and_the_last_is_the_output():
    ours = MultiHeadAttention(24, 3, key_width=10, value_width=14, head_width=4, qk_norm=True).double()
    x, key, value = tokens(2, 3, 24), tokens(2, 5, 10), tokens(2, 5, 14)
    steps = ours.steps(x, key, value)
    shapes = {name: tuple(tensor.shape) for name, tensor in steps._asdict().items()}
    assert shapes == {
        "query": (2, 3, 3, 4), "key": (2, 3, 5, 4), "value": (2, 3, 5, 4), "scores": (2, 3, 3, 5),
        "weights": (2, 3, 3, 5), "heads": (2, 3, 3, 4), "joined": (2, 3, 12), "output": (2, 3, 24),
    }  # fmt: skip
    assert_near(steps.output, ours(x, key, value))


@pytest.mark.parametrize("form", FORMS)
def test_dropout_takes_its_masks_from_the_draws(form):
    torch.manual_seed(0)
    ours, x = MultiHeadAttention(8, 2, dropout=0.5).double(), tokens(4, 3, 8)
    use_form(ours, form)

    def run(rows):
        with Draws(0, torch.arange(4)[rows]).active():
            return ours(x[rows])

    whole = run(slice(0, 4))
    assert_near(torch.cat([run(slice(0, 1)), run(slice(1, 4))]), whole)  # however the batch is cut
    with Draws(0, torch.arange(4)).active():
        kept = Draws.uniform(Draws(0, torch.arange(4)), 1, 2, 3, 3)[:, 0] >= 0.5  # the same numbers, by hand
        steps = ours.steps(x)
    by_hand = (steps.weights * kept * 2.0) @ steps.value
    assert_near(steps.heads, by_hand)
    assert not torch.allclose(whole, ours.eval()(x))
    assert_near(ours(x), ours.steps(x).output)
    with pytest.raises(RuntimeError, match="needs draws"):
        ours.train()(x)


def test_a_count_that_does_not_divide_names_those_that_do():
    words = "embed_dim 100 is not divisible by 3 attention heads; the nearest counts that divide it are 2, 4, 5"
    with pytest.raises(HeadwayError, match=words):
        MultiHeadAttention(100, 3)
    assert MultiHeadAttention(100, 3, head_width=7).output.weight.shape == (100, 21)
    with pytest.raises(HeadwayError, match="3 attention heads of width 0"):
        MultiHeadAttention(100, 3, head_width=0)


def test_errors_name_shapes():
    x, itself, across = torch.randn(1, 2, 8), MultiHeadAttention(8, 2), MultiHeadAttention(8, 2, key_width=6)
    padding = torch.zeros(1, 5, dtype=torch.bool)
    for attention, inputs, masks, words in (
        (itself, (x, x), {}, "given to attention made for self-attention"),
        (itself, (x[0],), {}, "are B T D, got 2 8"),
        (across, (x,), {}, "no keys were given to attention made for cross-attention"),
        (across, (x, x), {}, "key must be B S D = 1 S 6, got 1 2 8"),
        (across, (x, torch.randn(3, 5, 6)), {}, "key must be B S D = 1 S 6, got 3 5 6"),
        (across, (x, torch.randn(1, 5, 6), torch.randn(1, 4, 6)), {}, "got 5 keys and 4 values"),
        (itself, (x,), {"padding": padding.int()}, "B S of bool .* got 1 5 of torch.int32"),
        (itself, (x,), {"mask": padding.int()}, "got torch.int32"),
    ):
        with pytest.raises(ValueError, match=words):
            attention(*inputs, **masks)
    with pytest.raises(ValueError, match="plain and fused"):
        use_form(itself, "flash")
