"""``headway export``: a file that runs without Headway and gives the same outputs."""

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
from headway.backbones.build import build_backbone
from headway.backbones.weights import save_backbone
from headway.cli import main
from headway.downstream import export
from headway.downstream.classifier import Classifier
from headway.downstream.heads.layers import AttentivePooling, NearestNeighborHead
from headway.downstream.targets import MULTILABEL, SINGLE
from headway.protocol import InputSpec
from headway.synthetic import write_folder
from tests.errors import raises
from tests.small import INPUTS

SIDE, CLASSES = 32, ("cat", "dog", "fox")
EXAMPLES = Path(__file__).parents[2] / "examples"
NETWORKS = {
    "conv": ("vit_nano", {"stem": "conv", "patch_size": 8}),
    "residual": ("vit_pico", {"stem": "residual", "patch_size": 8}),
    "class token": ("vit_nano", {"pooling": "class", "patch_size": 8}),
    "convolutional": ("timm:resnet10t", {}),
    "timm's transformer": ("timm:vit_tiny_patch16_224", {}),
}


def backbone_of(network, input_spec=INPUTS):
    name, choices = NETWORKS[network]
    torch.manual_seed(0)
    return build_backbone(name, size=SIDE, input_spec=input_spec, **choices).eval()


def classifier_of(network="conv", kind="linear", multilabel=False):
    backbone = backbone_of(network)
    dim = backbone.embed_dim
    head = {
        "linear": lambda: nn.Linear(dim, 3),
        "attentive": lambda: AttentivePooling(dim, 3),
        "knn": lambda: NearestNeighborHead(torch.randn(30, dim), torch.arange(30) % 3, 3),
    }[kind]()
    return Classifier(backbone, head.eval(), CLASSES, SIDE, kind, 1.7, MULTILABEL if multilabel else SINGLE)


def exported(exportable, suffix):
    """The content of the file."""
    if suffix == ".onnx":
        need_onnx()
    content = export.checked_export_bytes(exportable, suffix)
    parts = zipfile.ZipFile(io.BytesIO(content)) if suffix == ".pt2" else None
    text = b"".join(parts.read(name) for name in parts.namelist()) if parts else content
    assert str(Path(headway.__file__).parent).encode() not in text, "it names folders of this machine"
    return content


def need_onnx():
    for package in export.ONNX_PACKAGES:
        pytest.importorskip(package, reason=f"{package} is not installed")


def run_file(content, suffix, images):
    """The outputs of the file, and its description."""
    if suffix == ".pt2":
        description = {export.METADATA_KEY: ""}
        program = torch.export.load(io.BytesIO(content), extra_files=description)
        outputs = program.module()(images)
        return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs), json.loads(
            description[export.METADATA_KEY]
        )
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"images": images.numpy()})
    meta = session.get_modelmeta().custom_metadata_map
    return [torch.from_numpy(part) for part in outputs], json.loads(meta[export.METADATA_KEY])


@pytest.mark.parametrize(
    ("network", "kind", "multilabel", "suffix"),
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
def test_an_exported_classifier_gives_the_same_outputs(network, kind, multilabel, suffix):
    classifier = classifier_of(network, kind, multilabel)
    images = torch.rand(5, 3, SIDE, SIDE)
    wanted = classifier.predict_proba(images)
    content = exported(export.exportable_classifier(classifier), suffix)
    for count in (1, 5):
        (probs,), description = run_file(content, suffix, images[:count])
        assert probs.shape == (count, 3) and torch.allclose(probs, wanted[:count], atol=1e-5)
    assert description["classes"] == list(CLASSES) and description["multilabel"] is multilabel
    assert description["input"]["shape"] == ["images", 3, SIDE, SIDE] and description["outputs"] == ["probabilities"]


@pytest.mark.parametrize(("network", "suffix"), [("conv", ".onnx"), ("timm's transformer", ".pt2")])
def test_an_exported_backbone_gives_its_features(network, suffix):
    spec = InputSpec((0.5,) * 3, (0.25,) * 3, grayscale=network == "conv", value_range=(0.0, 4095.0))
    backbone = backbone_of(network, spec)
    images = torch.rand(4, 3, SIDE, SIDE)
    with torch.no_grad():
        wanted = backbone(images)
    (pooled, patches), description = run_file(exported(export.exportable_backbone(backbone), suffix), suffix, images)
    assert torch.allclose(pooled, wanted.pooled, atol=1e-4) and torch.allclose(patches, wanted.patches, atol=1e-4)
    assert description["outputs"] == ["pooled", "patches"]
    assert description["value_range"] == [0.0, 4095.0]


def test_a_file_with_other_outputs_is_not_written(monkeypatch):
    load = torch.export.load

    class Tampered:
        def __init__(self, file):
            self.program = load(file).module()

        def module(self):
            return lambda images: self.program(images) + 1e-3

    monkeypatch.setattr(torch.export, "load", Tampered)
    with raises("export-failed"):
        export.checked_export_bytes(export.exportable_classifier(classifier_of()), ".pt2")


def test_a_network_that_cannot_be_traced_is_refused_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    def by_values(self, images, **_):
        raise ValueError("this depends on the values of images")

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
    assert "exists and is not overwritten" in refused(tmp_path, "--out", tmp_path / "there.pt2")
    assert "no finished run" in refused(tmp_path / "nothing", "--out", tmp_path / "x.pt2")
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as if it were not installed
    pytest.importorskip("onnx", reason="onnx is not installed")
    assert "ONNX needs onnxscript: pip install" in refused(tmp_path, "--out", tmp_path / "x.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "there.pt2"]


def test_the_example_predicts_without_headway_what_headway_predicts(tmp_path, capsys):
    need_onnx()
    write_folder(tmp_path / "animals", 40, 48, seed=0)
    run = headway.pretrain(
        "rotation", data=tmp_path / "animals", out=tmp_path / "r", backbone="vit_nano", stem="conv", patch=8, size=32,
        steps=2,
    )  # fmt: skip
    headway.transfer(run.run, data=tmp_path / "animals", out=tmp_path / "m", head="linear", folds=0)
    headway.predict(tmp_path / "m", data=tmp_path / "animals", out=tmp_path / "labels.csv")
    answer = headway.export(tmp_path / "m", out=tmp_path / "m.onnx")
    assert answer.bytes == (tmp_path / "m.onnx").stat().st_size
    with (tmp_path / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    files = [str(tmp_path / "animals" / row["file"]) for row in rows]
    capsys.readouterr()
    runpy.run_path(str(EXAMPLES / "name_images.py"))["main"](str(tmp_path / "m.onnx"), *files)
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    confidence = np.array([float(row["confidence"]) for row in rows])
    difference = np.abs(confidence - np.array([float(words[2]) for words in lines]))
    assert difference.max() < 0.02, "Pillow resizes slightly differently"
    classes = [name for name in rows[0] if name not in ("file", "label", "confidence")]
    for words, row in zip(lines, rows, strict=True):
        first, second = sorted((float(row[name]) for name in classes), reverse=True)[:2]
        assert words[1] == row["label"] or first - second < 0.04, "the labels are the same, near ties aside"
