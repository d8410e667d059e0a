"""What a page that explains attention is made of: who appears on it, its sections, formulas, tables and pictures."""

import html
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from headway.nn.attention import MultiHeadAttention, Steps
from headway.reports.matrices import ACROSS, excerpt, number
from headway.reports.matrices import STYLE as MATRICES
from headway.reports.overlay import levels, marked, overlay
from headway.reports.page import data_uri

STYLE = (
    MATRICES
    + """
main { display: block; max-width: 70rem }
main h2 { margin: 2.75rem 0 .5rem; font-size: 1.35rem }
main p { max-width: 46rem }
.formula { margin: .5rem 0; padding: .5rem 1rem; border-left: 3px solid #2f7de1; overflow-x: auto;
  font: 1.1rem/1.6 Georgia, serif }
sub, sup { line-height: 0 }
figure img { image-rendering: auto }
.pieces { display: flex; flex-wrap: wrap; gap: 3px; margin: .75rem 0; font: .8rem/1.4 ui-monospace, monospace }
.pieces div { padding: .35rem .6rem; border-radius: 4px; color: #202124 }
"""
)
PIECES = ("#f1e4a6", "#c3e3c0", "#e6c6ea", "#d8d6d0")
"""Grounds of the attention heads' pieces, taken in turn; orange and blue are left to signs."""
FIRST = 5
"""Columns shown of a wide matrix."""
DOT = "\N{MIDDLE DOT}"


class Explained(NamedTuple):
    """One layer of a network on one picture, as ``measure.listen.steps_of`` gives it.

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
        steps: Every step, each of a batch of one.
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


class Cast(NamedTuple):
    """Who appears: one attention head, one token that looks, and the tokens that it then looks at most.

    Attributes:
        head: The attention head, from 0.
        rows: The tokens shown, ascending.
        names: What they are called, one a row.
        every: T names.
        who: The name of the token that looks.
        most: The token that it looks at most, itself aside.
    """

    head: int
    rows: list[int]
    names: list[str]
    every: list[str]
    who: str
    most: int

    def ranked(self, row: Tensor) -> list[int]:
        """The tokens shown, from the largest to the smallest share in a row of T."""
        return sorted(self.rows, key=lambda token: -float(row[token]))


def cast_of(e: Explained) -> Cast:
    """The attention head that is most decided about what to look at, and the three tokens that it looks at most."""
    rows = e.steps.weights[0, :, e.token]  # h T
    head = int(torch.special.entr(rows).sum(-1).argmin())
    every = [*e.tokens, *(f"patch {r + 1},{c + 1}" for r in range(e.grid[0]) for c in range(e.grid[1]))]
    others = [token for token in rows[head].argsort(descending=True).tolist() if token != e.token][:3]
    shown = sorted([e.token, *others])
    return Cast(head, shown, [every[token] for token in shown], every, every[e.token], others[0] if others else e.token)


def section(title: str, *parts: str) -> str:
    """A heading and what stands below it, all HTML."""
    return f"<section><h2>{title}</h2>\n{''.join(parts)}</section>\n"


def paragraph(text: str) -> str:
    """HTML of running text."""
    return f"<p>{text}</p>\n"


def formula(text: str) -> str:
    """HTML of a formula, set apart."""
    return f'<div class="formula">{text}</div>\n'


def tall(name: str, matrix: Tensor, e: Explained, cast: Cast, column: str = "") -> str:
    """The cast's rows of a matrix with a row a token, and its first columns."""
    count = min(FIRST, matrix.shape[1])
    names = [f"{column}{c + 1}" for c in range(count)]
    return excerpt(name, matrix, cast.rows, cast.names, range(count), names, followed=e.token)


def square(name: str, matrix: Tensor, e: Explained, cast: Cast, places: int = 2) -> str:
    """The cast's rows and columns of a matrix of tokens by tokens."""
    return excerpt(name, matrix, cast.rows, cast.names, cast.rows, cast.names, followed=e.token, places=places)


def pieces(row: Tensor, width: int, titles: Sequence[str]) -> str:
    """A row of numbers as one coloured piece an attention head, first and last numbers of each."""
    boxes = []
    for number_, (title, piece) in enumerate(zip(titles, row.split(width), strict=True)):
        ends = [number(value) for value in piece.tolist()]
        text = ", ".join(ends if len(ends) < 5 else [*ends[:3], ACROSS, ends[-1]])
        boxes.append(f'<div style="background: {PIECES[number_ % len(PIECES)]}">{title}<br>{text}</div>')
    return f'<div class="pieces">{"".join(boxes)}</div>\n'


def products(one: Tensor, two: Tensor) -> str:
    """The first products of a sum over both, and how many more there are."""
    shown = [f"{_bracketed(a)}{DOT}{_bracketed(b)}" for a, b in zip(one[:3].tolist(), two[:3].tolist(), strict=True)]
    more = [f"{ACROSS} ({len(one) - 3} more products)"] if len(one) > 3 else []
    return " + ".join(shown + more)


def figure(picture: np.ndarray, words: str, side: int) -> str:
    """A picture, S S 3 uint8, with a line below it."""
    text = html.escape(words)
    return (
        f'<figure style="width: {side}px"><img width="{side}" height="{side}" alt="{text}" '
        f'src="{data_uri(picture)}"><figcaption>{text}</figcaption></figure>'
    )


def maps(e: Explained) -> list[str]:
    """What the followed token attends to, a figure an attention head."""
    rows = e.steps.weights[0, :, e.token, len(e.tokens) :]  # h N
    laid = [marked(overlay(e.pixels, row, e.grid), place(e), e.grid) for row in levels(rows)]
    named = [f"attention head {head}, largest share {float(row.max()):.3f}" for head, row in enumerate(rows, 1)]
    return [figure(one, words, 200) for one, words in zip(laid, named, strict=True)]


def place(e: Explained) -> tuple[int, int] | None:
    """Row and column of the followed token; None for one that stands nowhere."""
    prefix = len(e.tokens)
    return None if e.token < prefix else divmod(e.token - prefix, e.grid[1])


def _bracketed(value: float) -> str:
    return f"({number(value)})" if value < 0 else number(value)
