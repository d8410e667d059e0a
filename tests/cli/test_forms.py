"""Whatever a backbone is shown is read in one form: when it is trained on, and when it is probed meanwhile."""

import json

import numpy as np
import pytest
import tifffile
import timm
from safetensors.torch import save_file

import headway
from headway.backbones.weights import load_backbone
from headway.data.form import RGB, Form, form_of
from headway.data.open import open_source
from headway.data.store import build_store
from headway.samples import DrawnAnimals

pytestmark = pytest.mark.usefixtures("unmeasured")

FAST = {"backbone": "vit_nano", "stem": "conv", "patch": 8, "precision": "float32", "steps": 2}


def write_deep(folder, brightest, channels=3, count=16):
    """16-bit pictures of two classes whose values stay below ``brightest``."""
    chance = np.random.default_rng(brightest)
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number:02d}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = chance.integers(0, brightest, (16, 16, channels)).astype(np.uint16)
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig")
    return folder


def fingerprint_of(run):
    return json.loads((run / "run.json").read_text())["data"]["fingerprint"]


@pytest.mark.parametrize("word", ["weights", "extend"])
def test_a_backbone_that_goes_on_reads_in_the_range_that_it_is_used_to(word, tmp_path):
    bright, dark = write_deep(tmp_path / "bright", 4000), write_deep(tmp_path / "dark", 900)
    headway.pretrain("rotation", data=bright, out=tmp_path / "a", **FAST)
    words = {"data": dark, "steps": 1, "precision": "float32", word: str(tmp_path / "a")}
    headway.pretrain("rotation", out=tmp_path / "b", **words)
    inputs = load_backbone(tmp_path / "b").inputs
    assert inputs.span == load_backbone(tmp_path / "a").inputs.span == (0.0, 4095.0)  # alone they would have 0..1023
    assert fingerprint_of(tmp_path / "b") == build_store(open_source(dark), 16, form=form_of(inputs)).fingerprint
    headway.pretrain("rotation", out=tmp_path / "c", span=(0, 4095), channels=3, **words)  # says the same
    for odd in ({"span": (0, 1023)}, {"channels": 1}):
        with pytest.raises(headway.HeadwayError, match=r"3 channel\(s\) and the values 0 to 4095, .*leave out"):
            headway.pretrain("rotation", out=tmp_path / "d", **words, **odd)
    assert not (tmp_path / "d").exists()


def test_weights_of_8_bits_are_shown_8_bits(tmp_path):
    headway.pretrain("rotation", data=DrawnAnimals(12, 32), out=tmp_path / "a", size=16, **FAST)
    headway.pretrain(
        "rotation", data=write_deep(tmp_path / "deep", 4000), out=tmp_path / "b", weights=str(tmp_path / "a"), steps=1,
        precision="float32",
    )  # fmt: skip
    assert load_backbone(tmp_path / "b").inputs.span is None
    assert fingerprint_of(tmp_path / "b") == build_store(open_source(tmp_path / "deep"), 16, form=RGB).fingerprint


def test_weights_without_a_range_get_that_of_the_pictures(tmp_path):
    save_file(timm.create_model("resnet10t", num_classes=0).state_dict(), tmp_path / "w.safetensors")
    words = {"backbone": "timm:resnet10t", "weights": str(tmp_path / "w.safetensors"), "precision": "float32"}
    words |= {"data": write_deep(tmp_path / "deep", 900), "size": 32, "steps": 1}
    headway.pretrain("rotation", out=tmp_path / "a", **words)
    assert load_backbone(tmp_path / "a").inputs.span == (0.0, 1023.0)
    headway.pretrain("rotation", out=tmp_path / "b", span=(0, 4095), **words)
    assert load_backbone(tmp_path / "b").inputs.span == (0.0, 4095.0)
    headway.pretrain("rotation", out=tmp_path / "c", data=words["data"], repeat=str(tmp_path / "b"))  # knows the span
    assert load_backbone(tmp_path / "c").inputs.span == (0.0, 4095.0)


@pytest.mark.parametrize("channels", [1, 4])
def test_the_probe_is_read_with_the_channels_of_the_run(channels, tmp_path):
    data = write_deep(tmp_path / "deep", 4000, channels=4 if channels == 4 else 3, count=24)
    answer = headway.pretrain("rotation", data=data, out=tmp_path / "r", channels=channels, probe=data, **FAST)
    assert answer["steps"] == 2 and load_backbone(tmp_path / "r").inputs.channels == channels
    assert '"20-NN"' in (tmp_path / "r" / "log.jsonl").read_text()


def test_the_probe_is_read_in_the_range_of_the_run(tmp_path, monkeypatch):
    bright, dark, seen = write_deep(tmp_path / "bright", 4000), write_deep(tmp_path / "dark", 900), []
    monkeypatch.setattr(
        "headway.cli.pretrain.knn_probe", lambda source, seed: seen.append(source.form) or (lambda backbone: 0.0)
    )
    headway.pretrain("rotation", data=bright, out=tmp_path / "a", probe=dark, **FAST)
    words = {"weights": str(tmp_path / "a"), "steps": 1, "precision": "float32"}
    headway.pretrain("rotation", data=dark, out=tmp_path / "b", probe=dark, **words)
    assert seen == [Form(3, (0.0, 4095.0))] * 2
