"""Steps 1, 2, 7 and 8 of the attention tutorial, which concern all attention heads at once."""

import html

import torch
from torch import Tensor

from headway.attention_viz.matrix_tables import ELLIPSIS, TIMES, format_number, format_shape, side_by_side
from headway.attention_viz.tutorial_parts import (
    DOT,
    Focus,
    WorkedExample,
    formula,
    head_slices,
    paragraph,
    section,
    sum_of_products,
    token_rows,
)


def projection_section(e: WorkedExample, focus: Focus) -> str:
    """Step 1: queries, keys and values."""
    raw, inner, dim = _projections(e), e.attention.num_heads * e.attention.head_dim, e.x.shape[1]
    bias = e.attention.qkv.bias is not None
    formulas = [f"{m} = X {DOT} W<sub>{m}</sub>" + (f" + b<sub>{m}</sub>" if bias else "") for m in "QKV"]
    added = f" Then the {inner} numbers b<sub>Q</sub> are added to every row; K and V have their own." if bias else ""
    weight, entry = e.attention.qkv.weight.detach()[0], format_number(float(raw[0][e.token, 0]))
    named = zip(("Q, queries", "K, keys", "V, values"), raw, strict=True)
    return section(
        "1. Query, key and value: three roles for each token",
        formula(" &emsp; ".join(formulas)),
        paragraph(
            f"W<sub>Q</sub>, W<sub>K</sub> and W<sub>V</sub> are matrices of {dim} {TIMES} {inner} numbers that were "
            f"learned in training; they are the same for every token and every image. ({format_shape(e.x)}) {DOT} "
            f"({dim} {TIMES} {inner}) gives {format_shape(raw[0])}, three times: each token now has three rows.{added}"
        ),
        paragraph(
            "A token's row in Q is its <b>query</b>: what it searches for. Its row in K is its <b>key</b>: what "
            "queries are compared with. Its row in V is its <b>value</b>: what it passes to tokens that attend to it. "
            "(As in a library: you come with a question, compare it with the titles on the spines of books, and read "
            "those that fit.)"
        ),
        paragraph(
            f"One entry by hand, row {html.escape(focus.token_name)}, column 1 of Q: the row of X times the first "
            f"column of W<sub>Q</sub>:<br>{sum_of_products(e.x[e.token], weight)}"
            f"{_bias_term(e.attention.qkv.bias, 'Q')} = <b>{entry}</b>"
        ),
        side_by_side(*(token_rows(name, matrix, e, focus) for name, matrix in named)),
    )


def split_section(e: WorkedExample, focus: Focus) -> str:
    """Step 2: the columns are divided among the attention heads."""
    heads, d, i = e.attention.num_heads, e.attention.head_dim, focus.head + 1
    titles = [f"attention head {n + 1}<br>columns {n * d + 1} to {(n + 1) * d}" for n in range(heads)]
    changes = []
    if not isinstance(e.attention.query_norm, torch.nn.Identity):
        changes.append("normalizes each query and key to the same mean and standard deviation")
    if e.uses_rope:
        changes.append(
            "rotates them by an angle that depends on the position of the patch, so that a score depends on the "
            "distance of two patches"
        )
    also = (
        f"Before the next step, this network {' and '.join(changes)}; the numbers below are after that. "
        if changes
        else ""
    )
    own = [m[0, focus.head] for m in (e.trace.query, e.trace.key, e.trace.value)]  # T d each
    return section(
        "2. Split into attention heads",
        formula(f"Q = [ {_listed('Q', heads)} ] &emsp; and K and V likewise"),
        paragraph(
            f"This step computes nothing; it divides the columns. The first {d} of the {heads * d} columns go to "
            f"attention head 1, the next {d} to attention head 2, and so on: one matrix of "
            f"{format_shape(_projections(e)[0])} becomes {heads} of {len(e.x)} {TIMES} {d}. Row "
            f"{html.escape(focus.token_name)} of Q, split:"
        ),
        head_slices(_projections(e)[0][e.token], d, titles),
        paragraph(
            "From here to step 6 each attention head works on its own columns, independently of the others, so each "
            "can attend to something else. All do the same calculation with different numbers, so we follow one, "
            f"<b>attention head {i}</b>. A small {i} below a letter means \u201cthe part of attention head "
            f"{i}\u201d, whose columns are counted from 1 again. {also}"
        ),
        side_by_side(*(token_rows(f"{m}<sub>{i}</sub>", part, e, focus) for m, part in zip("QKV", own, strict=True))),
    )


def concatenate_section(e: WorkedExample, focus: Focus) -> str:
    """Step 7: the outputs of the attention heads, side by side."""
    heads, d, joined = e.attention.num_heads, e.attention.head_dim, e.trace.concatenated[0]  # T h*d
    return section(
        "7. Concatenate",
        formula(f"O = [ {_listed('O', heads)} ]"),
        paragraph(
            f"The opposite of step 2: the outputs of the attention heads are set side by side again. {heads} matrices "
            f"of {len(joined)} {TIMES} {d} become one of {format_shape(joined)}. Its row "
            f"{html.escape(focus.token_name)}:"
        ),
        head_slices(joined[e.token], d, [f"from O<sub>{n + 1}</sub>" for n in range(heads)]),
    )


def output_section(e: WorkedExample, focus: Focus) -> str:
    """Step 8: the output projection."""
    output, joined, linear = e.trace.output[0], e.trace.concatenated[0], e.attention.output  # T D, T h*d
    weight = linear.weight.detach()
    inner, dim = joined.shape[1], output.shape[1]
    return section(
        "8. Linear transformation",
        formula(f"Y = O {DOT} W<sub>O</sub>" + (" + b<sub>O</sub>" if linear.bias is not None else "")),
        paragraph(
            "Until now the attention heads were independent. One last learned matrix W<sub>O</sub> of "
            f"{inner} {TIMES} {dim} numbers mixes their outputs: each number of the result is a sum over all {inner} "
            f"numbers of the row, from every attention head. ({format_shape(joined)}) {DOT} ({inner} {TIMES} {dim}) "
            f"gives {format_shape(output)}, the shape of X, so that another layer can follow."
        ),
        paragraph(
            f"One entry by hand, row {html.escape(focus.token_name)}, column 1: the row of O times the first column of "
            f"W<sub>O</sub>:<br>{sum_of_products(joined[e.token], weight[0])}{_bias_term(linear.bias, 'O')} = "
            f"<b>{format_number(float(output[e.token, 0]))}</b>"
        ),
        side_by_side(token_rows("Y, the output", output, e, focus)),
    )


def _listed(letter: str, heads: int) -> str:
    """The parts of up to three attention heads."""
    parts = [f"{letter}<sub>{n + 1}</sub>" for n in range(min(heads, 3))]
    return " | ".join(parts) + (f" | {ELLIPSIS}" if heads > 3 else "")


def _projections(e: WorkedExample) -> tuple[Tensor, ...]:
    """Q, K and V before normalization and rotation: T h*d each."""
    with torch.no_grad():
        return e.attention.qkv(e.x).chunk(3, -1)


def _bias_term(bias: Tensor | None, letter: str) -> str:
    """The term of the bias in an entry of column 1."""
    if bias is None:
        return ""
    term = f" + {format_number(bias[0].item())} (the first number of b<sub>{letter}</sub>)"
    return term.replace("+ \u2212", "\u2212 ")
