"""One real picture through one attention layer, a step at a time, on a page for who has not met attention before.

Steps 1, 2, 7 and 8, which deal with all attention heads at once, stand here; what happens inside one is in
``attention_steps``.
"""

import html
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from headway.nn.attention import MultiHeadAttention
from headway.reports.attention_steps import mix, scale, score, share_out
from headway.reports.lesson import (
    DOT,
    STYLE,
    Cast,
    Explained,
    cast_of,
    figure,
    formula,
    paragraph,
    pieces,
    place,
    products,
    section,
    tall,
)
from headway.reports.matrices import ACROSS, TIMES, beside, number, shape
from headway.reports.overlay import marked, ruled
from headway.reports.page import document


def write_explanation(e: Explained) -> tuple[str, int]:
    """The page, and the attention head that it follows, from 0."""
    cast, total = cast_of(e), len(e.x)
    parts = [_before, _project, _split, score, scale, share_out, mix, _concatenate, _transform, _after]
    model, heads = f"\u201c{html.escape(e.model)}\u201d", e.attention.attention_heads
    ways = f"in {heads} ways at once" if heads > 1 else "in one way"
    header = (
        f'<header><h1>Multi-head attention, step by step</h1><p class="claim">How {total} tokens of one picture look '
        f"at one another {ways}, in layer {e.layer + 1} of the {e.layers} layers of {model}. Nothing is made up: every "
        "number is the network's own, for this picture.</p></header>"
    )
    body = "".join(part(e, cast) for part in parts)
    title = f"Multi-head attention, step by step: {e.model}, layer {e.layer + 1}"
    return document(title, f"{header}<main>{body}</main>\n", STYLE), cast.head


def _before(e: Explained, cast: Cast) -> str:
    (rows, columns), width = e.grid, e.x.shape[1]
    picture = marked(ruled(e.pixels, e.grid), place(e), e.grid)
    extra = ""
    if e.tokens:
        several = f"{len(e.tokens)} more tokens ({', '.join(e.tokens)}) belong"
        count = several if len(e.tokens) > 1 else f"One more token, the {e.tokens[0]}, belongs"
        extra = f"{count} to no patch: room for what concerns the picture as a whole. "
    so_far = (
        "Before the first layer, a token knows its own patch and little else."
        if e.layer == 0
        else f"In the first layer a token knew its own patch and little else; now, after {e.layer} layer"
        f"{'s' if e.layer > 1 else ''}, it has looked around already, and is about to look again."
    )
    heads, d = e.attention.attention_heads, e.attention.head_width
    return section(
        "Before: a picture is rows of numbers",
        paragraph(
            f"The picture is cut into {rows} {TIMES} {columns} = {rows * columns} patches of {e.patch_size} {TIMES} "
            f"{e.patch_size} pixels. For each patch the network keeps a list of {width} numbers, called a "
            f"<b>token</b>: what it knows of that patch so far. {extra}All tokens together are the matrix <b>X</b>: "
            f"{len(e.x)} rows, one a token, and {width} columns. \u201cpatch 1,{columns}\u201d is the patch in row 1 "
            f"and column {columns} of the picture. (What single columns mean, nobody has decided: training, which "
            "changes the network's numbers little by little until they serve, has settled it. Each row has just been "
            "brought to about the same scale.)"
        ),
        beside(
            figure(picture, f"{e.name}, cut into {rows} {TIMES} {columns}", 320),
            tall("X, the tokens", e.x, e, cast, "column "),
        ),
        paragraph(
            f"{so_far} <b>Attention</b> is this looking around: each token decides which others matter to it, and "
            "takes a mixture of what those have to say. Each layer does so once. An <b>attention head</b> is one such "
            f"decision; several are made side by side. We follow one token, <b>{html.escape(cast.who)}</b>: it is "
            "framed in the picture and stands between blue lines in the matrices. Besides it we show the three tokens "
            "that will get the largest shares of its attention. Dots stand for rows and columns that are left out. "
            "Orange is above zero, blue below, and each table has its own scale. Numbers are rounded: yours may differ "
            "in the last digit."
        ),
        paragraph(
            f"Letters: T = {len(e.x)} tokens, D = {width} numbers a token, h = {heads} attention "
            f"head{'s' if heads > 1 else ''} of d = {d} numbers each."
        ),
    )


