"""Backbones by name, into files and out of them."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from headway.backbones.load import architecture, build_backbone, from_architecture, missing
from headway.backbones.weights import load_backbone, save_backbone
from headway.errors import HeadwayError
from headway.protocol import Inputs

GREY = Inputs(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), grey=True)


def some():
    torch.manual_seed(0)
    yield build_backbone("vit_nano", size=16, inputs=GREY, stem="conv", registers=2, layer_scale=0.1, depth=1)
    yield build_backbone("timm:resnet18", size=32, small=True)


def test_saved_and_loaded_is_the_same(tmp_path):
    for backbone in some():
        backbone.train()(torch.rand(4, 3, 32, 32))  # moves batch norms' statistics
        save_backbone(backbone, tmp_path / "model.safetensors")
        images = torch.rand(2, 3, 32, 32)
        for place in (tmp_path, tmp_path / "model.safetensors", str(tmp_path)):
            again = load_backbone(place)
            assert not again.training and again.inputs == backbone.inputs
            assert torch.equal(again(images).pooled, backbone.eval()(images).pooled)
            assert architecture(again) == architecture(backbone)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_precision_stays(tmp_path):
    backbone = build_backbone("vit_nano", size=16, depth=1).double()
    save_backbone(backbone, tmp_path / "weights")
    again = load_backbone(tmp_path / "weights")
    assert all(parameter.dtype == torch.float64 for parameter in again.parameters())
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), backbone.parameters(), strict=True))


def test_architecture_survives_json():
    for backbone in some():
        plain = json.loads(json.dumps(architecture(backbone)))
        again = from_architecture(plain)
        assert again.state_dict().keys() == backbone.state_dict().keys()
        assert again.inputs == backbone.inputs
        assert json.loads(json.dumps(architecture(again))) == plain


@pytest.mark.parametrize(
    "plain",
    [{}, {"kind": "vit"}, {"kind": "magic", "inputs": GREY._asdict()}, [1], {"kind": "vit", "inputs": {"mean": 3}}],
)
def test_a_stranger_architecture_is_refused(plain):
    with pytest.raises(HeadwayError, match="backbone"):
        from_architecture(plain)


def test_a_file_that_is_no_backbone(tmp_path):
    file = tmp_path / "model.safetensors"
    with pytest.raises(HeadwayError, match="no weights at"):
        load_backbone(tmp_path)
    file.write_bytes(b"not at all")
    with pytest.raises(HeadwayError, match="cannot read"):
        load_backbone(file)
    save_backbone(build_backbone("vit_nano", size=16, depth=1), file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(HeadwayError, match="cannot read"):
        load_backbone(file)
    save_file({"weight": torch.zeros(2)}, file)
    with pytest.raises(HeadwayError, match="isn't a backbone from headway"):
        load_backbone(file)
    plain = json.dumps(architecture(build_backbone("vit_nano", size=16, depth=1)))
    save_file({"weight": torch.zeros(2)}, file, metadata={"headway": plain})
    with pytest.raises(HeadwayError, match="don't fit the network"):
        load_backbone(file)
    save_file({"weight": torch.zeros(2)}, file, metadata={"headway": "{"})
    with pytest.raises(HeadwayError, match="don't fit the network"):
        load_backbone(file)
    file.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(HeadwayError, match="cannot read"):
        load_backbone(file)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    backbone = build_backbone("vit_nano", size=16, depth=1)
    save_backbone(backbone, file)
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headway.files.os.fsync", full)
    with pytest.raises(HeadwayError, match="No space left on device"):
        save_backbone(backbone, file)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]
    with pytest.raises(HeadwayError, match="cannot write"):
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
def test_unknown_names_meet_their_neighbours(name, words):
    with pytest.raises(HeadwayError, match=words):
        build_backbone(name, size=64)


def test_options_that_do_not_exist():
    with pytest.raises(HeadwayError, match="unknown backbone option 'dept': did you mean depth"):
        build_backbone("vit_nano", size=32, dept=3)
    with pytest.raises(HeadwayError, match="leave stem, patch_size, class_token out"):
        build_backbone("timm:resnet18", size=32, stem="conv")
    with pytest.raises(HeadwayError, match="no pretrained weights for vit_nano"):
        build_backbone("vit_nano", size=32, pretrained=True)


def test_what_a_task_misses_is_named():
    backbone = build_backbone("timm:resnet18", size=32)
    error = missing(backbone, {"keep"}, "mae")
    assert str(error).startswith("task mae needs a backbone that can keep; timm:resnet18 can only mask")
    assert missing(backbone, {"mask"}, "simmim") is None
    assert missing(build_backbone("vit_nano", size=16), {"keep", "mask", "place", "layers"}) is None
