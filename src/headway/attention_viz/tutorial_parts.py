"""Parts of the attention tutorial: the example, the tokens that it follows, tables and figures."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from headway.attention_viz.matrix_tables import ELLIPSIS, format_number, matrix_excerpt
from headway.attention_viz.overlay import frame_patch, overlay_map, to_levels
from headway.nn.attention import AttentionTrace, MultiHeadAttention
from headway.reports.html import data_uri

SLICE_COLORS = ("#f1e4a6", "#c3e3c0", "#e6c6ea", "#d8d6d0")
"""Background colors of the attention heads' slices, in turn; orange and blue are reserved for signs."""
MAX_COLUMNS = 5
"""Columns of a wide matrix that are shown."""
DOT = "\N{MIDDLE DOT}"


class WorkedExample(NamedTuple):
    """One layer of a network on one image, from ``attention_hooks.trace_attention``.

    Attributes:
        model: Name of the network.
        image_name: Name of the image's file.
        pixels: S S 3, uint8.
        grid: Rows and columns of patches.
        patch_size: Side of a patch in pixels of the network's input.
        prefix_names: P names of the prefix tokens.
        layer: Which layer, from 0.
        num_layers: Number of layers.
        token: Index of the token that is followed, prefix tokens included.
        attention: The layer's attention.
        x: T D, the input of the layer's attention.
        trace: All steps, for a batch of one.
        output: T D, from the network's own implementation.
        uses_rope: Whether queries and keys are rotated by position.
    """

    model: str
    image_name: str
    pixels: np.ndarray
    grid: tuple[int, int]
    patch_size: int
    prefix_names: Sequence[str]
    layer: int
    num_layers: int
    token: int
    attention: MultiHeadAttention
    x: Tensor
    trace: AttentionTrace
    output: Tensor
    uses_rope: bool


class Focus(NamedTuple):
    """What the tutorial shows: one attention head, one token, and the tokens to which it attends most.

    Attributes:
        head: The attention head, from 0.
        tokens: The tokens shown, ascending.
        names: Their names.
        all_names: Names of all T tokens.
        token_name: Name of the token that is followed.
        top_token: The token to which it attends most, other than itself.
    """

    head: int
    tokens: list[int]
    names: list[str]
    all_names: list[str]
    token_name: str
    top_token: int

    def ranked(self, weights: Tensor) -> list[int]:
        """The tokens shown, by descending share in a row of T weights."""
        return sorted(self.tokens, key=lambda token: -float(weights[token]))


def choose_focus(e: WorkedExample) -> Focus:
    """The attention head whose weights have the lowest entropy, and the three tokens with its largest weights."""
    rows = e.trace.weights[0, :, e.token]  # h T
    head = int(torch.special.entr(rows).sum(-1).argmin())
    names = [*e.prefix_names, *(f"patch {r + 1},{c + 1}" for r in range(e.grid[0]) for c in range(e.grid[1]))]
    others = [token for token in rows[head].argsort(descending=True).tolist() if token != e.token][:3]
    shown = sorted([e.token, *others])
    return Focus(
        head, shown, [names[token] for token in shown], names, names[e.token], others[0] if others else e.token
    )


def token_rows(matrix: Tensor, e: WorkedExample, focus: Focus, column: str = "") -> dict[str, Any]:
    """The shown tokens' rows of a matrix with one row per token, and its first columns."""
    count = min(MAX_COLUMNS, matrix.shape[1])
    names = [f"{column}{c + 1}" for c in range(count)]
    return matrix_excerpt(matrix, focus.tokens, focus.names, range(count), names, highlighted=e.token)


def token_pairs(matrix: Tensor, e: WorkedExample, focus: Focus, decimals: int = 2) -> dict[str, Any]:
    """The shown tokens' rows and columns of a matrix of tokens by tokens."""
    return matrix_excerpt(
        matrix, focus.tokens, focus.names, focus.tokens, focus.names, highlighted=e.token, decimals=decimals
    )


def head_slices(row: Tensor, width: int) -> list[dict[str, str]]:
    """A row of numbers as one colored slice per attention head: the first and last numbers of each."""
    slices = []
    for i, values in enumerate(row.split(width)):
        ends = [format_number(value) for value in values.tolist()]
        text = ", ".join(ends if len(ends) < 5 else [*ends[:3], ELLIPSIS, ends[-1]])
        slices.append({"color": SLICE_COLORS[i % len(SLICE_COLORS)], "text": text})
    return slices


def sum_of_products(one: Tensor, two: Tensor) -> str:
    """The first products of a dot product, and the number of further ones."""
    shown = [
        f"{_parenthesized(a)}{DOT}{_parenthesized(b)}" for a, b in zip(one[:3].tolist(), two[:3].tolist(), strict=True)
    ]
    more = [f"{ELLIPSIS} ({len(one) - 3} more products)"] if len(one) > 3 else []
    return " + ".join(shown + more)


def map_figures(e: WorkedExample) -> list[dict[str, str]]:
    """Attention maps of the followed token, one figure per attention head."""
    rows = e.trace.weights[0, :, e.token, len(e.prefix_names) :]  # h N
    maps = [frame_patch(overlay_map(e.pixels, row, e.grid), patch_position(e), e.grid) for row in to_levels(rows)]
    captions = [f"attention head {head}, largest share {float(row.max()):.3f}" for head, row in enumerate(rows, 1)]
    return [{"source": data_uri(image), "caption": caption} for image, caption in zip(maps, captions, strict=True)]


def patch_position(e: WorkedExample) -> tuple[int, int] | None:
    """Row and column of the followed token; None for a prefix token."""
    prefix = len(e.prefix_names)
    return None if e.token < prefix else divmod(e.token - prefix, e.grid[1])


def _parenthesized(value: float) -> str:
    return f"({format_number(value)})" if value < 0 else format_number(value)
