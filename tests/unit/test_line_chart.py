"""Line charts: positions of their points, texts, colors, and what matplotlib leaves behind."""

import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib
import pytest

from headway.reports.line_chart import ChartText, Line, draw_chart

LINES = [
    Line("high & <mighty>", [1, 10, 100], [80, 85, 90], [78, 83, 88], [82, 87, 93.25]),
    Line("low", [1, 10, 100], [10, 15, 30], [8, 13, 18], [12, 17, 35]),
]
TEXT = ChartText("cost in $ or $", "labels", "accuracy, %", "a note")
TICKS = [(1, "1"), (10, "10"), (100, "all (100)")]


def points(chart, number):
    path = chart.find(f".//{{*}}g[@id='line-{number}']/{{*}}path").get("d")
    return [tuple(map(float, point)) for point in re.findall(r"[ML] (\S+) (\S+)", path)]


def test_each_point_is_at_its_place():
    chart = ElementTree.fromstring(draw_chart(TEXT, LINES, TICKS))
    high, low = points(chart, 0), points(chart, 1)
    scale = (high[0][1] - high[1][1]) / 5  # upwards y falls
    assert scale > 0
    for line, found in zip(LINES, (high, low), strict=True):
        assert [y for _, y in found] == pytest.approx([high[0][1] + scale * (80 - value) for value in line.values])
        assert found[1][0] - found[0][0] == pytest.approx(found[2][0] - found[1][0]), "x is logarithmic"
    width, height = map(float, chart.get("viewBox").split()[2:])
    assert all(0 < x < width and 0 < y < height for x, y in [*high, *low])


def test_texts_are_text_and_the_description_has_all_values():
    chart = ElementTree.fromstring(draw_chart(TEXT, LINES, TICKS))
    shown = {element.text for element in chart.iter() if element.tag.endswith("}text")}
    assert {*TEXT, "high & <mighty>", "low", "1", "10", "all (100)"} <= shown
    assert chart.get("role") == "img" and chart.findtext("{*}title") == TEXT.title
    description = chart.findtext("{*}desc")
    assert "high & <mighty>: 80.0 (78.0 to 82.0) at 1, 85.0" in description
    assert description.endswith("30.0 (18.0 to 35.0) at all (100). a note")


def test_colors_follow_the_screen():
    style, drawn = draw_chart(TEXT, LINES, TICKS).split("</style>", 1)
    used = set(re.findall(r"var\(--(\w+)\)", drawn))
    assert used == {"paper", "ink", "faint", "line"}
    for theme in style.split("@media (prefers-color-scheme: dark)"):
        values = dict(re.findall(r"--(\w+): (#\w+)", theme))
        assert used <= values.keys() and not any(values[name] in drawn for name in used)


def test_equal_charts_have_equal_bytes_and_settings_neither_matter_nor_change():
    first = draw_chart(TEXT, LINES, TICKS)
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "lines.linestyle": ":"}):
        before = dict(matplotlib.rcParams)
        assert draw_chart(TEXT, LINES, TICKS) == first
        assert dict(matplotlib.rcParams) == before


def test_a_single_point_is_in_the_middle():
    chart = ElementTree.fromstring(draw_chart(TEXT, [Line("a", [3], [50], [50], [50])], [(3, "3")]))
    ((x, _),) = points(chart, 0)
    assert 0.4 < x / float(chart.get("viewBox").split()[2]) < 0.6


def test_matplotlib_is_loaded_late_without_pyplot_and_writes_no_messages(tmp_path):
    (tmp_path / "file").touch()
    code = (
        "import sys\nfrom headway.reports.line_chart import ChartText, Line, draw_chart\n"
        "assert 'matplotlib' not in sys.modules\n"
        "draw_chart(ChartText('a', 'b', 'c', 'd'), [Line('e', [1], [2], [1], [3])], [(1, '1')])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    nowhere = os.environ | {"MPLCONFIGDIR": str(tmp_path / "file" / "x"), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=nowhere, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
