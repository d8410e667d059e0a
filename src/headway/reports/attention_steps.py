"""What happens inside one attention head: scores, scale, softmax, weighted sum; formulas, shapes and numbers."""

import html

import torch

from headway.reports.lesson import (
    DOT,
    FIRST,
    Cast,
    Explained,
    formula,
    maps,
    paragraph,
    products,
    section,
    square,
    tall,
)
from headway.reports.matrices import ACROSS, TIMES, beside, excerpt, number, shape


def score(e: Explained, cast: Cast) -> str:
    """Step 3: Q K^T."""
    i, query, key = cast.head + 1, e.steps.query[0, cast.head], e.steps.key[0, cast.head]  # T d
    raw = query @ key.T  # T T
    who, other = html.escape(cast.who), html.escape(cast.every[cast.most])
    return section(
        "3. Scores: does what I look for fit what you offer?",
        formula(f"R<sub>{i}</sub> = Q<sub>{i}</sub> {DOT} K<sub>{i}</sub><sup>T</sup>"),
        paragraph(
            f"K<sup>T</sup> is K transposed, its rows and columns exchanged, so ({shape(query)}) {DOT} "
            f"({shape(key.T)}) gives {shape(raw)}: one number for every pair of tokens. The row says who looks, the "
            "column who is looked at. A score is large where the query of the one who looks and the key of the other "
            "have large numbers of the same sign in the same places, and below zero where their signs disagree."
        ),
        paragraph(
            f"One entry by hand, row {who}, column {other}: the query of the one times the key of the other, number by "
            f"number, added up:<br>{products(query[e.token], key[cast.most])} = "
            f"<b>{number(float(raw[e.token, cast.most]))}</b>"
        ),
        beside(square(f"R<sub>{i}</sub>, raw scores", raw, e, cast)),
    )


def scale(e: Explained, cast: Cast) -> str:
    """Step 4: / sqrt(d)."""
    i, width, scaled = cast.head + 1, e.attention.head_width, e.steps.scores[0, cast.head]  # T T
    root, entry = width**0.5, float(scaled[e.token, cast.most])
    return section(
        "4. Scale",
        formula(f"S<sub>{i}</sub> = R<sub>{i}</sub> / \u221ad &emsp; with d = {width}, so \u221ad = {root:.2f}"),
        paragraph(
            f"Every raw score is a sum of {width} products, and the more numbers of mixed signs are added, the "
            f"farther from zero the sum tends to lie: typically \u221a{width} times as far as one of them. Dividing "
            f"by \u221a{width} takes that away, so that scores have about the same size however wide an attention "
            "head is. Without it, the next step would give nearly everything to the one token with the largest "
            "score. Small changes of the scores would then change next to nothing, and training, which goes by small "
            f"changes, would stand still. The shape stays {shape(scaled)}."
        ),
        paragraph(
            f"The same entry by hand, row {html.escape(cast.who)}, column {html.escape(cast.every[cast.most])}: "
            f"{number(entry * root)} / {root:.2f} = <b>{number(entry)}</b>"
        ),
        beside(square(f"S<sub>{i}</sub>, scaled scores", scaled, e, cast)),
    )


