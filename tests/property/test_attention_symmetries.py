"""Symmetries of attention for random numbers of heads, widths and numbers of tokens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention, softmax

from headway.errors import HeadwayError
from headway.nn.attention import MultiHeadAttention, set_attention_impl
from headway.nn.rotary import apply_rope, rope_angles

LIGHT = settings(max_examples=25, deadline=None)
impls = st.sampled_from(["manual", "sdpa"])


@st.composite
def attentions(draw):
    """A self-attention module and input tokens, in float64."""
    heads, width, seed = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(0, 1000))
    torch.manual_seed(seed)
    attention = MultiHeadAttention(heads * width, heads, bias=draw(st.booleans()), qk_norm=draw(st.booleans())).double()
    set_attention_impl(attention, draw(impls))
    x = torch.randn(draw(st.integers(1, 3)), draw(st.integers(2, 7)), heads * width, dtype=torch.float64)
    return attention, x


@LIGHT
@given(attentions())
def test_permuted_tokens_give_permuted_outputs(given_):
    attention, x = given_
    order = torch.randperm(x.shape[1])
    torch.testing.assert_close(attention(x[:, order]), attention(x)[:, order])
    weights = attention.trace(x).weights
    torch.testing.assert_close(attention.trace(x[:, order]).weights, weights[:, :, order][..., order])


@LIGHT
@given(attentions(), st.booleans())
def test_masked_tokens_have_no_effect(given_, padded):
    attention, x = given_
    masked = torch.rand(x.shape[:2]) < 0.5  # B S
    masked[:, 0] = False
    masks = {"key_padding_mask": masked} if padded else {"attn_mask": ~masked[:, None, None]}
    other = torch.where(masked[..., None], 100 * torch.randn_like(x), x)
    visible = ~masked
    assert torch.equal(attention(x, **masks)[visible], attention(other, **masks)[visible])
    assert attention.trace(x, **masks).weights.transpose(1, 3)[masked].eq(0).all()
    few = attention(x[:1, visible[0]])  # without the masked tokens
    torch.testing.assert_close(attention(x, **masks)[0][visible[0]], few[0])


@LIGHT
@given(attentions())
def test_rows_sum_to_one(given_):
    attention, x = given_
    weights = attention.trace(x, attn_mask=torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()).weights
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
    assert (weights >= 0).all() and weights[..., 0, 1:].eq(0).all()


@LIGHT
@given(st.integers(1, 9), st.integers(1, 6), impls)
def test_one_attention_head_is_plain_attention(width, count, impl):
    torch.manual_seed(width)
    attention, x = MultiHeadAttention(width, 1).double(), torch.randn(2, count, width, dtype=torch.float64)
    set_attention_impl(attention, impl)
    query, key, value = attention.qkv(x).chunk(3, -1)
    attended = softmax(query @ key.mT / width**0.5, -1) @ value
    torch.testing.assert_close(attention(x), attention.output(attended))


@LIGHT
@given(attentions())
def test_attention_heads_are_independent(given_):
    attention, x = given_
    trace = attention.trace(x)
    for head in range(attention.num_heads):
        single = scaled_dot_product_attention(trace.query[:, head], trace.key[:, head], trace.value[:, head])
        torch.testing.assert_close(trace.head_outputs[:, head], single)
        part = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
        assert torch.equal(trace.concatenated[..., part], trace.head_outputs[:, head])


@LIGHT
@given(st.integers(1, 400), st.integers(-3, 500))
def test_error_suggests_the_nearest_divisors(width, heads):
    if heads > 0 and width % heads == 0:
        assert MultiHeadAttention(width, heads).head_dim == width // heads
        return
    with pytest.raises(HeadwayError, match=f"embed_dim {width} is not divisible by {heads} attention heads") as refusal:
        MultiHeadAttention(width, heads)
    named = [int(word) for word in str(refusal.value).rsplit(" are ", 1)[1].split(", ")]
    others = [n for n in range(1, width + 1) if width % n == 0 and n not in named]
    assert all(width % n == 0 for n in named) and named == sorted(named)
    assert max(abs(n - heads) for n in named) <= min((abs(n - heads) for n in others), default=width + 500)


@LIGHT
@given(st.integers(1, 4), st.integers(0, 3), st.integers(0, 3), st.integers(0, 1000))
def test_rope_products_depend_on_relative_positions_alone(quarter, down, across, seed):
    torch.manual_seed(seed)
    width, grid = 4 * quarter, (8, 8)
    angles = rope_angles(grid, 8, width, torch.zeros(0, dtype=torch.float64)).view(8, 8, -1)  # rows columns d/2
    query, key = torch.randn(2, width, dtype=torch.float64)

    def product(row, column):
        ends = angles[row, column], angles[row + down, column + across]
        q, k = (apply_rope(x, (a.cos(), a.sin())) for x, a in zip((query, key), ends, strict=True))
        assert torch.allclose(q.norm(), query.norm())
        return q @ k

    torch.testing.assert_close(product(0, 0), product(3, 2))
    torch.testing.assert_close(product(0, 0), product(1, 4))
