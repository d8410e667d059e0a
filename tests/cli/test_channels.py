"""Images with more than three channels or more than 8 bits, from pretraining to prediction."""

import csv
import json

import numpy as np
import pytest
import tifffile
import torch

import headway
from headway.attention_viz import report as attend_module
from headway.backbones.weights import load_backbone
from headway.cli import main
from headway.data.dataset.image_store import build_store
from headway.data.open import open_source

FAST = {"backbone": "vit_nano", "stem": "conv", "patch": 8, "precision": "float32", "steps": 2}


@pytest.fixture
def bands(tmp_path):
    """Two classes of 12-bit images of 5 bands: bright in the second band, or in the fourth."""
    rng = np.random.default_rng(0)
    for number in range(16):
        values = rng.integers(0, 2000, (16, 16, 5)).astype(np.uint16)
        values[..., 1 + 2 * (number % 2)] += 2000
        path = tmp_path / "bands" / "ab"[number % 2] / f"{number:02d}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig")
    return tmp_path / "bands"


@pytest.mark.parametrize("task", ["rotation", "simclr", "mae"])
def test_twelve_bit_bands_from_file_to_prediction(bands, tmp_path, task):
    run, model = tmp_path / "run", tmp_path / "model"
    headway.pretrain(task, data=bands, out=run, **FAST)
    spec = load_backbone(run).input_spec
    assert spec.channels == 5 and spec.value_range == (0.0, 4095.0)  # the smallest of 8, 10, 12, ... bits that fits
    assert spec.mean[1] == pytest.approx(2000 / 4095, abs=0.02) and spec.mean[0] == pytest.approx(0.244, abs=0.02)
    result = headway.transfer(run, data=bands, out=model, head="linear")
    assert result.accuracy == 100
    dark = (
        tmp_path / "dark.tif"
    )  # values far below the others: scaled by the run's value range, not by a range of their own
    values = np.zeros((16, 16, 5), np.uint16)
    tifffile.imwrite(dark, values, photometric="minisblack", planarconfig="contig")
    headway.predict(model, data=bands, out=tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open() as file:
        assert all(row["label"] == row["file"][0] for row in csv.DictReader(file))
    headway.embed(run, data=dark, out=tmp_path / "dark.npz")
    assert np.isfinite(np.load(tmp_path / "dark.npz")["features"]).all()


def test_a_task_that_needs_color_is_refused(bands, tmp_path, capsys):
    words = ["pretrain", "colorization", "--data", bands, "--out", tmp_path / "r", "--patch", 8, "--steps", 1]
    assert main(list(map(str, words))) == 2
    assert "colorization needs color images, got 5 channel(s)" in capsys.readouterr().err


def stacks(folder, count):
    """Four TIFF files of ``count`` gray pages."""
    folder.mkdir()
    for number in range(4):
        pages = np.random.default_rng(number).integers(0, 256, (count, 20, 20), dtype=np.uint8)
        tifffile.imwrite(folder / f"{number}.tif", pages, photometric="minisblack")
    return folder


def test_pages_become_channels_on_request(tmp_path, capsys):
    stacks(tmp_path / "stacks", 4)
    assert main(["check", str(tmp_path / "stacks"), "--json"]) in (0, 1)
    first = json.loads(capsys.readouterr().out)
    assert first["pixel_format"]["channels"] == 3 and {row["note"] for row in first["notes"]} == {
        "the first of several pages"
    }
    assert main(["check", str(tmp_path / "stacks"), "--channels", "4", "--json"]) in (0, 1)
    requested = json.loads(capsys.readouterr().out)
    assert requested["pixel_format"]["channels"] == 4 and len(requested["mean"]) == 4
    assert {row["note"] for row in requested["notes"]} == {"its 4 pages became channels"}
    headway.pretrain("rotation", data=tmp_path / "stacks", out=tmp_path / "run", channels=4, **FAST)
    backbone = load_backbone(tmp_path / "run")
    assert backbone.input_spec.channels == 4
    assert build_store(open_source(tmp_path / "stacks", backbone=backbone), 20).skipped == []


@pytest.mark.parametrize("channels", [0, 3])
def test_three_pages_become_colors_only_on_request(tmp_path, capsys, channels):
    folder = stacks(tmp_path / "stacks", 3)
    assert main(["check", str(folder), "--channels", str(channels), "--json"]) in (0, 1)
    note = "its 3 pages became channels" if channels else "the first of several pages"
    assert {row["note"] for row in json.loads(capsys.readouterr().out)["notes"]} == {note}
    store = build_store(open_source(folder, channels=channels), 20)
    pages = torch.from_numpy(tifffile.imread(folder / "0.tif"))  # 3 H W
    assert store.images[0].equal(pages if channels else pages[:1].expand(3, -1, -1))


def test_attention_maps_use_the_pixel_format_of_the_backbone(bands, tmp_path, monkeypatch):
    run, shown = tmp_path / "run", []
    headway.pretrain("mae", data=bands, out=run, **FAST)
    attention_maps = attend_module.attention_maps
    monkeypatch.setattr(
        attend_module, "attention_maps", lambda backbone, view: shown.append(view[0]) or attention_maps(backbone, view)
    )
    headway.attend(run, bands / "a" / "00.tif", out=tmp_path / "page.html")
    values = tifffile.imread(bands / "a" / "00.tif").astype(np.float32) / 4095
    assert np.allclose(shown[0].permute(1, 2, 0).numpy(), values, atol=1e-6)


def test_a_backbone_records_that_its_channels_were_pages(tmp_path):
    folder = stacks(tmp_path / "stacks", 3)
    for channels, pages in ((0, False), (3, True)):
        run = tmp_path / f"run{channels}"
        headway.pretrain("rotation", data=folder, out=run, channels=channels, **FAST)
        backbone = load_backbone(run)
        assert backbone.input_spec.pages_as_channels == pages
        assert open_source(folder, backbone=backbone).pixel_format.pages_as_channels == pages
