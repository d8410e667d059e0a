"""Backbones are built by name, saved to files, loaded from files and converted to JSON."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from headway.backbones.build import build_backbone, check_supports, from_config, to_config
from headway.backbones.weights import load_backbone, save_backbone
from headway.errors import HeadwayError
from headway.protocol import InputSpec
from tests.errors import raises

GRAYSCALE = InputSpec(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), grayscale=True)


def example_backbones():
    torch.manual_seed(0)
    yield build_backbone("vit_nano", size=16, input_spec=GRAYSCALE, stem="conv", registers=2, layer_scale=0.1, depth=1)
    yield build_backbone("timm:resnet18", size=32, cifar_stem=True)


def test_loaded_backbone_equals_the_saved_one(tmp_path):
    for backbone in example_backbones():
        backbone.train()(torch.rand(4, 3, 32, 32))  # updates the statistics of batch norms
        save_backbone(backbone, tmp_path / "model.safetensors")
        images = torch.rand(2, 3, 32, 32)
        for path in (tmp_path, tmp_path / "model.safetensors", str(tmp_path)):
            again = load_backbone(path)
            assert not again.training and again.input_spec == backbone.input_spec
            assert torch.equal(again(images).pooled, backbone.eval()(images).pooled)
            assert to_config(again) == to_config(backbone)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_precision_is_kept(tmp_path):
    backbone = build_backbone("vit_nano", size=16, depth=1).double()
    save_backbone(backbone, tmp_path / "weights")
    again = load_backbone(tmp_path / "weights")
    assert all(parameter.dtype == torch.float64 for parameter in again.parameters())
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), backbone.parameters(), strict=True))


def test_config_round_trip_through_json():
    for backbone in example_backbones():
        config = json.loads(json.dumps(to_config(backbone)))
        again = from_config(config)
        assert again.state_dict().keys() == backbone.state_dict().keys()
        assert again.input_spec == backbone.input_spec
        assert json.loads(json.dumps(to_config(again))) == config


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"kind": "vit"},
        {"kind": "magic", "input_spec": GRAYSCALE._asdict()},
        [1],
        {"kind": "vit", "input_spec": {"mean": 3}},
    ],
)
def test_unknown_config_is_refused(config):
    with pytest.raises(HeadwayError, match="backbone"):
        from_config(config)


def test_files_that_are_no_backbone(tmp_path):
    file = tmp_path / "model.safetensors"
    with raises("weights-not-found"):
        load_backbone(tmp_path)
    file.write_bytes(b"not at all")
    with raises("weights-damaged"):
        load_backbone(file)
    save_backbone(build_backbone("vit_nano", size=16, depth=1), file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with raises("weights-damaged"):
        load_backbone(file)
    save_file({"weight": torch.zeros(2)}, file)
    with raises("weights-damaged"):
        load_backbone(file)
    config = json.dumps(to_config(build_backbone("vit_nano", size=16, depth=1)))
    save_file({"weight": torch.zeros(2)}, file, metadata={"headway": config})
    with raises("weights-damaged"):
        load_backbone(file)
    save_file({"weight": torch.zeros(2)}, file, metadata={"headway": "{"})
    with raises("weights-damaged"):
        load_backbone(file)
    file.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with raises("weights-damaged"):
        load_backbone(file)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    backbone = build_backbone("vit_nano", size=16, depth=1)
    save_backbone(backbone, file)
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headway.utils.files.os.fsync", full)
    with raises("cannot-write"):
        save_backbone(backbone, file)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]
    with raises("cannot-write"):
        save_backbone(backbone, tmp_path / "nowhere" / "file")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit_tinny", "unknown backbone 'vit_tinny': did you mean vit_tiny"),
        ("resnet18", "did you mean timm:resnet18"),
        ("timm:resnet19", "unknown timm model 'resnet19': did you mean resnet18"),
        ("timm:hf_hub:some/thing", "unknown timm model"),
    ],
)
def test_unknown_names_suggest_similar_ones(name, words):
    with pytest.raises(HeadwayError, match=words):
        build_backbone(name, size=64)


def test_unknown_options_are_refused():
    with raises("unknown-name"):
        build_backbone("vit_nano", size=32, dept=3)
    with raises("options-conflict", "patch_size", "class_token"):
        build_backbone("timm:resnet18", size=32, stem="conv")
    with raises("backbone-unsupported", "vit_nano"):
        build_backbone("vit_nano", size=32, pretrained=True)


def test_error_names_what_a_task_requires():
    backbone = build_backbone("timm:resnet18", size=32)
    error = check_supports(backbone, {"keep_indices"}, "mae")
    words = "task mae needs a backbone that supports keep_indices; timm:resnet18 supports only mask"
    assert str(error).startswith(words)
    assert check_supports(backbone, {"mask"}, "simmim") is None
    everything = {"keep_indices", "mask", "use_pos_embed", "return_layers"}
    assert check_supports(build_backbone("vit_nano", size=16), everything) is None
