"""Pages from templates: hostile names are escaped, the policy allows exactly what is inlined, nothing is fetched."""

import base64
import hashlib
import re
import subprocess
import sys

import jinja2
import pytest
import torch
from markupsafe import escape

from headway.protocol import Panel
from headway.reports.html import image_grid_html, render_page
from headway.reports.image_grid import ImageGrid

HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "a\u202egnp.exe",
    "b\udce9\udcff",
    "c\nd\x1b",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_escaped(name):
    panel = Panel(name, torch.zeros(1, 3, 4, 4), (name,))
    page = image_grid_html(ImageGrid(name, name, [panel], [name], name, description=f"First.\n\n{name}"))
    page.encode("utf-8" if "\udce9" not in name else "ascii", "strict")
    assert not {"\u202e", "\x1b", "\udce9"} & set(page)
    assert not re.search(r"<script|<img src=x|=\"[^\"<>]*\"'><img", page)
    shown = str(escape("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)))
    assert page.count(shown) >= 7


def test_the_policy_allows_exactly_the_inlined_style():
    page = image_grid_html(ImageGrid("t", "s", [Panel("p", torch.zeros(1, 1, 2, 2), ("c",))], ["n"], "note"))
    style = re.search(r"<style>(.*?)</style>", page, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; img-src data:;") and "script-src" not in policy
    assert re.findall(r"'(sha256-[^']*)'", policy) == [f"sha256-{digest}"]
    assert not re.search(r"(?:src|href)=[\"'](?!data:)|url\(|@import|https?://", page)


def test_a_value_that_a_template_misses_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        render_page("image_grid.html.j2", title="t")


def test_no_template_engine_is_loaded_before_a_page_is_written():
    code = "import sys, headway.reports.html; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
