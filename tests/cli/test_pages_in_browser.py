"""Every page in a real browser, of images with hostile names: no error, no request, nothing that a name injects."""

import os
import shutil
import subprocess

import pytest
from PIL import Image

import headway
from headway.synthetic import DrawnAnimals

pytestmark = pytest.mark.skipif(
    not shutil.which("chromium"), reason="chromium, which shows the pages, is not installed"
)

NAMES = [
    "<img src=x onerror=document.title='seized'>.png",
    "\"'><b>.png",
    "a\u202egnp.png",
    os.fsdecode(b"b\xe9\xff.png"),
]
"""Markup, quotes, a character that reverses the text after it, and bytes that are no UTF-8."""


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    source = DrawnAnimals(8, 48, seed=3)
    for kind in range(2):
        images = folder / "photos" / f"<i>{kind}"
        images.mkdir(parents=True)
        for i, name in enumerate(NAMES):
            Image.fromarray(source.image(4 * kind + i).permute(1, 2, 0).numpy()).save(images / name)
    headway.pretrain(
        "rotation", data=folder / "photos", out=folder / "run", backbone="vit_nano", patch=8, size=32, steps=1
    )
    return folder


def write_check(here, page):
    headway.check(here / "photos", out=page)


def write_show(here, page):
    headway.show("rotation", data=here / "photos", run=here / "run", out=page, count=4)


def write_maps(here, page):
    images = [here / "photos" / "<i>0" / name for name in NAMES]
    headway.attend(here / "run", tuple(map(str, images)), out=page)


def write_steps(here, page):
    headway.attend(here / "run", (str(here / "photos" / "<i>0" / NAMES[0]),), out=page, explain=True)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("write", [write_check, write_show, write_maps, write_steps])
def test_a_page_shows_hostile_names_without_an_error(write, here, tmp_path):
    page = tmp_path / "page.html"
    write(here, page)
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command = ["chromium", *words, "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=2000", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "CONSOLE" not in shown.stderr, "the browser reports errors, and requests that the policy refuses, there"
    assert "</html>" in shown.stdout and "onerror=document" in shown.stdout
    assert "<title>seized" not in shown.stdout and '<img src="x"' not in shown.stdout
    assert not {"\u202e", "\udce9"} & set(page.read_text(encoding="utf-8"))
