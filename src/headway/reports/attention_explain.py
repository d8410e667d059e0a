"""One real picture through one attention layer, a step at a time, on a page for who has not met attention before."""

import html
import inspect
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from headway.nn.attention import MultiHeadAttention, Steps
from headway.reports import matrices
from headway.reports.matrices import excerpt, number, shape, side_by_side
from headway.reports.overlay import levels, marked, overlay
from headway.reports.page import data_uri, document

STYLE = (
    matrices.STYLE
    + """
main { display: block; max-width: 60rem }
main h2 { margin: 2.5rem 0 .5rem; font-size: 1.35rem }
main p, main ul { max-width: 46rem }
.formula { margin: .5rem 0; padding: .5rem 1rem; border-left: 3px solid #2f7de1; font: 1.1rem/1.6 Georgia, serif;
  overflow-x: auto }
figure img { image-rendering: auto }
.pieces { display: flex; gap: 3px; flex-wrap: wrap; margin: .75rem 0; font: .8rem/1.4 ui-monospace, monospace }
.pieces div { padding: .35rem .6rem; border-radius: 4px; color: #202124 }
"""
)
PIECES = ("#f6c893", "#b9d3f3", "#c3e3c0", "#e6c6ea")
"""Grounds of attention heads' pieces, taken in turn."""
FIRST = 5
"""Columns shown of a wide matrix."""
TIMES, MINUS, DOT = "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}", "\N{MIDDLE DOT}"


class Explained(NamedTuple):
    """One layer of a network on one picture.

    Attributes:
        model: Names the network.
        name: Of the picture's file.
        pixels: S S 3, uint8.
        grid: Rows and columns of patches.
        patch_size: Pixels a side of a patch, as the network sees it.
        tokens: P names of the prefix tokens.
        layer: Which layer, from 0.
        layers: How many there are.
        token: Which token is followed, prefix tokens counted.
        attention: The layer's attention.
        x: T D, what enters it.
        steps: Every step, each with a batch of one.
        output: T D, by the network's own way of computing.
        turned: Whether positions turn queries and keys.
    """

    model: str
    name: str
    pixels: np.ndarray
    grid: tuple[int, int]
    patch_size: int
    tokens: Sequence[str]
    layer: int
    layers: int
    token: int
    attention: MultiHeadAttention
    x: Tensor
    steps: Steps
    output: Tensor
    turned: bool


class _Cast(NamedTuple):
    """Who appears on the page: the followed token and those it looks at most, under short names."""

    head: int  # the attention head that is followed
    rows: list[int]  # tokens shown, ascending
    names: list[str]
    all_names: list[str]


def write_explanation(e: Explained) -> tuple[str, int]:
    """The page, and the attention head that it follows, from 0."""
    cast, total = _cast(e), len(e.x)
    title = f"Multi-head attention, step by step: layer {e.layer + 1} of {e.layers} of {e.model}"
    parts = [_before(e, cast), _project(e, cast), _split(e, cast), _scores(e, cast), _scale(e, cast)]
    parts += [_softmax(e, cast), _mix(e, cast), _concatenate(e, cast), _transform(e, cast), _after(e)]
    claim = (
        f"How {total} tokens of one picture look at one another in {e.attention.attention_heads} ways at once. "
        "Every number on this page was computed from this picture."
    )
    header = f'<header><h1>{html.escape(title)}</h1><p class="claim">{claim}</p></header>'
    return document(title, f"{header}<main>{''.join(parts)}</main>\n", STYLE), cast.head


def _cast(e: Explained) -> _Cast:
    """The attention head that decides most clearly what to look at, and the tokens that it then looks at most."""
    rows = e.steps.weights[0, :, e.token]  # h T
    head = int(torch.special.entr(rows).sum(-1).argmin())
    names = [*e.tokens, *(f"patch {r + 1},{c + 1}" for r in range(e.grid[0]) for c in range(e.grid[1]))]
    others = [token for token in rows[head].argsort(descending=True).tolist() if token != e.token][:3]
    shown = sorted([e.token, *others])
    return _Cast(head, shown, [names[token] for token in shown], names)


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{title}</h2>\n{''.join(parts)}</section>\n"


def _p(text: str) -> str:
    return f"<p>{text}</p>\n"


def _formula(text: str) -> str:
    return f'<div class="formula">{text}</div>\n'