def _project(e: Explained, cast: Cast) -> str:
    raw, inner, width = _raw(e), e.attention.attention_heads * e.attention.head_width, e.x.shape[1]
    bias = e.attention.qkv.bias is not None
    ways = [f"{m} = X {DOT} W<sub>{m}</sub>" + (f" + b<sub>{m}</sub>" if bias else "") for m in "QKV"]
    added = f" Then the {inner} numbers b<sub>Q</sub> are added to every row; K and V have their own." if bias else ""
    weight, entry = e.attention.qkv.weight.detach()[0], number(float(raw[0][e.token, 0]))
    return section(
        "1. Query, key and value: three roles for each token",
        formula(" &emsp; ".join(ways)),
        paragraph(
            f"W<sub>Q</sub>, W<sub>K</sub> and W<sub>V</sub> are matrices of {width} {TIMES} {inner} numbers that "
            f"training has found; they are the same for every token and every picture. ({shape(e.x)}) {DOT} ({width} "
            f"{TIMES} {inner}) gives {shape(raw[0])}, three times: each token now has three rows.{added}"
        ),
        paragraph(
            "Its row in Q is its <b>query</b>: what it is looking for. Its row in K is its <b>key</b>: what it can "
            "be found by. Its row in V is its <b>value</b>: what it hands over to those who look at it. (As in a "
            "library: you come with a question, compare it with the titles on the spines of books, and read what is "
            "inside those that fit.)"
        ),
        paragraph(
            f"One entry by hand, row {html.escape(cast.who)}, column 1 of Q: the row of X times the first column of "
            f"W<sub>Q</sub>:<br>{products(e.x[e.token], weight)}{_first(e.attention.qkv.bias, 'Q')} = <b>{entry}</b>"
        ),
        beside(
            *(tall(name, m, e, cast) for name, m in zip(("Q, queries", "K, keys", "V, values"), raw, strict=True)),
        ),
    )


def _split(e: Explained, cast: Cast) -> str:
    heads, width, i = e.attention.attention_heads, e.attention.head_width, cast.head + 1
    titles = [f"attention head {n + 1}<br>columns {n * width + 1} to {(n + 1) * width}" for n in range(heads)]
    listed = " | ".join(f"Q<sub>{n + 1}</sub>" for n in range(min(heads, 3))) + (f" | {ACROSS}" if heads > 3 else "")
    changes = []
    if not isinstance(e.attention.query_norm, torch.nn.Identity):
        changes.append("brings the numbers of each query and key piece to the same mean and spread")
    if e.turned:
        changes.append(
            "turns them by an angle that depends on where the patch stands, so that a score can tell how far apart two "
            "patches are"
        )
    also = (
        f"Before it goes on, this network {' and '.join(changes)}; the numbers below are after that. "
        if changes
        else ""
    )
    own = [m[0, cast.head] for m in (e.steps.query, e.steps.key, e.steps.value)]  # T d each
    return section(
        "2. Split into attention heads",
        formula(f"Q = [ {listed} ] &emsp; and K and V likewise"),
        paragraph(
            f"Nothing is computed here; the columns are shared out. The first {width} of the {heads * width} columns "
            f"go to attention head 1, the next {width} to attention head 2, and so on: one matrix of "
            f"{shape(_raw(e)[0])} becomes {heads} of {len(e.x)} {TIMES} {width}. Row {html.escape(cast.who)} of Q, "
            "cut up:"
        ),
        pieces(_raw(e)[0][e.token], width, titles),
        paragraph(
            "From here to step 6 each attention head works with its own pieces and knows nothing of the others, so "
            "each can look for something else. All do the same sums with different numbers, so we follow one, "
            f"<b>attention head {i}</b>. A small {i} below a letter means \u201cthe piece of attention head "
            f"{i}\u201d, whose columns are counted from 1 again. {also}"
        ),
        beside(*(tall(f"{letter}<sub>{i}</sub>", m, e, cast) for letter, m in zip("QKV", own, strict=True))),
    )


