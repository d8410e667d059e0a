"""What a person sees of a game: every task draws its sheet, with a network's answers and without."""

import io
import json
import re

import pytest
from PIL import Image

import headway
from headway.cli import main
from headway.pretext import TASKS
from headway.samples import write_folder

NAMED = '<b>&"x'
"""A file's name that would be markup if it were not escaped."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_folder(folder, 24, 48, seed=0)
    secret = Image.Exif()
    secret[0x010F] = "secret maker"
    with Image.open(next(folder.rglob("*.png"))) as picture:
        picture.save(folder / f"{NAMED}.jpg", exif=secret)
    return folder


@pytest.mark.parametrize("task", [*TASKS, "rotation+mae"])
def test_every_task_shows_its_game_and_the_answers_of_a_run(task, photos, tmp_path):
    run, page = tmp_path / "run", tmp_path / "game.html"
    small = {"backbone": "vit_nano", "stem": "conv", "patch": 8, "size": 32}
    headway.pretrain(task, data=photos, out=run, steps=1, **small)
    game = headway.show(task, data=photos, out=tmp_path / "game.png", count=3, size=32)
    assert game == {"out": str(tmp_path / "game.png"), "task": task, "pictures": 3}
    with Image.open(tmp_path / "game.png") as sheet:
        assert (
            sheet.format == "PNG" and min(sheet.size) > 100 and not sheet.getexif() and len(sheet.getcolors(10**6)) > 50
        )
    headway.show(task, data=photos, out=page, run=run, count=25)
    text = page.read_text()
    assert text.count('<section class="card">') == 25
    assert "secret maker" not in text and NAMED not in text and "&lt;b&gt;&amp;&quot;x.jpg" in text
    assert not re.search(r"<script|src=\"(?!data:)|@import|url\(", text), "a page needs nothing else"


def test_answers_differ_from_the_game_alone_and_are_judged(photos, tmp_path):
    run = tmp_path / "run"
    headway.pretrain("rotation", data=photos, out=run, steps=2, backbone="vit_nano", stem="conv", patch=8, size=32)
    headway.show("rotation", data=photos, out=tmp_path / "alone.html", size=32)
    headway.show("rotation", data=photos, out=tmp_path / "asked.html", run=run)
    alone, asked = ((tmp_path / name).read_text() for name in ("alone.html", "asked.html"))
    judged = re.findall(r'<figcaption class="(right|wrong)">', asked)
    assert len(judged) == 8 and not re.findall(r'<figcaption class="(right|wrong)">', alone)


def test_the_recipe_of_a_run_is_used_again(photos, tmp_path):
    run, sheet = tmp_path / "run", tmp_path / "sheet.html"
    words = ["--backbone", "vit_nano", "--stem", "conv", "--patch", "8", "--size", "32", "--steps", "1"]
    tokens = ["--recipe.task.form", "tokens"]
    assert main(["pretrain", "jigsaw", "--data", str(photos), "--out", str(run), *words, *tokens]) == 0
    assert main(["show", "jigsaw", "--data", str(photos), "--run", str(run), "--out", str(sheet)]) == 0
    assert "of 16 patches right" in sheet.read_text()


def test_json_and_pictures_drawn_by_program(tmp_path, capsys):
    out = tmp_path / "sheet.png"
    assert main(["show", "mae", "--out", str(out), "--count", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"out": str(out), "task": "mae", "pictures": 2}
    assert Image.open(io.BytesIO(out.read_bytes())).format == "PNG"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "rotation", "--out", "{}/x.gif"], "neither .png nor .html"),
        (["show", "rotation", "--out", "{}/x.png", "--count", "0"], "--count must lie in"),
        (["show", "nonsense", "--out", "{}/x.png"], "nonsense"),
        (["show", "rotation", "--out", "{}/x.png", "--run", "{}/none"], "no run in"),
        (["show", "rotation", "--out", "{}/there.png"], "exists"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, said, tmp_path, capsys):
    (tmp_path / "there.png").write_bytes(b"mine")
    assert main([word.format(tmp_path) for word in words]) == 2
    assert said in capsys.readouterr().err.replace("\n", " ")
    assert (tmp_path / "there.png").read_bytes() == b"mine" and not (tmp_path / "x.png").exists()


def test_a_run_of_another_task_and_a_damaged_record_are_refused(photos, tmp_path):
    run = tmp_path / "run"
    headway.pretrain("rotation", data=photos, out=run, steps=1, backbone="vit_nano", stem="conv", patch=8, size=32)
    with pytest.raises(headway.HeadwayError, match="is a run of rotation, not of mae"):
        headway.show("mae", data=photos, run=run, out=tmp_path / "x.png")
    record = json.loads((run / "run.json").read_text())
    record["job"]["recipe"]["type"] = "os:system"
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(headway.HeadwayError, match="os:system"):
        headway.show("rotation", data=photos, run=run, out=tmp_path / "x.png")