def _table(name: str, matrix: Tensor, e: Explained, cast: _Cast, prefix: str = "") -> str:
    """The cast's rows of a tall matrix, its first columns."""
    count = min(FIRST, matrix.shape[1])
    return excerpt(
        name, matrix, cast.rows, cast.names, range(count), [f"{prefix}{c + 1}" for c in range(count)], e.token
    )


def _square(name: str, matrix: Tensor, e: Explained, cast: _Cast) -> str:
    """The cast's rows and columns of a matrix of tokens by tokens."""
    return excerpt(name, matrix, cast.rows, cast.names, cast.rows, cast.names, e.token)


def _figure(picture: np.ndarray, words: str, side: int) -> str:
    text = html.escape(words)
    return f'<figure style="width: {side}px"><img width="{side}" height="{side}" alt="{text}" src="{data_uri(picture)}">' \
           f"<figcaption>{text}</figcaption></figure>"  # fmt: skip


def _before(e: Explained, cast: _Cast) -> str:
    rows, columns = e.grid
    place = divmod(e.token - len(e.tokens), columns) if e.token >= len(e.tokens) else None
    figure = _figure(
        marked(_ruled(e.pixels, e.grid), place, e.grid), f"{e.name}, cut into {rows} {TIMES} {columns}", 320
    )
    who, width, total = cast.all_names[e.token], e.x.shape[1], len(e.x)
    extra = (
        f"{len(e.tokens)} more token{'s' if len(e.tokens) > 1 else ''} ({', '.join(e.tokens)}) "
        f"belong{'' if len(e.tokens) > 1 else 's'} to no patch: room to gather what concerns the whole picture. "
        if e.tokens else ""
    )  # fmt: skip
    return _section(
        "Before: a picture becomes rows of numbers",
        side_by_side(figure, _table("X", e.x, e, cast, "number ")),
        _p(f"The picture is cut into {rows} {TIMES} {columns} = {rows * columns} patches of {e.patch_size} {TIMES} "
           f"{e.patch_size} pixels. For each patch the network keeps a list of {width} numbers, its <b>token</b>: what is "
           f"known of that patch so far. {extra}All tokens together are the matrix X: {total} rows, one a token, and {width} "
           f"columns. \u201cpatch 3,5\u201d is the patch in row 3 and column 5 of the picture."),
        _p(f"On its own, a token knows one patch. <b>Attention</b> is how it learns of the others: it decides which tokens "
           f"matter to it, and takes a mixture of what those have to say. Attention heads are several such decisions made "
           f"side by side. We follow one token, <b>{html.escape(who)}</b> (framed in the picture, blue lines in the "
           f"matrices), and show beside it the three tokens that it will look at most. Dots stand for rows and columns that "
           f"are left out; orange is above zero, blue below."),
    )  # fmt: skip


def _project(e: Explained, cast: _Cast) -> str:
    raw, inner, width = _raw(e), e.attention.attention_heads * e.attention.head_width, e.x.shape[1]
    names = ("Q, queries", "K, keys", "V, values")
    bias = e.attention.qkv.bias is not None
    formula = DOT.join(("Q = X ", " W<sub>Q</sub>")) + (" + b<sub>Q</sub>" if bias else "")
    rest = formula.replace("Q", "K") + " &emsp; " + formula.replace("Q", "V")
    added = f" The {inner} numbers b are added to every row." if bias else ""
    return _section(
        "1. Three questions to each token: query, key, value",
        _formula(f"{formula} &emsp; {rest}"),
        _p(f"Each token is multiplied by three matrices of {width} {TIMES} {inner} numbers, which training has found.{added} "
           f"The first product is its <b>query</b>: what it is looking for. The second is its <b>key</b>: what it can be "
           f"found by. The third is its <b>value</b>: what it hands over to those who look at it. So "
           f"({shape(e.x)}) {DOT} ({width} {TIMES} {inner}) gives {shape(raw[0])}, three times."),
        side_by_side(*(_table(name, matrix, e, cast) for name, matrix in zip(names, raw, strict=True))),
    )  # fmt: skip


