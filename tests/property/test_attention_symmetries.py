"""What attention must not notice, and what it must: for any count of heads, width and number of tokens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention, softmax

from headway.errors import HeadwayError
from headway.nn.attention import MultiHeadAttention, use_form
from headway.nn.rotary import grid_angles, turn

LIGHT = settings(max_examples=25, deadline=None)
forms = st.sampled_from(["plain", "fused"])


@st.composite
def attentions(draw):
    """Self-attention and some tokens for it, in float64."""
    heads, width, seed = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(0, 1000))
    torch.manual_seed(seed)
    attention = MultiHeadAttention(heads * width, heads, bias=draw(st.booleans()), qk_norm=draw(st.booleans())).double()
    use_form(attention, draw(forms))
    x = torch.randn(draw(st.integers(1, 3)), draw(st.integers(2, 7)), heads * width, dtype=torch.float64)
    return attention, x


@LIGHT
@given(attentions())
def test_permuted_tokens_give_permuted_answers(given_):
    attention, x = given_
    order = torch.randperm(x.shape[1])
    torch.testing.assert_close(attention(x[:, order]), attention(x)[:, order])
    weights = attention.steps(x).weights
    torch.testing.assert_close(attention.steps(x[:, order]).weights, weights[:, :, order][..., order])


@LIGHT
@given(attentions(), st.booleans())
def test_masked_tokens_never_matter(given_, padded):
    attention, x = given_
    hidden = torch.rand(x.shape[:2]) < 0.5  # B S
    hidden[:, 0] = False
    asked = {"padding": hidden} if padded else {"mask": ~hidden[:, None, None]}
    other = torch.where(hidden[..., None], 100 * torch.randn_like(x), x)
    seen = ~hidden
    assert torch.equal(attention(x, **asked)[seen], attention(other, **asked)[seen])
    assert attention.steps(x, **asked).weights.transpose(1, 3)[hidden].eq(0).all()
    few = attention(x[:1, seen[0]])  # as if they had never been there
    torch.testing.assert_close(attention(x, **asked)[0][seen[0]], few[0])


@LIGHT
@given(attentions())
def test_rows_sum_to_one(given_):
    attention, x = given_
    weights = attention.steps(x, mask=torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()).weights
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
    assert (weights >= 0).all() and weights[..., 0, 1:].eq(0).all()


@LIGHT
@given(st.integers(1, 9), st.integers(1, 6), forms)
def test_one_attention_head_is_plain_attention(width, count, form):
    torch.manual_seed(width)
    attention, x = MultiHeadAttention(width, 1).double(), torch.randn(2, count, width, dtype=torch.float64)
    use_form(attention, form)
    query, key, value = attention.qkv(x).chunk(3, -1)
    seen = softmax(query @ key.mT / width**0.5, -1) @ value
    torch.testing.assert_close(attention(x), attention.output(seen))


@LIGHT
@given(attentions())
def test_attention_heads_do_not_know_of_one_another(given_):
    attention, x = given_
    steps = attention.steps(x)
    for head in range(attention.attention_heads):
        alone = scaled_dot_product_attention(steps.query[:, head], steps.key[:, head], steps.value[:, head])
        torch.testing.assert_close(steps.heads[:, head], alone)
        piece = slice(head * attention.head_width, (head + 1) * attention.head_width)
        assert torch.equal(steps.joined[..., piece], steps.heads[:, head])


@LIGHT
@given(st.integers(1, 400), st.integers(-3, 500))
def test_counts_that_do_not_divide_are_told_which_do(width, heads):
    if heads > 0 and width % heads == 0:
        assert MultiHeadAttention(width, heads).head_width == width // heads
        return
    with pytest.raises(HeadwayError, match=f"embed_dim {width} is not divisible by {heads} attention heads") as refusal:
        MultiHeadAttention(width, heads)
    named = [int(word) for word in str(refusal.value).rsplit(" are ", 1)[1].split(", ")]
    others = [n for n in range(1, width + 1) if width % n == 0 and n not in named]
    assert all(width % n == 0 for n in named) and named == sorted(named)
    assert max(abs(n - heads) for n in named) <= min((abs(n - heads) for n in others), default=width + 500)


@LIGHT
@given(st.integers(1, 4), st.integers(0, 3), st.integers(0, 3), st.integers(0, 1000))
def test_turned_products_depend_on_the_distance_alone(quarter, down, across, seed):
    torch.manual_seed(seed)
    width, grid = 4 * quarter, (8, 8)
    angles = grid_angles(grid, 8, width, torch.zeros(0, dtype=torch.float64)).view(8, 8, -1)  # rows columns d/2
    query, key = torch.randn(2, width, dtype=torch.float64)

    def product(row, column):
        ends = angles[row, column], angles[row + down, column + across]
        q, k = (turn(x, (a.cos(), a.sin())) for x, a in zip((query, key), ends, strict=True))
        assert torch.allclose(q.norm(), query.norm())
        return q @ k

    torch.testing.assert_close(product(0, 0), product(3, 2))
    torch.testing.assert_close(product(0, 0), product(1, 4))
