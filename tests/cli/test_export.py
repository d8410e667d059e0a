"""``headway export``: a file that runs without Headway, and answers as Headway does."""

import csv
import io
import json
import runpy
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import headway
from headway.backbones.load import build_backbone
from headway.backbones.weights import save_backbone
from headway.cli import main
from headway.downstream import portable
from headway.downstream.classifier import Classifier
from headway.downstream.heads import AttentivePooling, NearestNeighbours
from headway.errors import HeadwayError
from headway.protocol import Inputs
from headway.samples import write_folder
from tests.small import INPUTS

SIDE, CLASSES = 32, ("cat", "dog", "fox")
EXAMPLES = Path(__file__).parents[2] / "examples"
NETWORKS = {
    "conv": ("vit_nano", {"stem": "conv", "patch_size": 8}),
    "residual": ("vit_pico", {"stem": "residual", "patch_size": 8}),
    "class token": ("vit_nano", {"pool": "class", "patch_size": 8}),
    "convolutional": ("timm:resnet10t", {}),
    "timm's transformer": ("timm:vit_tiny_patch16_224", {}),
}


def backbone_of(network, inputs=INPUTS):
    name, choices = NETWORKS[network]
    torch.manual_seed(0)
    return build_backbone(name, size=SIDE, inputs=inputs, **choices).eval()


def classifier_of(network="conv", kind="linear", several=False):
    backbone = backbone_of(network)
    width = backbone.embed_dim
    head = {
        "linear": lambda: nn.Linear(width, 3),
        "attentive": lambda: AttentivePooling(width, 3),
        "knn": lambda: NearestNeighbours(torch.randn(30, width), torch.arange(30) % 3, 3),
    }[kind]()
    return Classifier(backbone, head.eval(), CLASSES, SIDE, kind, 1.7, several)


def made(what, ending):
    """The file's bytes."""
    if ending == ".onnx":
        need_clients()
    content = portable.written(what, ending)
    parts = zipfile.ZipFile(io.BytesIO(content)) if ending == ".pt2" else None
    inside = b"".join(parts.read(name) for name in parts.namelist()) if parts else content
    assert str(Path(headway.__file__).parent).encode() not in inside, "it names folders of this machine"
    return content


def need_clients():
    for client in portable.CLIENTS:
        pytest.importorskip(client, reason=f"{client} is not installed")


def asked(content, ending, pictures):
    """What the file's bytes answer, by its own reader, and what it says of itself."""
    if ending == ".pt2":
        facts = {portable.KEY: ""}
        program = torch.export.load(io.BytesIO(content), extra_files=facts)
        answer = program.module()(pictures)
        return [answer] if isinstance(answer, torch.Tensor) else list(answer), json.loads(facts[portable.KEY])
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    answer = session.run(None, {"pictures": pictures.numpy()})
    meta = session.get_modelmeta().custom_metadata_map
    return [torch.from_numpy(part) for part in answer], json.loads(meta[portable.KEY])


@pytest.mark.parametrize(
    ("network", "kind", "several", "ending"),
    [
        ("conv", "linear", False, ".onnx"),
        ("conv", "linear", True, ".pt2"),
        ("residual", "knn", False, ".onnx"),
        ("residual", "knn", False, ".pt2"),
        ("class token", "attentive", False, ".onnx"),
        ("class token", "attentive", False, ".pt2"),
        ("convolutional", "linear", False, ".onnx"),
        ("convolutional", "linear", False, ".pt2"),
    ],
)
def test_a_classifier_answers_as_it_did(network, kind, several, ending):
    classifier = classifier_of(network, kind, several)
    pictures = torch.rand(5, 3, SIDE, SIDE)
    wanted = classifier.probabilities(pictures)
    content = made(portable.of_classifier(classifier), ending)
    for count in (1, 5):
        (said,), facts = asked(content, ending, pictures[:count])
        assert said.shape == (count, 3) and torch.allclose(said, wanted[:count], atol=1e-5)
    assert facts["classes"] == list(CLASSES) and facts["several labels a picture"] is several
    assert facts["input"]["shape"] == ["pictures", 3, SIDE, SIDE] and facts["outputs"] == ["probabilities"]


