"""``headway show``: every task draws its image grid, with and without the predictions of a network."""

import html
import io
import json
import re

import pytest
from PIL import Image

import headway
from headway.cli import main
from headway.pretext import TASKS
from headway.synthetic import write_folder
from tests.errors import raises

NAMED = '<b>&"x'
"""A file name that would be markup if it were not escaped."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_folder(folder, 24, 48, seed=0)
    secret = Image.Exif()
    secret[0x010F] = "secret maker"
    with Image.open(next(folder.rglob("*.png"))) as image:
        image.save(folder / f"{NAMED}.jpg", exif=secret)
    return folder


QUICK = ("rotation", "simclr", "mae")


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=() if task in QUICK else pytest.mark.slow) for task in [*TASKS, "rotation+mae"]]
)
def test_every_task_is_shown_with_and_without_a_run(task, photos, tmp_path):
    run, page = tmp_path / "run", tmp_path / "task.html"
    small = {"backbone": "vit_nano", "stem": "conv", "patch": 8, "size": 32}
    headway.pretrain(task, data=photos, out=run, steps=1, **small)
    result = headway.show(task, data=photos, out=tmp_path / "task.png", count=3, size=32)
    assert result.to_dict() == {"out": str(tmp_path / "task.png"), "task": task, "images": 3}
    with Image.open(tmp_path / "task.png") as png:
        assert png.format == "PNG" and min(png.size) > 100 and not png.getexif() and len(png.getcolors(10**6)) > 50
    headway.show(task, data=photos, out=page, run=run, count=25)
    text = page.read_text()
    assert text.count('<section class="card">') == 25
    assert "secret maker" not in text and NAMED not in text and f"{NAMED}.jpg" in html.unescape(text)
    assert not re.search(r"<script|src=\"(?!data:)|@import|url\(", text), "the page is self-contained"


def test_predictions_of_a_run_are_marked_right_or_wrong(photos, tmp_path):
    run = tmp_path / "run"
    headway.pretrain("rotation", data=photos, out=run, steps=2, backbone="vit_nano", stem="conv", patch=8, size=32)
    headway.show("rotation", data=photos, out=tmp_path / "plain.html", size=32)
    headway.show("rotation", data=photos, out=tmp_path / "predicted.html", run=run)
    plain, predicted = ((tmp_path / name).read_text() for name in ("plain.html", "predicted.html"))
    marks = re.findall(r'<figcaption class="(right|wrong)">', predicted)
    assert len(marks) == 8 and not re.findall(r'<figcaption class="(right|wrong)">', plain)


def test_the_recipe_of_a_run_is_used(photos, tmp_path):
    run, page = tmp_path / "run", tmp_path / "page.html"
    words = ["--backbone", "vit_nano", "--stem", "conv", "--patch", "8", "--size", "32", "--steps", "1"]
    tokens = ["--recipe.task.variant", "tokens"]
    assert main(["pretrain", "jigsaw", "--data", str(photos), "--out", str(run), *words, *tokens]) == 0
    assert main(["show", "jigsaw", "--data", str(photos), "--run", str(run), "--out", str(page)]) == 0
    assert "of 16 patches right" in page.read_text()


def test_json_and_synthetic_images(tmp_path, capsys):
    out = tmp_path / "grid.png"
    assert main(["show", "mae", "--out", str(out), "--count", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"out": str(out), "task": "mae", "images": 2}
    assert Image.open(io.BytesIO(out.read_bytes())).format == "PNG"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "rotation", "--out", "{}/x.gif"], "neither .png nor .html"),
        (["show", "rotation", "--out", "{}/x.png", "--count", "0"], "--count must lie in"),
        (["show", "nonsense", "--out", "{}/x.png"], "nonsense"),
        (["show", "rotation", "--out", "{}/x.png", "--run", "{}/none"], "no run in"),
        (["show", "rotation", "--out", "{}/there.png"], "exists"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, tmp_path, capsys):
    (tmp_path / "there.png").write_bytes(b"mine")
    assert main([word.format(tmp_path) for word in words]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert (tmp_path / "there.png").read_bytes() == b"mine" and not (tmp_path / "x.png").exists()


def test_a_run_of_another_task_and_a_damaged_record_are_refused(photos, tmp_path):
    run = tmp_path / "run"
    headway.pretrain("rotation", data=photos, out=run, steps=1, backbone="vit_nano", stem="conv", patch=8, size=32)
    with raises("resume-differs"):
        headway.show("mae", data=photos, run=run, out=tmp_path / "x.png")
    record = json.loads((run / "run.json").read_text())
    record["config"]["recipe"]["type"] = "os:system"
    (run / "run.json").write_text(json.dumps(record))
    with raises("run-damaged"):
        headway.show("rotation", data=photos, run=run, out=tmp_path / "x.png")