def _concatenate(e: Explained, cast: Cast) -> str:
    heads, width, joined = e.attention.attention_heads, e.attention.head_width, e.steps.joined[0]  # T h*d
    listed = " | ".join(f"O<sub>{n + 1}</sub>" for n in range(min(heads, 3))) + (f" | {ACROSS}" if heads > 3 else "")
    return section(
        "7. Concatenate",
        formula(f"O = [ {listed} ]"),
        paragraph(
            f"The opposite of step 2: what the attention heads found is set side by side again. {heads} matrices of "
            f"{len(joined)} {TIMES} {width} become one of {shape(joined)}. Its row {html.escape(cast.who)}:"
        ),
        pieces(joined[e.token], width, [f"from O<sub>{n + 1}</sub>" for n in range(heads)]),
    )


def _transform(e: Explained, cast: Cast) -> str:
    output, joined, linear = e.steps.output[0], e.steps.joined[0], e.attention.output  # T D, T h*d
    weight = linear.weight.detach()
    inner, width = joined.shape[1], output.shape[1]
    return section(
        "8. Linear transformation",
        formula(f"Y = O {DOT} W<sub>O</sub>" + (" + b<sub>O</sub>" if linear.bias is not None else "")),
        paragraph(
            f"Until now no attention head knew what the others had found. One last matrix W<sub>O</sub> of {inner} "
            f"{TIMES} {width} numbers, found by training like the others, mixes them: each number of the result is a "
            f"sum over all {inner} numbers of the row, whichever attention head they came from. ({shape(joined)}) "
            f"{DOT} ({inner} {TIMES} {width}) gives {shape(output)}, the shape that X had, so that another layer can "
            "follow."
        ),
        paragraph(
            f"One entry by hand, row {html.escape(cast.who)}, column 1: the row of O times the first column of "
            f"W<sub>O</sub>:<br>{products(joined[e.token], weight[0])}{_first(linear.bias, 'O')} = "
            f"<b>{number(float(output[e.token, 0]))}</b>"
        ),
        beside(tall("Y, the output", output, e, cast)),
    )


def _after(e: Explained, cast: Cast) -> str:
    heads, largest = e.attention.attention_heads, float((e.steps.output[0] - e.output).abs().max())
    left = e.layers - e.layer - 1
    then = (
        f"{left} more layer{'s' if left > 1 else ''} follow{'' if left > 1 else 's'}, in which the tokens look at one "
        "another again, knowing more."
        if left
        else "This was the last layer: what the tokens know now is what the network says of the picture."
    )
    return section(
        "After",
        paragraph(
            "Y is added to what each token was before its row was brought to scale, so nothing is lost that was known "
            "already. Then every token passes, on its own, through two more linear maps with a function between them "
            "that is not linear (together an MLP, a multi-layer perceptron), and the layer is done. "
            f"{then}"
        ),
        paragraph(
            f"<b>All of it in one line:</b> split into {heads}, softmax(Q{DOT}K<sup>T</sup> / \u221ad){DOT}V in "
            "each, concatenate, transform linearly. <b>And in code</b>, as these numbers were computed. "
            "<code>_split</code> does steps 1 and 2; @ is the matrix product; \u221ad divides the queries rather than "
            "the scores, which comes to the same. <code>masked</code> and <code>thinned</code> change nothing here: no "
            "token is hidden and nothing is dropped. Behind # stand shapes, with B pictures at once and S tokens that "
            "are looked at, here as many as T:"
        ),
        f"<pre>{html.escape(_body(MultiHeadAttention.steps))}</pre>\n",
        paragraph(
            "<b>Check.</b> In its daily work the network computes the same formula in a faster form. For this picture "
            f"that form's output and Y differ by {largest:.7f} at most."
        ),
        paragraph(
            "Vaswani et al., \u201cAttention is all you need\u201d, 2017, "
            '<a href="https://arxiv.org/abs/1706.03762">https://arxiv.org/abs/1706.03762</a>'
        ),
    )


def _raw(e: Explained) -> tuple[Tensor, ...]:
    """Q, K and V before anything else happens to them: T h*d each."""
    with torch.no_grad():
        return e.attention.qkv(e.x).chunk(3, -1)


def _first(bias: Tensor | None, letter: str) -> str:
    """What an entry by hand in column 1 gets from the bias."""
    if bias is None:
        return ""
    return f" + {number(bias[0].item())} (the first number of b<sub>{letter}</sub>)".replace("+ \u2212", "\u2212 ")


def _body(function: Callable[..., Any]) -> str:
    """The source of a function below its docstring."""
    source = inspect.getsource(function).rstrip()
    return textwrap.dedent(source.split('"""')[2].lstrip("\n"))
