"""Targets: what labels mean. One is added here from outside the package, in one class and one line."""

import csv
import json
import sys

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import headway
from headway.cli import main
from headway.downstream.classifier import load_classifier
from headway.downstream.targets import MULTILABEL, SINGLE, TARGETS, Target, encode_labels, find_target
from headway.metrics.intervals import balanced_accuracy
from tests.errors import raises

SHADES = ("dark", "gray", "bright")
"""In order."""
OWN_TARGET = '''
import torch
from headway import Target


class Ordinal(Target):
    """Classes in an order: the output k says whether an image is above class k (Frank and Hall, 2001)."""

    name, independent, order = "ordinal", True, ("dark", "gray", "bright")

    def classes(self, texts):
        return tuple(f"above {name}" for name in self.order[:-1])

    def encode(self, texts, classes):
        ranks = torch.tensor([self.order.index(text) for text in texts])  # N
        return (ranks[:, None] > torch.arange(len(classes))).float()  # N K

    def predict(self, row, classes):
        rank = sum(p >= 0.5 for p in row)
        return [self.order[rank]], min(max(p, 1 - p) for p in row)

    def correct(self, probabilities, labels):
        return (probabilities >= 0.5).sum(1) == labels.sum(1)

    def metrics(self, probabilities, labels):
        return {"mean_rank_error": float(((probabilities >= 0.5).sum(1) - labels.sum(1)).abs().mean())}


ORDINAL = Ordinal()
'''


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Images of three shades in one folder for each shade."""
    folder = tmp_path_factory.mktemp("shades")
    generator = torch.Generator().manual_seed(0)
    for rank, shade in enumerate(SHADES):
        (folder / "photos" / shade).mkdir(parents=True)
        for i in range(12):
            pixels = (80 * rank + torch.randint(0, 60, (20, 20, 3), generator=generator)).to(torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / "photos" / shade / f"{i}.png")
    headway.pretrain(
        "rotation", data=folder / "photos", out=folder / "run", backbone="vit_pico", patch=4, size=16, steps=2
    )
    return folder


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_target_from_outside_is_learned_saved_and_predicted(photos, tmp_path, monkeypatch, capsys, head):
    (tmp_path / "shades.py").write_text(OWN_TARGET)
    monkeypatch.chdir(tmp_path)
    words = ["--target", "shades:ORDINAL", "--head", head, "--epochs", "20"][: 4 if head == "linear" else 6]
    assert main(["transfer", f"{photos}/run", "--data", f"{photos}/photos", "--out", "m", *words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["accuracy"] > 60 and result["target_metrics"]["mean_rank_error"] < 0.5
    assert "balanced_accuracy" not in result
    with raises("own-object", "--target shades:ORDINAL"):
        headway.predict("m", data=f"{photos}/photos", out="labels.csv")
    headway.predict("m", data=f"{photos}/photos", out="labels.csv", target="shades:ORDINAL")
    rows = list(csv.DictReader((tmp_path / "labels.csv").read_text().splitlines()))
    assert list(rows[0]) == ["file", "label", "confidence", "above dark", "above gray"]
    assert sum(row["label"] == row["file"].split("/")[0] for row in rows) > 20
    classifier = load_classifier(tmp_path / "m", find_target("shades:ORDINAL"))
    assert classifier.target.name == "shades:ORDINAL"
    assert classifier.predict([photos / "photos" / row["file"] for row in rows[:3]]) == [
        row["label"] for row in rows[:3]
    ]


def test_an_entry_of_the_dictionary_is_a_target(photos, tmp_path, monkeypatch):
    space = {}
    exec(OWN_TARGET, space)
    monkeypatch.setitem(TARGETS, "ordinal", space["ORDINAL"])
    result = headway.transfer(photos / "run", data=photos / "photos", out=tmp_path / "m", target="ordinal")
    assert load_classifier(tmp_path / "m").target is result.classifier.target is space["ORDINAL"]


def test_the_base_class_has_the_two_losses_and_rules():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(5, 3, generator=generator), torch.tensor([0, 2, 1, 1, 0])
    smoothed = 0.9 * F.one_hot(labels, 3) + 0.1 / 3
    expected = -(smoothed * logits.log_softmax(1)).sum(1)
    assert torch.allclose(SINGLE.loss(logits, labels, 0.1), expected)
    assert torch.equal(SINGLE.correct(SINGLE.probabilities(logits), labels), logits.argmax(1) == labels)
    found = SINGLE.metrics(SINGLE.probabilities(logits), labels)
    assert found == {"balanced_accuracy": balanced_accuracy(logits.argmax(1), labels)}
    several = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1.0]])
    smoothed = 0.9 * several + 0.05
    expected = -(smoothed * logits.sigmoid().log() + (1 - smoothed) * (-logits).sigmoid().log())
    assert torch.allclose(MULTILABEL.loss(logits, several, 0.1), expected)
    all_right = ((logits > 0) == (several > 0)).all(1)
    assert torch.equal(MULTILABEL.correct(MULTILABEL.probabilities(logits), several), all_right)


def test_labels_are_encoded_by_their_text():
    texts, given = ("b;a", "a", ";", "never used; c"), torch.tensor([1, 0, -1, 2])
    classes = MULTILABEL.classes(texts)
    assert classes == ("a", "b", "c", "never used")
    encoded = encode_labels(MULTILABEL, texts, given, classes)
    assert encoded[[0, 1, 3]].tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert encode_labels(SINGLE, texts, given, texts)[[0, 1, 3]].tolist() == [1, 0, 2]


def test_other_targets_are_refused(tmp_path, monkeypatch, photos):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.py").write_text("TARGET = 3\n")
    with raises("unknown-name"):
        find_target("multilable")
    with raises("own-object", "headway.Target"):
        find_target("wrong:TARGET")
    with raises("options-conflict", "--multilabel", "--target"):
        headway.transfer("run", data="photos", out=tmp_path / "m", multilabel=True, target="single")

    class WrongShape(Target):
        name, independent = "wrong", True

        def encode(self, texts, classes):
            return torch.zeros(len(texts))

        def predict(self, row, classes):
            return [], 0.0

    with raises("config-invalid", "torch.float32"):
        encode_labels(WrongShape(), ("a", "b"), torch.tensor([0, 1]), ("a", "b"))


def test_a_record_imports_nothing(photos, tmp_path):
    headway.transfer(photos / "run", data=photos / "photos", out=tmp_path / "m")
    record = json.loads((tmp_path / "m" / "classifier.json").read_text())
    (tmp_path / "m" / "classifier.json").write_text(json.dumps({**record, "target": "antigravity:TARGET"}))
    for given in ("", "multilabel", MULTILABEL):
        with raises("own-object", "antigravity:TARGET"):
            load_classifier(tmp_path / "m", given)
    assert "antigravity" not in sys.modules