def share_out(e: Explained, cast: Cast) -> str:
    """Step 5: softmax."""
    i, weights = cast.head + 1, e.steps.weights[0, cast.head]  # T T
    who = html.escape(cast.who)
    elsewhere = (
        f" Each attention head has its own row for this token; we follow attention head {i}."
        if e.attention.attention_heads > 1
        else ""
    )
    power = f"e<sup>S<sub>{i}</sub>[r, %s]</sup>"
    return section(
        "5. Softmax: scores become shares",
        formula(f"A<sub>{i}</sub>[r, s] = {power % 's'} / ( {power % '1'} + {power % '2'} + \N{HORIZONTAL ELLIPSIS} + "
                f"{power % len(e.x)} )"),
        paragraph(
            f"Row by row (r counts the tokens that look, s those that are looked at): e = 2.718{ACROSS} to the power "
            "of a score is always above zero, and grows fast with the score. Each power is divided by the sum of its "
            "row's powers, so that the row adds up to 1: it says how a token shares out its attention. These shares "
            f"are the <b>attention weights</b>. Here is row {who}:"
        ),
        beside(_worked(e, cast)),
        paragraph("(First the row's largest score is taken away from all of them. This divides every power by the same "
                  "number, so no share changes: only differences between scores count. It keeps the powers from "
                  "growing too large for the computer.) The same row in the whole matrix, with those of the other "
                  "tokens that we show:"),
        beside(square(f"A<sub>{i}</sub>, attention weights", weights, e, cast, places=3)),
        paragraph(f"And row {who} laid over the picture, patch by patch: dark is a share of zero, the brightest "
                  f"yellow the largest share in that picture.{elsewhere}"),
        beside(*maps(e)),
    )  # fmt: skip


def mix(e: Explained, cast: Cast) -> str:
    """Step 6: A V."""
    i, weights = cast.head + 1, e.steps.weights[0, cast.head]  # T T
    values, heads = e.steps.value[0, cast.head], e.steps.heads[0, cast.head]  # T d, T d
    row = weights[e.token]  # T
    most, count = cast.ranked(row), min(FIRST, values.shape[1])
    parts = [row[t] * values[t] for t in most]
    stack = torch.stack([*parts, heads[e.token] - sum(parts, torch.zeros_like(values[0])), heads[e.token]])  # 6 d
    names = [f"{float(row[t]):.3f} {TIMES} value of {cast.every[t]}" for t in most]
    names += [f"the {len(row) - len(most)} others, added up", "sum"]
    table = excerpt(
        f"row {html.escape(cast.who)} of O<sub>{i}</sub>, by hand", stack, range(len(stack)), names, range(count),
        [str(c + 1) for c in range(count)], followed=len(stack) - 1, sized=False,
    )  # fmt: skip
    return section(
        "6. Weighted sum: take from each what its share says",
        formula(f"O<sub>{i}</sub> = A<sub>{i}</sub> {DOT} V<sub>{i}</sub>"),
        paragraph(
            f"For every token, the values of all tokens are added up, each times its share: ({shape(weights)}) {DOT} "
            f"({shape(values)}) gives {shape(heads)}. A token with a share near zero contributes next to nothing. "
            "Only here does what one token knows pass to another; the steps before settled the shares."
        ),
        beside(table, tall(f"O<sub>{i}</sub>, what attention head {i} found", heads, e, cast)),
    )


def _worked(e: Explained, cast: Cast) -> str:
    """The followed row through softmax: the tokens shown, all others, and the sum."""
    scores, row = e.steps.scores[0, cast.head, e.token], e.steps.weights[0, cast.head, e.token]  # T, T
    top, shown = float(scores.max()), cast.ranked(row)
    others, powers = [token for token in range(len(row)) if token not in shown], (scores - top).exp()
    lines = [
        "<tr><th>looked at</th><th>score</th><th>minus the largest</th><th>e to that power</th><th>share</th></tr>"
    ]
    for token in shown:
        value = float(scores[token])
        lines.append(
            f"<tr><th>{html.escape(cast.every[token])}</th><td>{number(value, 3)}</td><td>{number(value - top, 3)}</td>"
            f"<td>{float(powers[token]):.3f}</td><td>{float(row[token]):.3f}</td></tr>"
        )
    for name, chosen in ((f"the {len(others)} others, added up", others), ("sum", [*shown, *others])):
        lines.append(
            f"<tr><th>{name}</th><td></td><td></td><td>{float(powers[chosen].sum()):.3f}</td>"
            f"<td>{float(row[chosen].sum()):.3f}</td></tr>"
        )
    name = f"row {html.escape(cast.who)} of attention head {cast.head + 1}"
    return f'<div class="matrix"><div class="name">{name}</div><table>{"".join(lines)}</table></div>'