def _split(e: Explained, cast: _Cast) -> str:
    heads, width = e.attention.attention_heads, e.attention.head_width
    row = _raw(e)[0][e.token]
    pieces = "".join(
        f'<div style="background: {PIECES[i % len(PIECES)]}">attention head {i + 1}<br>columns {i * width + 1} to '
        f"{(i + 1) * width}<br>{number(float(row[i * width]))}, {number(float(row[i * width + 1]))}, "
        f"\N{HORIZONTAL ELLIPSIS}, {number(float(row[(i + 1) * width - 1]))}</div>"
        for i in range(heads)
    )
    normed = not isinstance(e.attention.query_norm, torch.nn.Identity)
    changes = [text for text, is_so in (
        ("brings the numbers of each query and of each key to mean 0 and spread 1", normed),
        ("turns queries and keys by an angle that depends on where their patch stands, so that scores can tell how far "
         "apart two patches are", e.turned),
    ) if is_so]  # fmt: skip
    also = (
        _p(f"Before it goes on, this network {' and '.join(changes)}. From here on Q and K are meant so.")
        if changes
        else ""
    )
    i = cast.head + 1
    return _section(
        "2. Split into attention heads",
        _formula(f"Q = [ Q<sub>1</sub> | Q<sub>2</sub> | \N{HORIZONTAL ELLIPSIS} ] &emsp; and so for K and V"
                 if heads > 1 else "Q = Q<sub>1</sub> &emsp; (one attention head: nothing to split)"),
        _p(f"Nothing is computed here; the columns are only shared out. Of the {heads * width} columns the first {width} go "
           f"to attention head 1, the next {width} to attention head 2, and so on: {shape(_raw(e)[0])} becomes {heads} "
           f"matrices of {len(e.x)} {TIMES} {width}. From here to step 6 each attention head works on its own piece and "
           f"knows nothing of the others, so each can look for something else. The query of "
           f"{html.escape(cast.all_names[e.token])}, cut up:"),
        f'<div class="pieces">{pieces}</div>',
        also,
        _p(f"All attention heads do the same with their own numbers, so we follow one: <b>attention head {i}</b>. A small "
           f"{i} below a letter means \u201cthe piece of attention head {i}\u201d."),
    )  # fmt: skip


def _scores(e: Explained, cast: _Cast) -> str:
    i, query, key = cast.head + 1, e.steps.query[0, cast.head], e.steps.key[0, cast.head]  # T d
    raw = query @ key.T  # T T
    other = next(row for row in cast.rows if row != e.token)
    shown = " + ".join(f"{number(float(a))}{DOT}{number(float(b))}" for a, b in zip(query[e.token, :3], key[other, :3],
                                                                                  strict=True))  # fmt: skip
    total, rest = float(raw[e.token, other]), query.shape[1] - 3
    return _section(
        "3. Scores: does what I look for fit what you offer?",
        _formula(f"R<sub>{i}</sub> = Q<sub>{i}</sub> {DOT} K<sub>{i}</sub><sup>T</sup>"),
        _p(f"K<sup>T</sup> is K with rows and columns exchanged, so ({shape(query)}) {DOT} ({shape(key.T)}) gives "
           f"{shape(raw)}: a number for every pair of tokens. Row = who looks, column = who is looked at. A number is large "
           f"where the query of the one and the key of the other are large in the same places with the same sign."),
        _p(f"One entry by hand: row {cast.all_names[e.token]}, column {cast.all_names[other]}. The query of the one times the "
           f"key of the other, number by number, added up:<br>{shown} + \N{HORIZONTAL ELLIPSIS} ({rest} more products) = "
           f"<b>{number(total)}</b>"),
        side_by_side(_square(f"R<sub>{i}</sub>", raw, e, cast)),
    )  # fmt: skip


def _scale(e: Explained, cast: _Cast) -> str:
    i, width = cast.head + 1, e.attention.head_width
    scaled = e.steps.scores[0, cast.head]  # T T
    return _section(
        "4. Scale",
        _formula(f"S<sub>{i}</sub> = R<sub>{i}</sub> / \u221ad &emsp; with d = {width}, \u221ad = {width**0.5:.2f}"),
        _p(f"Every score is a sum of {width} products, and the more products are added, the larger such a sum may get: about "
           f"\u221a{width} times as large as one product where signs are mixed. Dividing by \u221a{width} takes that away. Otherwise the "
           f"next step would nearly always give everything to a single token, and training would stand still. The shape "
           f"stays {shape(scaled)}."),
        side_by_side(_square(f"S<sub>{i}</sub>", scaled, e, cast)),
    )  # fmt: skip


