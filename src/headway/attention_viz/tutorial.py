"""A page that follows one real image through one attention layer, step by step, for readers new to attention.

Steps 1, 2, 7 and 8 are in ``tutorial_linear_steps``, the steps inside one attention head in ``tutorial_head_steps``.
"""

import html
import inspect
import textwrap

from markupsafe import Markup

from headway.attention_viz.maps_html import TEMPLATES
from headway.attention_viz.matrix_tables import TIMES, side_by_side
from headway.attention_viz.overlay import draw_patch_lines, frame_patch
from headway.attention_viz.tutorial_head_steps import (
    scale_section,
    scores_section,
    softmax_section,
    weighted_sum_section,
)
from headway.attention_viz.tutorial_linear_steps import (
    concatenate_section,
    output_section,
    projection_section,
    split_section,
)
from headway.attention_viz.tutorial_parts import (
    DOT,
    Focus,
    WorkedExample,
    choose_focus,
    figure,
    paragraph,
    patch_position,
    section,
    token_rows,
)
from headway.nn.attention import MultiHeadAttention
from headway.reports.html import render_page

SECTIONS = (
    projection_section, split_section, scores_section, scale_section, softmax_section, weighted_sum_section,
    concatenate_section, output_section,
)  # fmt: skip
"""Steps 1 to 8."""


def tutorial_html(e: WorkedExample) -> tuple[str, int]:
    """The page, and the attention head that it follows, from 0."""
    focus = choose_focus(e)
    model, heads = f"\u201c{html.escape(e.model)}\u201d", e.attention.num_heads
    with_heads = f"with {heads} attention heads" if heads > 1 else "with one attention head"
    header = (
        f'<header><h1>Multi-head attention, step by step</h1><p class="subtitle">How the {len(e.x)} tokens of one '
        f"image attend to one another {with_heads}, in layer {e.layer + 1} of the {e.num_layers} layers of {model}. "
        "Every number on this page was computed by the network for this image.</p></header>"
    )
    body = "".join(part(e, focus) for part in (_tokens_section, *SECTIONS, _summary_section))
    title = f"Multi-head attention, step by step: {e.model}, layer {e.layer + 1}"
    page = Markup(f"{header}<main>{body}</main>")
    return render_page("document.html.j2", TEMPLATES, styles=["tutorial.css"], title=title, body=page), focus.head


def _tokens_section(e: WorkedExample, focus: Focus) -> str:
    (rows, columns), dim = e.grid, e.x.shape[1]
    image = frame_patch(draw_patch_lines(e.pixels, e.grid), patch_position(e), e.grid)
    extra = ""
    if e.prefix_names:
        several = f"{len(e.prefix_names)} more tokens ({', '.join(e.prefix_names)}) belong"
        count = several if len(e.prefix_names) > 1 else f"One more token, the {e.prefix_names[0]}, belongs"
        extra = f"{count} to no patch and can describe the image as a whole. "
    so_far = (
        "Before the first layer, a token describes its own patch and little else."
        if e.layer == 0
        else f"In the first layer a token described its own patch and little else. After {e.layer} layer"
        f"{'s' if e.layer > 1 else ''} of attention it also describes other patches."
    )
    heads, d = e.attention.num_heads, e.attention.head_dim
    return section(
        "Before: an image is rows of numbers",
        paragraph(
            f"The image is cut into {rows} {TIMES} {columns} = {rows * columns} patches of {e.patch_size} {TIMES} "
            f"{e.patch_size} pixels. For each patch the network keeps a list of {dim} numbers, called a <b>token</b>, "
            f"which describes the patch. {extra}All tokens together are the matrix <b>X</b>: {len(e.x)} rows, one per "
            f"token, and {dim} columns. \u201cpatch 1,{columns}\u201d is the patch in row 1 and column {columns} of "
            "the image. (Nobody chose what a single column means. It is a result of training, which changes the "
            "network's numbers in small steps until its outputs are useful. Each row has just been normalized to "
            "about the same scale.)"
        ),
        side_by_side(
            figure(image, f"{e.image_name}, cut into {rows} {TIMES} {columns}", 320),
            token_rows("X, the tokens", e.x, e, focus, "column "),
        ),
        paragraph(
            f"{so_far} In <b>attention</b>, each token determines which other tokens are relevant to it, and takes a "
            "weighted mixture of their content. Each layer does so once. An <b>attention head</b> computes one such "
            "mixture, and several attention heads work in parallel. We follow one token, "
            f"<b>{html.escape(focus.token_name)}</b>: it is framed in the image and stands between blue lines in the "
            "matrices. Besides it we show the three tokens that will get the largest shares of its attention. Dots "
            "stand for rows and columns that are left out. Orange is above zero, blue below, and each table has its "
            "own scale. Numbers are rounded, so the last digit of your own calculation may differ."
        ),
        paragraph(
            f"Letters: T = {len(e.x)} tokens, D = {dim} numbers per token, h = {heads} attention "
            f"head{'s' if heads > 1 else ''} of d = {d} numbers each."
        ),
    )


def _summary_section(e: WorkedExample, focus: Focus) -> str:
    heads, largest = e.attention.num_heads, float((e.trace.output[0] - e.output).abs().max())
    left = e.num_layers - e.layer - 1
    then = (
        f"{left} more layer{'s' if left > 1 else ''} follow{'' if left > 1 else 's'}, in which the tokens attend to "
        "one another again, with more information."
        if left
        else "This was the last layer: the tokens are now the network's description of the image."
    )
    source = inspect.getsource(MultiHeadAttention.trace).rstrip()
    code = textwrap.dedent(source.split('"""')[2].lstrip("\n"))  # below its docstring
    return section(
        "After",
        paragraph(
            "Y is added to what each token was before its row was normalized, so no information is lost. Then every "
            "token passes separately through an MLP (multi-layer perceptron): two linear maps with a nonlinear "
            f"function between them. This ends the layer. {then}"
        ),
        paragraph(
            f"<b>All steps in one line:</b> split into {heads}, softmax(Q{DOT}K<sup>T</sup> / \u221ad){DOT}V in "
            "each, concatenate, transform linearly. <b>The code</b> that computed these numbers follows. "
            "<code>_project_and_split</code> does steps 1 and 2; @ is the matrix product. The code divides the queries "
            "by \u221ad, not the scores; the result is the same. <code>apply_attn_mask</code> and "
            "<code>attention_dropout</code> change nothing here: no token is masked and nothing is dropped. Comments "
            "after # give shapes, for B images at once and S tokens that are attended to, here as many as T:"
        ),
        f"<pre>{html.escape(code)}</pre>\n",
        paragraph(
            "<b>Check.</b> Normally the network computes the same formula with a faster implementation. For this image "
            f"its output and Y differ by {largest:.7f} at most."
        ),
        paragraph(
            "Vaswani et al., \u201cAttention is all you need\u201d, 2017, "
            '<a href="https://arxiv.org/abs/1706.03762">https://arxiv.org/abs/1706.03762</a>'
        ),
    )
