"""A line chart with intervals, as an SVG in the light or dark colors of the pages, drawn with matplotlib."""

import io
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS_CSS = Path(__file__).with_name("templates") / "colors.css"
LINE_COLORS = ("#0072b2", "#d55e00", "#808289", "#009e73", "#cc79a7")
"""Colors of the lines, in order, distinguishable with color blindness (Okabe and Ito, https://jfly.uni-koeln.de/color/)."""
MARKERS = "osD^v"
"""Markers of the lines, in order."""
FONT = "DejaVu Sans"
"""The font that matplotlib brings, by which texts are placed; they are displayed in the font of the pages."""


class Line(NamedTuple):
    """One line: its name, and for each x the value with the ends of its interval."""

    name: str
    xs: Sequence[float]
    values: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]


class ChartText(NamedTuple):
    """Text around the plot."""

    title: str
    x_label: str
    y_label: str
    note: str


def draw_chart(labels: ChartText, lines: Sequence[Line], ticks: Sequence[tuple[float, str]]) -> str:
    """Draw lines over a logarithmic x axis: an SVG file, whose texts are text and whose description has all values.

    In a page it is an image (a data URI), which the page's policy allows: the style in it is its own.

    Args:
        labels: Title, names of the axes, and a note below.
        lines: The first is drawn last, on top.
        ticks: Values on the x axis, all above 0, and their labels.
    """
    with _matplotlib_settings():
        from matplotlib.figure import Figure

        colors = _light_colors()
        figure = Figure(figsize=(8.8, 5.4), facecolor=colors["paper"])
        figure.set_layout_engine("constrained", h_pad=0.15, w_pad=0.15)
        axes = figure.add_subplot(facecolor="none", xscale="log")
        for number in reversed(range(len(lines))):
            _draw_line(axes, lines[number], number, colors["paper"])
        xs = [x for x, _ in ticks]
        margin = max((max(xs) / min(xs)) ** 0.05, 1.1)
        axes.set_xlim(min(xs) / margin, max(xs) * margin)
        axes.set_xticks(xs, [text for _, text in ticks])
        axes.minorticks_off()
        axes.grid(axis="y", color=colors["line"])
        axes.set_axisbelow(True)
        axes.tick_params(length=0, colors=colors["faint"])
        axes.spines[:].set_visible(False)
        axes.set_title(labels.title, loc="left", fontsize="x-large", color=colors["ink"], pad=12)
        axes.set_xlabel(labels.x_label, color=colors["faint"])
        axes.set_ylabel(labels.y_label, color=colors["faint"])
        figure.supxlabel(labels.note, x=0.02, ha="left", fontsize="small", color=colors["faint"])
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles[::-1], names[::-1], loc="outside right center", frameon=False, labelcolor=colors["ink"])
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return _with_style(file.getvalue(), labels.title, _description(labels, lines, ticks))


def _draw_line(axes: "Axes", line: Line, number: int, paper: str) -> None:
    color = LINE_COLORS[number % len(LINE_COLORS)]
    axes.fill_between(line.xs, line.lows, line.highs, color=color, alpha=0.14, linewidth=0)
    axes.vlines(line.xs, line.lows, line.highs, color=color, alpha=0.6, linewidth=1)
    axes.plot(
        line.xs, line.values, color=color, linewidth=2, marker=MARKERS[number % len(MARKERS)], markersize=8,
        markeredgecolor=paper, label=line.name, gid=f"line-{number}",
    )  # fmt: skip


@contextmanager
def _matplotlib_settings() -> Iterator[None]:
    """Matplotlib's defaults, whatever the user's settings, but text as text and the same bytes for the same chart."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)  # its first use on a machine would be reported (a cache of fonts)
    try:
        from matplotlib import style

        settings = {
            "svg.fonttype": "none", "svg.hashsalt": "headway", "text.parse_math": False, "font.sans-serif": [FONT],
            "font.size": 11,
        }  # fmt: skip
        with style.context(["default", settings]):
            yield
    finally:
        logger.setLevel(level)


def _light_colors() -> dict[str, str]:
    """The colors of the pages on a light screen, by name."""
    return dict(re.findall(r"--(\w+): (#\w+)", COLORS_CSS.read_text(encoding="utf-8").partition("@media")[0]))


def _with_style(svg: str, title: str, description: str) -> str:
    """The SVG with a title and a description, in the colors and the font of the pages."""
    for name, color in _light_colors().items():
        svg = re.sub(rf"{color}\b", f"var(--{name})", svg)
    svg = svg.replace(f"'{FONT}', sans-serif", "system-ui, sans-serif")
    head, style = svg[svg.index("<svg ") :].split(">", 1), COLORS_CSS.read_text(encoding="utf-8")
    texts = f"<title>{escape(title)}</title>\n<desc>{escape(description)}</desc>"
    return f'{head[0]} role="img">\n{texts}\n<style>{style}</style>{head[1]}'


def _description(labels: ChartText, lines: Sequence[Line], ticks: Sequence[tuple[float, str]]) -> str:
    """All that the chart shows, in words."""
    names, sentences = dict(ticks), [f"{labels.y_label}, against {labels.x_label}."]
    for line in lines:
        points = zip(line.xs, line.values, line.lows, line.highs, strict=True)
        values = [f"{value:.1f} ({low:.1f} to {high:.1f}) at {names.get(x, x)}" for x, value, low, high in points]
        sentences.append(f"{line.name}: {', '.join(values)}.")
    return " ".join([*sentences, labels.note])
