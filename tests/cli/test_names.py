"""Names of files and classes that are no text (in Latin-1, say), in everything that is printed or written."""

import csv
import io
import shutil
import sys

import pytest

import headway
from headway.cli import main
from headway.samples import write_folder

ODD, SHOWN = "gr\udcfcn", "gr\\udcfcn"
"""The German for green as Latin-1 writes it and Python hands it on, and as it is shown."""
SMALL = {"backbone": "vit_nano", "stem": "conv", "patch": 8, "size": 32, "steps": 1}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_folder(folder, 24, 32, seed=0)
    try:
        shutil.move(sorted(path for path in folder.iterdir() if path.is_dir())[0], folder / ODD)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    first = sorted((folder / ODD).iterdir())[0]
    first.rename(first.with_name(f"{ODD}.png"))
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    headway.pretrain("rotation", data=photos, out=folder, **SMALL)
    return folder


@pytest.mark.parametrize("kind", ["html", "png"])
def test_a_game_is_shown(photos, tmp_path, kind):
    headway.show("rotation", data=photos / ODD, out=tmp_path / f"game.{kind}", size=32)
    if kind == "html":
        assert f"{SHOWN}.png" in (tmp_path / "game.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [["--out", "page.html"], ["--out", "page.html", "--explain"], ["--out", "folder"]])
def test_attention_is_shown(photos, run, tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert main(["attend", str(run), str(photos / ODD / f"{ODD}.png"), *words]) == 0
    if "page.html" in words:
        assert f"{SHOWN}.png" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_class_is_named_and_printed(photos, run, tmp_path, capsys):
    model, table = tmp_path / "model", tmp_path / "labels.csv"
    words = ["transfer", run, "--data", photos, "--out", model, "--head", "knn"]
    assert main(list(map(str, words))) == 0
    assert main(["predict", str(model), "--data", str(photos / ODD), "--out", str(table)]) == 0
    assert SHOWN in capsys.readouterr().out
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert f"{ODD}.png" in {row["file"] for row in rows} and ODD in rows[0]  # as the files are called


def test_errors_are_printed_whatever_takes_them(monkeypatch):
    for stream in (io.StringIO(), io.TextIOWrapper(io.BytesIO(), encoding="ascii")):
        monkeypatch.setattr(sys, "stderr", stream)
        assert main(["check", f"/nowhere/{ODD}"]) == 2
        stream.seek(0)
        assert "nothing at" in stream.read()