def _softmax(e: Explained, cast: _Cast) -> str:
    i, scores = cast.head + 1, e.steps.scores[0, cast.head, e.token]  # T
    weights = e.steps.weights[0, cast.head]  # T T
    row, top = weights[e.token], float(scores.max())
    order = row.argsort(descending=True).tolist()
    shown, powers = order[:4], (scores - top).exp()  # the largest score becomes 0: same shares, no overflow
    others = [token for token in order if token not in shown]
    lines = [
        f"<tr><th>{html.escape(cast.all_names[t])}</th><td>{number(float(scores[t]))}</td>"
        f"<td>{number(float(scores[t]) - top)}</td><td>{float(powers[t]):.3f}</td><td>{100 * float(row[t]):.1f} %</td></tr>"
        for t in shown
    ]
    lines.append(
        f"<tr><th>the {len(others)} others together</th><td></td><td></td><td>{float(powers[others].sum()):.3f}</td>"
        f"<td>{100 * float(row[others].sum()):.1f} %</td></tr>"
    )
    lines.append(f"<tr><th>sum</th><td></td><td></td><td>{float(powers.sum()):.3f}</td><td>100 %</td></tr>")
    head = "<tr><th>looked at</th><th>score</th><th>minus the largest</th><th>e to that power</th><th>share</th></tr>"
    name = f"row {html.escape(cast.all_names[e.token])} of attention head {i}"
    table = f'<div class="matrix"><div class="name">{name}</div><table>{head}{"".join(lines)}</table></div>'
    return _section(
        "5. Softmax: scores become shares",
        _formula(f"A<sub>{i}</sub>[r, s] = e<sup>S<sub>{i}</sub>[r, s]</sup> / (sum over all tokens t of "
                 f"e<sup>S<sub>{i}</sub>[r, t]</sup>)"),
        _p("Row by row: e (2.718\N{HORIZONTAL ELLIPSIS}) to the power of each score makes every number positive and large scores much larger; "
           "dividing by the row's sum makes the row add up to 1. So each row says how a token shares out its attention. "
           "These shares are the <b>attention weights</b>. (Subtracting the row's largest score first changes no share, since "
           "it divides all by the same number; it only keeps the powers from growing out of bounds.)"),
        side_by_side(table, _square(f"A<sub>{i}</sub>", weights, e, cast)),
        _p(f"The whole row as a picture, bright being much: what {html.escape(cast.all_names[e.token])} (framed) attends to, "
           f"in every attention head. The one that we follow is number {i}."),
        side_by_side(*_maps(e)),
    )  # fmt: skip


def _mix(e: Explained, cast: _Cast) -> str:
    i, weights = cast.head + 1, e.steps.weights[0, cast.head]  # T T
    values, heads = e.steps.value[0, cast.head], e.steps.heads[0, cast.head]  # T d, T d
    row = weights[e.token]
    shown, count = row.argsort(descending=True).tolist()[:3], min(FIRST, values.shape[1])
    rest = heads[e.token] - sum((row[t] * values[t] for t in shown), torch.zeros_like(values[0]))
    named = [*(f"{float(row[t]):.3f} {TIMES} value of {cast.all_names[t]}" for t in shown),
             f"the {len(row) - len(shown)} others", "sum"]  # fmt: skip
    stack = torch.stack([*(row[t] * values[t] for t in shown), rest, heads[e.token]])  # 5 d
    table = excerpt(f"row {html.escape(cast.all_names[e.token])} of O<sub>{i}</sub>, by hand", stack, range(len(stack)),
                    named, range(count), [str(c + 1) for c in range(count)], len(stack) - 1)  # fmt: skip
    return _section(
        "6. Weighted sum: take from each what its share says",
        _formula(f"O<sub>{i}</sub> = A<sub>{i}</sub> {DOT} V<sub>{i}</sub>"),
        _p(f"Each token adds up all values, each times the share that it gives to it: ({shape(weights)}) {DOT} "
           f"({shape(values)}) gives {shape(heads)}. A token that gets no share contributes nothing."),
        side_by_side(table.replace(f'<span class="shape">{shape(stack)}</span>', ""),
                     _table(f"O<sub>{i}</sub>", heads, e, cast)),
    )  # fmt: skip


def _concatenate(e: Explained, cast: _Cast) -> str:
    heads, width, joined = e.attention.attention_heads, e.attention.head_width, e.steps.joined[0]  # T h*d
    pieces = "".join(
        f'<div style="background: {PIECES[h % len(PIECES)]}">O<sub>{h + 1}</sub>: {number(float(joined[e.token, h * width]))}, '
        f"{number(float(joined[e.token, h * width + 1]))}, \N{HORIZONTAL ELLIPSIS}, "
        f"{number(float(joined[e.token, (h + 1) * width - 1]))}</div>"
        for h in range(heads)
    )
    return _section(
        "7. Concatenate",
        _formula(" | ".join(f"O<sub>{h + 1}</sub>" for h in range(min(heads, 3))).join(("O = [ ", " ]" if heads <= 3 else
                 " | \N{HORIZONTAL ELLIPSIS} ]"))),
        _p(f"The opposite of the split: what the {heads} attention heads found is set side by side again, {heads} matrices of "
           f"{len(joined)} {TIMES} {width} become {shape(joined)}. Row {html.escape(cast.all_names[e.token])}:"),
        f'<div class="pieces">{pieces}</div>',
    )  # fmt: skip


