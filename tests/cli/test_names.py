"""File and class names that are not valid UTF-8 (Latin-1, say), in everything that is printed or written."""

import csv
import io
import shutil
import sys

import pytest

import headway
from headway.cli import main
from headway.synthetic import write_folder

LATIN1_NAME, ESCAPED_NAME = "gr\udcfcn", "gr\\udcfcn"
"""The German word for green in Latin-1, as Python decodes it, and as it is printed."""
SMALL = {"backbone": "vit_nano", "stem": "conv", "patch": 8, "size": 32, "steps": 1}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_folder(folder, 24, 32, seed=0)
    try:
        shutil.move(sorted(path for path in folder.iterdir() if path.is_dir())[0], folder / LATIN1_NAME)
    except OSError:
        pytest.skip("this file system accepts only names in UTF-8")
    first = sorted((folder / LATIN1_NAME).iterdir())[0]
    first.rename(first.with_name(f"{LATIN1_NAME}.png"))
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    headway.pretrain("rotation", data=photos, out=folder, **SMALL)
    return folder


@pytest.mark.parametrize("suffix", ["html", "png"])
def test_show_accepts_them(photos, tmp_path, suffix):
    headway.show("rotation", data=photos / LATIN1_NAME, out=tmp_path / f"task.{suffix}", size=32)
    if suffix == "html":
        assert f"{ESCAPED_NAME}.png" in (tmp_path / "task.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [["--out", "page.html"], ["--out", "page.html", "--explain"], ["--out", "folder"]])
def test_attend_accepts_them(photos, run, tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert main(["attend", str(run), str(photos / LATIN1_NAME / f"{LATIN1_NAME}.png"), *words]) == 0
    if "page.html" in words:
        assert f"{ESCAPED_NAME}.png" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_transfer_and_predict_accept_them(photos, run, tmp_path, capsys):
    model, table = tmp_path / "model", tmp_path / "labels.csv"
    words = ["transfer", run, "--data", photos, "--out", model, "--head", "knn"]
    assert main(list(map(str, words))) == 0
    assert main(["predict", str(model), "--data", str(photos / LATIN1_NAME), "--out", str(table)]) == 0
    assert ESCAPED_NAME in capsys.readouterr().out
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert f"{LATIN1_NAME}.png" in {row["file"] for row in rows} and LATIN1_NAME in rows[0]


def test_error_messages_are_printed_to_any_stream(monkeypatch):
    for stream in (io.StringIO(), io.TextIOWrapper(io.BytesIO(), encoding="ascii")):
        monkeypatch.setattr(sys, "stderr", stream)
        assert main(["check", f"/nowhere/{LATIN1_NAME}"]) == 2
        stream.seek(0)
        assert "nothing at" in stream.read()
