"""Numbers, tables and figures of the steps of the attention tutorial; ``tutorial.html.j2`` holds its text."""

from typing import Any

import torch
from torch import Tensor

from headway.attention_viz.matrix_tables import TIMES, format_number, format_shape, matrix_excerpt
from headway.attention_viz.tutorial_parts import (
    MAX_COLUMNS,
    Focus,
    WorkedExample,
    head_slices,
    map_figures,
    sum_of_products,
    token_pairs,
    token_rows,
)


def linear_steps(e: WorkedExample, focus: Focus) -> dict[str, Any]:
    """Steps 1, 2, 7 and 8, which concern all attention heads at once."""
    qkv, linear, d = e.attention.qkv, e.attention.output, e.attention.head_dim
    with torch.no_grad():
        raw = qkv(e.x).chunk(3, -1)  # T h*d each, before normalization and rotation
    own = [part[0, focus.head] for part in (e.trace.query, e.trace.key, e.trace.value)]  # T d each
    joined, output = e.trace.concatenated[0], e.trace.output[0]  # T h*d, T D
    return {
        "x_shape": format_shape(e.x), "raw_shape": format_shape(raw[0]), "inner": raw[0].shape[1],
        "raw": [token_rows(part, e, focus) for part in raw], "own": [token_rows(part, e, focus) for part in own],
        "query_products": sum_of_products(e.x[e.token], qkv.weight.detach()[0]), "query_bias": _bias_term(qkv.bias),
        "query_entry": format_number(float(raw[0][e.token, 0])),
        "query_slices": head_slices(raw[0][e.token], d), "joined_slices": head_slices(joined[e.token], d),
        "normalizes": not isinstance(e.attention.query_norm, torch.nn.Identity),
        "joined_shape": format_shape(joined), "output_shape": format_shape(output),
        "output_products": sum_of_products(joined[e.token], linear.weight.detach()[0]),
        "output_bias": _bias_term(linear.bias), "output_entry": format_number(float(output[e.token, 0])),
        "output": token_rows(output, e, focus),
    }  # fmt: skip


def head_steps(e: WorkedExample, focus: Focus) -> dict[str, Any]:
    """Steps 3 to 6, inside one attention head: scores, scale, softmax, weighted sum."""
    trace, head, top = e.trace, focus.head, focus.top_token
    query, key, value = trace.query[0, head], trace.key[0, head], trace.value[0, head]  # T d each
    raw, scaled, weights, outputs = query @ key.T, trace.scores[0, head], trace.weights[0, head], trace.head_outputs
    root, entry = e.attention.head_dim**0.5, float(scaled[e.token, top])
    return {
        "query_shape": format_shape(query), "key_shape": format_shape(key.T), "score_shape": format_shape(raw),
        "score_products": sum_of_products(query[e.token], key[top]),
        "score_entry": format_number(float(raw[e.token, top])), "scores": token_pairs(raw, e, focus),
        "root": f"{root:.2f}", "unscaled_entry": format_number(entry * root), "scaled_entry": format_number(entry),
        "scaled": token_pairs(scaled, e, focus), "softmax": _softmax_rows(e, focus),
        "weights": token_pairs(weights, e, focus, decimals=3), "maps": map_figures(e),
        "value_shape": format_shape(value), "head_output": token_rows(outputs[0, head], e, focus),
        "weighted_sum": _weighted_sum(e, focus),
    }  # fmt: skip


def _weighted_sum(e: WorkedExample, focus: Focus) -> dict[str, Any]:
    """The output of the followed token as a sum of values times shares."""
    row, values = e.trace.weights[0, focus.head, e.token], e.trace.value[0, focus.head]  # T, T d
    total, top = e.trace.head_outputs[0, focus.head, e.token], focus.ranked(row)  # d
    parts = [row[t] * values[t] for t in top]
    stack = torch.stack([*parts, total - sum(parts, torch.zeros_like(total)), total])  # 6 d
    names = [f"{float(row[t]):.3f} {TIMES} value of {focus.all_names[t]}" for t in top]
    names += [f"the {len(row) - len(top)} others, added up", "sum"]
    columns = range(min(MAX_COLUMNS, values.shape[1]))
    numbers = [str(column + 1) for column in columns]
    return matrix_excerpt(stack, range(len(stack)), names, columns, numbers, highlighted=len(stack) - 1)


def _softmax_rows(e: WorkedExample, focus: Focus) -> list[list[str]]:
    """Softmax of the row of the focus, name and four cells each: the tokens shown, all others, and the sum."""
    scores, row = e.trace.scores[0, focus.head, e.token], e.trace.weights[0, focus.head, e.token]  # T, T
    largest, shown = float(scores.max()), focus.ranked(row)
    others, powers = [token for token in range(len(row)) if token not in shown], (scores - largest).exp()
    lines = []
    for token in shown:
        score = float(scores[token])
        numbers = [format_number(score, 3), format_number(score - largest, 3)]
        lines.append([focus.all_names[token], *numbers, f"{float(powers[token]):.3f}", f"{float(row[token]):.3f}"])
    for name, chosen in ((f"the {len(others)} others, added up", others), ("sum", [*shown, *others])):
        lines.append([name, "", "", f"{float(powers[chosen].sum()):.3f}", f"{float(row[chosen].sum()):.3f}"])
    return lines


def _bias_term(bias: Tensor | None) -> str:
    """The term of the bias in an entry of column 1, with its sign; empty without a bias."""
    return "" if bias is None else f"+ {format_number(bias[0].item())}".replace("+ \N{MINUS SIGN}", "\N{MINUS SIGN} ")