def _transform(e: Explained, cast: _Cast) -> str:
    output, joined, layer = e.steps.output[0], e.steps.joined[0], e.attention.output  # T D, T h*d
    column = layer.weight[0]  # h*d
    shown = " + ".join(f"{number(float(a))}{DOT}{number(float(w))}" for a, w in zip(joined[e.token, :3], column[:3],
                                                                                  strict=True))  # fmt: skip
    bias = f" + {number(float(layer.bias[0]))} (the first number of b)" if layer.bias is not None else ""
    return _section(
        "8. Linear transformation",
        _formula(f"Y = O {DOT} W<sub>O</sub>" + (" + b<sub>O</sub>" if layer.bias is not None else "")),
        _p(f"Until now no attention head knew what the others found. One last matrix of {joined.shape[1]} {TIMES} "
           f"{output.shape[1]}, also found by training, mixes them: each number of the result is a sum over all "
           f"{joined.shape[1]} numbers of the row. ({shape(joined)}) {DOT} ({joined.shape[1]} {TIMES} {output.shape[1]}) gives "
           f"{shape(output)}, the shape that X had, so the layer can be followed by another."),
        _p(f"The first number of row {html.escape(cast.all_names[e.token])}: {shown} + \N{HORIZONTAL ELLIPSIS} "
           f"({joined.shape[1] - 3} more products){bias} = <b>{number(float(output[e.token, 0]))}</b>"),
        side_by_side(_table("Y, the output", output, e, cast)),
    )  # fmt: skip


def _after(e: Explained) -> str:
    heads = e.attention.attention_heads
    largest = float((e.steps.output[0] - e.output).abs().max())
    source = textwrap.dedent(inspect.getsource(MultiHeadAttention.steps))
    body = source[source.index("queries, keys, values") :]
    return _section(
        "After",
        _p("Y is added to what each token was before, so nothing is lost that was known already. Then each token, on its own, "
           f"passes through a small network of two linear maps (an MLP). That is one block; {e.model} has {e.layers} of them, "
           "and in the next one the tokens look at one another again, knowing more."),
        _p(f"<b>In one line:</b> split into {heads}, softmax(Q K<sup>T</sup> / \u221ad) V in each, concatenate, transform "
           f"linearly. <b>In code</b>, these steps as they are computed here (h, d, T as above, B pictures at once; S = T):"),
        f"<pre>{html.escape(textwrap.dedent(_flush(body)))}</pre>",
        _p(f"<b>Check.</b> The network itself uses a fused form of the same formula. Its output for this picture differs from Y by "
           f"at most {largest:.1g}."),
        _p("Vaswani et al., \u201cAttention is all you need\u201d, 2017: "
           '<a href="https://arxiv.org/abs/1706.03762">https://arxiv.org/abs/1706.03762</a>'),
    )  # fmt: skip


def _flush(body: str) -> str:
    """Lines of a function's body, of which the first lost its indentation."""
    first, *rest = body.splitlines()
    return "\n".join(["    " + first, *rest])


def _raw(e: Explained) -> tuple[Tensor, ...]:
    """Q, K and V before anything else happens to them: T h*d each."""
    return e.attention.qkv(e.x).chunk(3, -1)


def _maps(e: Explained) -> list[str]:
    prefix = len(e.tokens)
    place = divmod(e.token - prefix, e.grid[1]) if e.token >= prefix else None
    rows = levels(e.steps.weights[0, :, e.token, prefix:])  # h N
    maps = [marked(overlay(e.pixels, row, e.grid), place, e.grid) for row in rows]
    return [_figure(map_, f"attention head {head}", 200) for head, map_ in enumerate(maps, 1)]


def _ruled(picture: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """With thin lines between patches."""
    ruled = picture.copy()
    ruled[:: picture.shape[0] // grid[0]] = ruled[:: picture.shape[0] // grid[0]] // 2 + 110
    ruled[:, :: picture.shape[1] // grid[1]] = ruled[:, :: picture.shape[1] // grid[1]] // 2 + 110
    return ruled
