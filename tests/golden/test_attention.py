"""Our multi-head attention equals torch's and timm's in outputs and gradients, in both implementations, in float64."""

from functools import partial

import pytest
import torch
from timm.layers import Attention
from torch import nn

from headway.errors import HeadwayError
from headway.nn.attention import MultiHeadAttention, set_attention_impl
from headway.rng import SampleRNG
from tests.errors import raises

IMPLS = ("manual", "sdpa")


def torch_pair(embed_dim=24, num_heads=3, key_dim=None, value_dim=None, bias=True):
    """Our attention and torch's with the same weights."""
    torch.manual_seed(0)
    ours = MultiHeadAttention(embed_dim, num_heads, bias=bias, key_dim=key_dim, value_dim=value_dim).double()
    extra = {} if key_dim is None else {"kdim": key_dim, "vdim": value_dim or key_dim}
    theirs = nn.MultiheadAttention(embed_dim, num_heads, bias=bias, batch_first=True, dtype=torch.float64, **extra)
    parts = [ours.qkv] if key_dim is None else [ours.query, ours.key, ours.value]
    with torch.no_grad():
        if theirs.in_proj_weight is not None:  # torch has one matrix where all widths are equal
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
    """Our attention and timm's with the same weights."""
    torch.manual_seed(0)
    norm = partial(nn.LayerNorm, eps=1e-6)
    theirs = Attention(24, 3, qkv_bias=True, norm_layer=norm, **choices).double()
    ours = MultiHeadAttention(
        24, 3, head_dim=choices.get("attn_head_dim"), qk_norm=choices.get("qk_norm", False)
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
    """Compare the gradients of a sum over all entries with respect to the inputs, which both outputs share."""
    for first, second in zip(
        *(torch.autograd.grad(y.pow(3).sum(), inputs, retain_graph=True) for y in (one, two)), strict=True
    ):
        assert_near(first, second)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("bias", [True, False])
def test_self_attention_and_its_gradients_are_torchs(impl, bias):
    ours, theirs = torch_pair(bias=bias)
    set_attention_impl(ours, impl)
    x = tokens(2, 7, 24)
    out, (reference, weights) = ours(x), theirs(x, x, x, average_attn_weights=False)
    assert_near(out, reference)
    assert_near(ours.trace(x).weights, weights)
    assert_same_gradients(out, reference, [x])
    out.square().sum().backward()
    reference.square().sum().backward()
    assert_near(ours.qkv.weight.grad, theirs.in_proj_weight.grad)
    assert_near(ours.output.weight.grad, theirs.out_proj.weight.grad)
    if bias:
        assert_near(ours.qkv.bias.grad, theirs.in_proj_bias.grad)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dims", [(10, None), (10, 14), (24, 24)])
def test_cross_attention_and_its_gradients_are_torchs(impl, dims):
    ours, theirs = torch_pair(key_dim=dims[0], value_dim=dims[1])
    set_attention_impl(ours, impl)
    x, key, value = tokens(2, 3, 24), tokens(2, 5, dims[0], seed=2), tokens(2, 5, dims[1] or dims[0], seed=3)
    out, (reference, weights) = ours(x, key, value), theirs(x, key, value, average_attn_weights=False)
    assert_near(out, reference)
    assert_near(ours.trace(x, key, value).weights, weights)
    assert_same_gradients(out, reference, [x, key, value])
    if dims[1] is None:
        assert_near(ours(x, key), theirs(x, key, key, need_weights=False)[0])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("choices", [{}, {"qk_norm": True}, {"attn_head_dim": 5}], ids=str)
def test_self_attention_and_its_gradients_are_timms(impl, choices):
    ours, theirs = timm_pair(**choices)
    set_attention_impl(ours, impl)
    x = tokens(2, 7, 24)
    causal = torch.ones(7, 7, dtype=torch.bool).tril()
    for mask in (None, causal):
        out, reference = ours(x, attn_mask=mask), theirs(x, mask)
        assert_near(out, reference)
        assert_same_gradients(out, reference, [x])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("kind", ["bool", "additive", "key_padding_mask", "both", "per attention head"])
def test_masks_are_torchs(impl, kind):
    ours, theirs = torch_pair()
    set_attention_impl(ours, impl)
    x = tokens(2, 6, 24)
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    bias = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    per_head = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    padding = torch.tensor([[False] * 6, [False] * 3 + [True] * 3])
    additive_mask = torch.zeros_like(bias).masked_fill(~causal, float("-inf"))
    our_masks = {
        "bool": {"attn_mask": causal},
        "additive": {"attn_mask": bias},
        "key_padding_mask": {"key_padding_mask": padding},
        "both": {"attn_mask": causal, "key_padding_mask": padding},
        "per attention head": {"attn_mask": per_head, "key_padding_mask": padding},
    }[kind]
    additive_padding = torch.zeros(padding.shape, dtype=torch.float64).masked_fill(padding, float("-inf"))
    their_masks = {
        "bool": {"attn_mask": ~causal},
        "additive": {"attn_mask": bias},
        "key_padding_mask": {"key_padding_mask": padding},
        "both": {"attn_mask": additive_mask, "key_padding_mask": additive_padding},
        "per attention head": {"attn_mask": per_head.flatten(0, 1), "key_padding_mask": additive_padding},
    }[kind]
    out, (reference, weights) = ours(x, **our_masks), theirs(x, x, x, average_attn_weights=False, **their_masks)
    assert_near(out, reference)
    assert_near(ours.trace(x, **our_masks).weights, weights)
    assert_same_gradients(out, reference, [x])


def test_trace_has_the_documented_shapes_and_ends_in_the_output():
    ours = MultiHeadAttention(24, 3, key_dim=10, value_dim=14, head_dim=4, qk_norm=True).double()
    x, key, value = tokens(2, 3, 24), tokens(2, 5, 10), tokens(2, 5, 14)
    trace = ours.trace(x, key, value)
    shapes = {name: tuple(tensor.shape) for name, tensor in trace._asdict().items()}
    assert shapes == {
        "query": (2, 3, 3, 4), "key": (2, 3, 5, 4), "value": (2, 3, 5, 4), "scores": (2, 3, 3, 5),
        "weights": (2, 3, 3, 5), "head_outputs": (2, 3, 3, 4), "concatenated": (2, 3, 12), "output": (2, 3, 24),
    }  # fmt: skip
    assert_near(trace.output, ours(x, key, value))


@pytest.mark.parametrize("impl", IMPLS)
def test_dropout_masks_come_from_the_active_rng(impl):
    torch.manual_seed(0)
    ours, x = MultiHeadAttention(8, 2, dropout=0.5).double(), tokens(4, 3, 8)
    set_attention_impl(ours, impl)

    def run(rows):
        with SampleRNG(0, torch.arange(4)[rows]).use_for_dropout():
            return ours(x[rows])

    whole = run(slice(0, 4))
    assert_near(torch.cat([run(slice(0, 1)), run(slice(1, 4))]), whole)  # however the batch is split
    with SampleRNG(0, torch.arange(4)).use_for_dropout():
        kept = SampleRNG(0, torch.arange(4)).dropout_uniform("attention", 1, 2, 3, 3)[:, 0] >= 0.5  # the same numbers
        trace = ours.trace(x)
    assert_near(trace.head_outputs, (trace.weights * kept * 2.0) @ trace.value)
    assert not torch.allclose(whole, ours.eval()(x))
    assert_near(ours(x), ours.trace(x).output)
    with pytest.raises(RuntimeError, match="needs an RNG"):
        ours.train()(x)


def test_error_suggests_numbers_of_heads_that_divide_the_width():
    words = "embed_dim 100 is not divisible by 3 attention heads; the nearest counts that divide it are 2, 4, 5"
    with pytest.raises(HeadwayError, match=words):
        MultiHeadAttention(100, 3)
    assert MultiHeadAttention(100, 3, head_dim=7).output.weight.shape == (100, 21)
    with raises("value-out-of-range"):
        MultiHeadAttention(100, 3, head_dim=0)


def test_errors_name_shapes():
    x, self_attention, cross_attention = (
        torch.randn(1, 2, 8),
        MultiHeadAttention(8, 2),
        MultiHeadAttention(8, 2, key_dim=6),
    )
    padding = torch.zeros(1, 5, dtype=torch.bool)
    for attention, inputs, masks, words in (
        (self_attention, (x, x), {}, "self-attention takes no keys or values"),
        (self_attention, (x[0],), {}, "must be B T D, got 2 8"),
        (cross_attention, (x,), {}, "needs keys, and none were given"),
        (cross_attention, (x, x), {}, "key must be B S D = 1 S 6, got 1 2 8"),
        (cross_attention, (x, torch.randn(3, 5, 6)), {}, "key must be B S D = 1 S 6, got 3 5 6"),
        (cross_attention, (x, torch.randn(1, 5, 6), torch.randn(1, 4, 6)), {}, "got 5 keys and 4 values"),
        (self_attention, (x,), {"key_padding_mask": padding.int()}, "B S of bool .* got 1 5 of torch.int32"),
        (self_attention, (x,), {"attn_mask": padding.int()}, "got torch.int32"),
    ):
        with pytest.raises(ValueError, match=words):
            attention(*inputs, **masks)
    with pytest.raises(ValueError, match="manual and sdpa"):
        set_attention_impl(self_attention, "flash")
