"""A backbone always gets images in one pixel format: in pretraining, when it is continued, and in probes."""

import json

import numpy as np
import pytest
import tifffile
import timm
from safetensors.torch import save_file

import headway
from headway.backbones.weights import load_backbone
from headway.data.dataset.image_store import build_store
from headway.data.decoding.pixel_format import RGB, PixelFormat, pixel_format_of
from headway.data.open import open_source
from headway.synthetic import DrawnAnimals
from tests.errors import raises

pytestmark = pytest.mark.usefixtures("unmeasured")

FAST = {"backbone": "vit_nano", "stem": "conv", "patch": 8, "precision": "float32", "steps": 2}


def write_16_bit(folder, max_value, channels=3, count=16):
    """16-bit images of two classes whose values stay below ``max_value``."""
    rng = np.random.default_rng(max_value)
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number:02d}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = rng.integers(0, max_value, (16, 16, channels)).astype(np.uint16)
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig")
    return folder


def data_fingerprint(run):
    return json.loads((run / "run.json").read_text())["data"]["fingerprint"]


@pytest.mark.parametrize("option", ["init", "continue_from"])
def test_a_continued_backbone_keeps_its_value_range(option, tmp_path):
    bright, dark = write_16_bit(tmp_path / "bright", 4000), write_16_bit(tmp_path / "dark", 900)
    headway.pretrain("rotation", data=bright, out=tmp_path / "a", **FAST)
    words = {"data": dark, "steps": 1, "precision": "float32", option: str(tmp_path / "a")}
    headway.pretrain("rotation", out=tmp_path / "b", **words)
    spec = load_backbone(tmp_path / "b").input_spec
    assert spec.value_range == load_backbone(tmp_path / "a").input_spec.value_range == (0.0, 4095.0)  # not 0..1023
    store = build_store(open_source(dark), 16, pixel_format=pixel_format_of(spec))
    assert data_fingerprint(tmp_path / "b") == store.fingerprint
    headway.pretrain("rotation", out=tmp_path / "c", value_range=(0, 4095), channels=3, **words)  # the same values
    for other in ({"value_range": (0, 1023)}, {"channels": 1}):
        with raises("options-conflict", "4095"):
            headway.pretrain("rotation", out=tmp_path / "d", **words, **other)
    assert not (tmp_path / "d").exists()


def test_initial_weights_for_8_bits_get_8_bits(tmp_path):
    headway.pretrain("rotation", data=DrawnAnimals(12, 32), out=tmp_path / "a", size=16, **FAST)
    headway.pretrain(
        "rotation", data=write_16_bit(tmp_path / "deep", 4000), out=tmp_path / "b", init=str(tmp_path / "a"), steps=1,
        precision="float32",
    )  # fmt: skip
    assert load_backbone(tmp_path / "b").input_spec.value_range is None
    store = build_store(open_source(tmp_path / "deep"), 16, pixel_format=RGB)
    assert data_fingerprint(tmp_path / "b") == store.fingerprint


def test_initial_weights_without_a_value_range_get_that_of_the_images(tmp_path):
    save_file(timm.create_model("resnet10t", num_classes=0).state_dict(), tmp_path / "w.safetensors")
    words = {"backbone": "timm:resnet10t", "init": str(tmp_path / "w.safetensors"), "precision": "float32"}
    words |= {"data": write_16_bit(tmp_path / "deep", 900), "size": 32, "steps": 1}
    headway.pretrain("rotation", out=tmp_path / "a", **words)
    assert load_backbone(tmp_path / "a").input_spec.value_range == (0.0, 1023.0)
    headway.pretrain("rotation", out=tmp_path / "b", value_range=(0, 4095), **words)
    assert load_backbone(tmp_path / "b").input_spec.value_range == (0.0, 4095.0)
    headway.pretrain("rotation", out=tmp_path / "c", data=words["data"], reproduce=str(tmp_path / "b"))
    assert load_backbone(tmp_path / "c").input_spec.value_range == (0.0, 4095.0)


@pytest.mark.parametrize("channels", [1, 4])
def test_the_probe_uses_the_channels_of_the_run(channels, tmp_path):
    data = write_16_bit(tmp_path / "deep", 4000, channels=4 if channels == 4 else 3, count=24)
    result = headway.pretrain("rotation", data=data, out=tmp_path / "r", channels=channels, probe=data, **FAST)
    assert result.steps == 2 and load_backbone(tmp_path / "r").input_spec.channels == channels
    assert '"20-NN"' in (tmp_path / "r" / "log.jsonl").read_text()


def test_the_probe_uses_the_value_range_of_the_run(tmp_path, monkeypatch):
    bright, dark, seen = write_16_bit(tmp_path / "bright", 4000), write_16_bit(tmp_path / "dark", 900), []
    monkeypatch.setattr(
        "headway.downstream.knn_probe.knn_probe",
        lambda source, seed: seen.append(source.pixel_format) or (lambda backbone: 0.0),
    )
    headway.pretrain("rotation", data=bright, out=tmp_path / "a", probe=dark, **FAST)
    words = {"init": str(tmp_path / "a"), "steps": 1, "precision": "float32"}
    headway.pretrain("rotation", data=dark, out=tmp_path / "b", probe=dark, **words)
    assert seen == [PixelFormat(3, (0.0, 4095.0))] * 2
