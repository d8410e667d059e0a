"""``headway check``: printed output, JSON and exit codes."""

import json

import numpy as np
import pytest
from PIL import Image

import headway
from headway.cli import main


def save(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(small).resize((48, 40), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def photos(tmp_path):
    for number in range(6):
        save(tmp_path / "photos" / "cat" / f"{number}.png", number)
        save(tmp_path / "photos" / "dog" / f"{number}.png", 50 + number)
    return tmp_path / "photos"


def run(capsys, *words):
    code = main(["check", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_clean_data_exit_0(photos, capsys):
    code, out, err = run(capsys, photos)
    assert code == 0 and "No findings." in out and "12 images read of 12 files" in out
    assert "48 to 48 pixels wide" in out and "2 classes of 6 to 6 images" in out and "Traceback" not in err
    assert "stored at 40 x 40 pixels for views of 40 x 40" in out


def test_findings_exit_1_and_are_named(photos, tmp_path, capsys):
    (photos / "cat" / "bad\n<b>.jpg").write_bytes(b"\xff\xd8\xff")
    code, out, _ = run(capsys, photos, "--test", photos / "dog", "--out", tmp_path / "page.html")
    assert code == 1 and "- unreadable: 1 of 13 files" in out and "cat/bad\\n<b>.jpg: " in out
    assert "test images that are among the data, equal in every pixel: 6" in out and "0.png = dog/0.png" in out
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "data:image/jpeg" in page and "&lt;b&gt;" in page and "<b>.jpg" not in page
    code, _, err = run(capsys, photos, "--out", tmp_path / "page.html")
    assert code == 2 and "exists" in err


def test_json_is_the_last_line_and_equals_the_python_result(photos, capsys):
    (photos / "dog" / "empty.png").write_bytes(b"")
    code, out, _ = run(capsys, photos, "--json")
    answer = json.loads(out.splitlines()[-1])
    assert code == 1 and answer["files"] == 13 and answer["read"] == 12
    assert answer["skipped"] == [{"file": "dog/empty.png", "reason": "empty file"}] and answer["notes"] == []
    assert answer == json.loads(json.dumps(headway.check(photos).to_dict()))


def test_no_thumbnails(photos, tmp_path, capsys):
    code, _, _ = run(capsys, photos, "--no-thumbnails", "--out", tmp_path / "page.html")
    assert code == 0 and "data:image" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_nothing_readable_exit_2(tmp_path, capsys):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"")
    (tmp_path / "broken" / "b.jpg").write_text("words")
    code, out, _ = run(capsys, tmp_path / "broken", "--out", tmp_path / "page.html")
    assert code == 2 and "0 images read of 2 files" in out and "b.jpg: a text, not an image" in out
    assert "<footer><p></p></footer>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    (tmp_path / "none").mkdir()
    for given, message in (("none", "no images in"), ("missing", "nothing at")):
        code, _, err = run(capsys, tmp_path / given)
        assert code == 2 and message in err and len(err.splitlines()) == 1
    assert run(capsys, tmp_path / "broken", "--out", tmp_path / "page.txt")[0] == 2
    assert run(capsys, tmp_path / "broken", "--channels", "-1")[0] == 2
