"""Steps 3 to 6 of the attention tutorial, inside one attention head: scores, scale, softmax, weighted sum."""

import html

import torch

from headway.attention_viz.matrix_tables import (
    ELLIPSIS,
    TIMES,
    format_number,
    format_shape,
    matrix_excerpt,
    side_by_side,
)
from headway.attention_viz.tutorial_parts import (
    DOT,
    MAX_COLUMNS,
    Focus,
    WorkedExample,
    formula,
    map_figures,
    paragraph,
    section,
    sum_of_products,
    token_pairs,
    token_rows,
)


def scores_section(e: WorkedExample, focus: Focus) -> str:
    """Step 3: Q K^T."""
    i, query, key = focus.head + 1, e.trace.query[0, focus.head], e.trace.key[0, focus.head]  # T d
    raw = query @ key.T  # T T
    who, other = html.escape(focus.token_name), html.escape(focus.all_names[focus.top_token])
    return section(
        "3. Scores: how well a query fits a key",
        formula(f"R<sub>{i}</sub> = Q<sub>{i}</sub> {DOT} K<sub>{i}</sub><sup>T</sup>"),
        paragraph(
            f"K<sup>T</sup> is K transposed, its rows and columns exchanged, so ({format_shape(query)}) {DOT} "
            f"({format_shape(key.T)}) gives {format_shape(raw)}: one number for every pair of tokens. The row is the "
            "token that attends, the column the token that is attended to. A score is large where the query of the "
            "first and the key of the second have large numbers of the same sign in the same columns, and below zero "
            "where their signs disagree."
        ),
        paragraph(
            f"One entry by hand, row {who}, column {other}: the products of query and key, number by "
            f"number, are added up:<br>{sum_of_products(query[e.token], key[focus.top_token])} = "
            f"<b>{format_number(float(raw[e.token, focus.top_token]))}</b>"
        ),
        side_by_side(token_pairs(f"R<sub>{i}</sub>, raw scores", raw, e, focus)),
    )


def scale_section(e: WorkedExample, focus: Focus) -> str:
    """Step 4: / sqrt(d)."""
    i, d, scaled = focus.head + 1, e.attention.head_dim, e.trace.scores[0, focus.head]  # T T
    root, entry = d**0.5, float(scaled[e.token, focus.top_token])
    return section(
        "4. Scale",
        formula(f"S<sub>{i}</sub> = R<sub>{i}</sub> / \u221ad &emsp; with d = {d}, so \u221ad = {root:.2f}"),
        paragraph(
            f"Every raw score is a sum of {d} products. The more numbers of mixed signs are added, the farther from "
            f"zero the sum tends to lie: typically \u221a{d} times as far as one of them. Division by \u221a{d} "
            "compensates for this, so scores have about the same size whatever the width of an attention head. Without "
            "it, the next step would give nearly everything to the token with the largest score. Small changes of the "
            "scores would then have almost no effect, and training, which relies on small changes, would stall. The "
            f"shape stays {format_shape(scaled)}."
        ),
        paragraph(
            f"The same entry by hand, row {html.escape(focus.token_name)}, column "
            f"{html.escape(focus.all_names[focus.top_token])}: {format_number(entry * root)} / {root:.2f} = "
            f"<b>{format_number(entry)}</b>"
        ),
        side_by_side(token_pairs(f"S<sub>{i}</sub>, scaled scores", scaled, e, focus)),
    )