@pytest.mark.parametrize(("network", "ending"), [("conv", ".onnx"), ("timm's transformer", ".pt2")])
def test_a_backbone_gives_its_features(network, ending):
    grey = Inputs((0.5,) * 3, (0.25,) * 3, grey=network == "conv", span=(0.0, 4095.0))
    backbone = backbone_of(network, grey)
    pictures = torch.rand(4, 3, SIDE, SIDE)
    with torch.no_grad():
        wanted = backbone(pictures)
    (pooled, patches), facts = asked(made(portable.of_backbone(backbone), ending), ending, pictures)
    assert torch.allclose(pooled, wanted.pooled, atol=1e-4) and torch.allclose(patches, wanted.patches, atol=1e-4)
    assert facts["outputs"] == ["pooled", "patches"]
    assert facts["values in the files that are 0 and 1"] == [0.0, 4095.0]


def test_what_answers_otherwise_is_not_kept(monkeypatch):
    honest = torch.export.load

    class Tampered:
        def __init__(self, file):
            self.program = honest(file).module()

        def module(self):
            return lambda pictures: self.program(pictures) + 1e-3

    monkeypatch.setattr(torch.export, "load", Tampered)
    with pytest.raises(HeadwayError, match=r"answers otherwise .* nothing was kept"):
        portable.written(portable.of_classifier(classifier_of()), ".pt2")


def test_a_network_that_cannot_be_traced_is_refused_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    def by_values(self, images, **_):
        raise ValueError("this depends on the values of pictures")

    save_backbone(backbone_of("conv"), tmp_path / "model.safetensors")
    monkeypatch.setattr("headway.backbones.vit.ViT.forward", by_values)
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "x.pt2")]) == 2
    assert "can't be written as .pt2: this depends on" in capsys.readouterr().err
    assert not (tmp_path / "x.pt2").exists()


def test_bad_input_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    save_backbone(backbone_of("conv"), tmp_path / "model.safetensors")

    def refused(*words):
        assert main(["export", *map(str, words)]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        return lines[0]

    assert "must end in .onnx or .pt2" in refused(tmp_path, "--out", tmp_path / "x.pth")
    (tmp_path / "there.pt2").write_text("mine")
    assert "exists and is left as it is" in refused(tmp_path, "--out", tmp_path / "there.pt2")
    assert "no finished run" in refused(tmp_path / "nothing", "--out", tmp_path / "x.pt2")
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as if it were not installed
    pytest.importorskip("onnx", reason="onnx is not installed")
    assert "ONNX needs onnxscript: pip install" in refused(tmp_path, "--out", tmp_path / "x.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "there.pt2"]


def test_pictures_are_named_without_headway_as_by_it(tmp_path, capsys):
    need_clients()
    write_folder(tmp_path / "animals", 40, 48, seed=0)
    run = headway.pretrain(
        "rotation", data=tmp_path / "animals", out=tmp_path / "r", backbone="vit_nano", stem="conv", patch=8, size=32,
        steps=2,
    )  # fmt: skip
    headway.transfer(run["run"], data=tmp_path / "animals", out=tmp_path / "m", head="linear", folds=0)
    headway.predict(tmp_path / "m", data=tmp_path / "animals", out=tmp_path / "labels.csv")
    answer = headway.export(tmp_path / "m", out=tmp_path / "m.onnx")
    assert answer["bytes"] == (tmp_path / "m.onnx").stat().st_size
    with (tmp_path / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    files = [str(tmp_path / "animals" / row["file"]) for row in rows]
    capsys.readouterr()
    runpy.run_path(str(EXAMPLES / "name_pictures.py"))["main"](str(tmp_path / "m.onnx"), *files)
    said = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    sure = np.array([float(row["confidence"]) for row in rows])
    off = np.abs(sure - np.array([float(words[2]) for words in said]))
    assert off.max() < 0.02, "Pillow resizes a little otherwise"
    kinds = [name for name in rows[0] if name not in ("file", "label", "confidence")]
    for words, row in zip(said, rows, strict=True):
        first, second = sorted((float(row[kind]) for kind in kinds), reverse=True)[:2]
        assert words[1] == row["label"] or first - second < 0.04, "but for near ties the names are the same"
