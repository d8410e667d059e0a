"""A page that follows one real image through one attention layer, step by step, for readers new to attention.

Its text is in ``templates/tutorial.html.j2``, its numbers come from ``tutorial_steps``.
"""

import inspect
import textwrap

from markupsafe import escape

from headway.attention_viz.maps_html import TEMPLATES
from headway.attention_viz.matrix_tables import TIMES
from headway.attention_viz.overlay import draw_patch_lines, frame_patch
from headway.attention_viz.tutorial_parts import WorkedExample, choose_focus, patch_position, token_rows
from headway.attention_viz.tutorial_steps import head_steps, linear_steps
from headway.nn.attention import MultiHeadAttention
from headway.reports.html import data_uri, render_page


def tutorial_html(e: WorkedExample) -> tuple[str, int]:
    """The page, and the attention head that it follows, from 0."""
    focus = choose_focus(e)
    image = frame_patch(draw_patch_lines(e.pixels, e.grid), patch_position(e), e.grid)
    source = inspect.getsource(MultiHeadAttention.trace).rstrip()
    code = textwrap.dedent(source.split('"""')[2].lstrip("\n"))  # below its docstring
    page = render_page(
        "tutorial.html.j2",
        TEMPLATES,
        styles=["tutorial.css"],
        e=e,
        focus=focus,
        image={"source": data_uri(image), "caption": f"{e.image_name}, cut into {e.grid[0]} {TIMES} {e.grid[1]}"},
        x=token_rows(e.x, e, focus, "column "),
        linear=linear_steps(e, focus),
        head=head_steps(e, focus),
        code=escape(code),
        largest=float((e.trace.output[0] - e.output).abs().max()),
    )
    return page, focus.head