def softmax_section(e: WorkedExample, focus: Focus) -> str:
    """Step 5: softmax."""
    i, weights = focus.head + 1, e.trace.weights[0, focus.head]  # T T
    who = html.escape(focus.token_name)
    other_heads = (
        f" Each attention head has its own row for this token; we follow attention head {i}."
        if e.attention.num_heads > 1
        else ""
    )
    power = f"e<sup>S<sub>{i}</sub>[r, %s]</sup>"
    return section(
        "5. Softmax: scores become shares",
        formula(f"A<sub>{i}</sub>[r, s] = {power % 's'} / ( {power % '1'} + {power % '2'} + \N{HORIZONTAL ELLIPSIS} + "
                f"{power % len(e.x)} )"),
        paragraph(
            f"Row by row (r is the token that attends, s the token that is attended to): e = 2.718{ELLIPSIS} to the "
            "power of a score is always above zero, and grows fast with the score. Each power is divided by the sum of "
            "the powers of its row, so the row adds up to 1: it says how a token divides its attention. These shares "
            f"are the <b>attention weights</b>. Here is row {who}:"
        ),
        side_by_side(_softmax_table(e, focus)),
        paragraph("(First the largest score of the row is subtracted from all of them. This divides every power by the "
                  "same number, so no share changes: only differences between scores count. It keeps the powers from "
                  "overflowing.) The same row in the whole matrix, with those of the other tokens that we show:"),
        side_by_side(token_pairs(f"A<sub>{i}</sub>, attention weights", weights, e, focus, decimals=3)),
        paragraph(f"And row {who} as a map over the image: dark is a share of zero, the brightest yellow the "
                  f"largest share in that map.{other_heads}"),
        side_by_side(*map_figures(e)),
    )  # fmt: skip


def weighted_sum_section(e: WorkedExample, focus: Focus) -> str:
    """Step 6: A V."""
    i, weights = focus.head + 1, e.trace.weights[0, focus.head]  # T T
    values, heads = e.trace.value[0, focus.head], e.trace.head_outputs[0, focus.head]  # T d, T d
    row = weights[e.token]  # T
    top, count = focus.ranked(row), min(MAX_COLUMNS, values.shape[1])
    parts = [row[t] * values[t] for t in top]
    stack = torch.stack([*parts, heads[e.token] - sum(parts, torch.zeros_like(values[0])), heads[e.token]])  # 6 d
    names = [f"{float(row[t]):.3f} {TIMES} value of {focus.all_names[t]}" for t in top]
    names += [f"the {len(row) - len(top)} others, added up", "sum"]
    table = matrix_excerpt(
        f"row {html.escape(focus.token_name)} of O<sub>{i}</sub>, by hand", stack, range(len(stack)), names,
        range(count), [str(c + 1) for c in range(count)], highlighted=len(stack) - 1, show_shape=False,
    )  # fmt: skip
    return section(
        "6. Weighted sum: values times shares",
        formula(f"O<sub>{i}</sub> = A<sub>{i}</sub> {DOT} V<sub>{i}</sub>"),
        paragraph(
            f"For every token, the values of all tokens are added up, each times its share: ({format_shape(weights)}) "
            f"{DOT} ({format_shape(values)}) gives {format_shape(heads)}. A token with a share near zero contributes "
            "almost nothing. This is the only step in which information passes from one token to another; the steps "
            "before determine the shares."
        ),
        side_by_side(table, token_rows(f"O<sub>{i}</sub>, output of attention head {i}", heads, e, focus)),
    )


def _softmax_table(e: WorkedExample, focus: Focus) -> str:
    """Softmax of the row of the focus: the tokens shown, all others, and the sum."""
    scores, row = e.trace.scores[0, focus.head, e.token], e.trace.weights[0, focus.head, e.token]  # T, T
    largest, shown = float(scores.max()), focus.ranked(row)
    others, powers = [token for token in range(len(row)) if token not in shown], (scores - largest).exp()
    lines = ["<tr><th>token</th><th>score</th><th>minus the largest</th><th>e to that power</th><th>share</th></tr>"]
    for token in shown:
        value = float(scores[token])
        lines.append(
            f"<tr><th>{html.escape(focus.all_names[token])}</th><td>{format_number(value, 3)}</td>"
            f"<td>{format_number(value - largest, 3)}</td><td>{float(powers[token]):.3f}</td>"
            f"<td>{float(row[token]):.3f}</td></tr>"
        )
    for name, chosen in ((f"the {len(others)} others, added up", others), ("sum", [*shown, *others])):
        lines.append(
            f"<tr><th>{name}</th><td></td><td></td><td>{float(powers[chosen].sum()):.3f}</td>"
            f"<td>{float(row[chosen].sum()):.3f}</td></tr>"
        )
    name = f"row {html.escape(focus.token_name)} of attention head {focus.head + 1}"
    return f'<div class="matrix"><div class="name">{name}</div><table>{"".join(lines)}</table></div>'
