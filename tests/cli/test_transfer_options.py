"""transfer's options through Python and the command line; what the test pictures may and may not do."""

import csv
import json

import pytest
import torch
from PIL import Image

import headway
from headway.backbones.weights import save_backbone
from headway.cli import main
from headway.downstream.classifier import load_classifier
from headway.draws import seeded
from tests.small import SIDE, small_backbone


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A run, and pictures that are red or not and bright or not: folders of few red and many grey, and a table."""
    folder = tmp_path_factory.mktemp("options")
    lines = ["file,label"]
    for number in range(40):
        red, bright = number % 4 == 0, number % 8 < 4
        level = 60 + 120 * bright + number
        kind = folder / "photos" / ("red" if red else "grey")
        kind.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 24), (level, level // 3, level // 3) if red else (level,) * 3).save(
            kind / f"{number}.png"
        )
        names = [name for name, has in (("red", red), ("bright", bright)) if has]
        lines.append(f"{kind.name}/{number}.png,{';'.join(names) or ';'}")
    (folder / "labels.csv").write_text("\n".join(lines))
    with seeded(0):
        network = small_backbone()
    (folder / "run").mkdir()
    save_backbone(network, folder / "run" / "model.safetensors")
    return folder


def test_several_labels_from_a_table_to_a_table(here, tmp_path, capsys):
    words = ["transfer", here / "run", "--data", here / "photos", "--labels", here / "labels.csv", "--several"]
    assert main([*map(str, words), "--out", str(tmp_path / "m"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"head", "accuracy", "low", "high", "labels", "test_images", "f1", "mean_average_precision"} <= set(answer)
    assert answer["mean_average_precision"] > 60 and "balanced_accuracy" not in answer
    headway.predict(tmp_path / "m", data=here / "photos", out=tmp_path / "labels.csv")
    rows = list(csv.DictReader((tmp_path / "labels.csv").read_text().splitlines()))
    assert list(rows[0]) == ["file", "label", "confidence", "bright", "red"] and len(rows) == 40
    assert {row["label"] for row in rows} <= {"", "bright", "red", "bright;red"}
    assert main([*map(str, words), "--out", str(tmp_path / "shown")]) == 0
    assert "mean average precision" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("head", "options", "moved"),
    [
        ("finetune", {"layer_decay": 0.5}, "blocks.0 blocks.1 norm positions stem"),
        ("finetune", {"blocks": 1, "balance": True}, "blocks.1 norm"),
        ("lora", {"rank": 2}, "blocks.0 blocks.1"),
        ("attentive", {"balance": True}, ""),
        ("mlp", {}, ""),
    ],
)
def test_what_moves_and_that_it_repeats_to_the_bit(here, tmp_path, head, options, moved):
    words = {"data": here / "photos", "head": head, "epochs": 2, "folds": 0, **options}
    answers = [headway.transfer(here / "run", out=tmp_path / name, **words) for name in "ab"]
    assert {**answers[0], "model": ""} == {**answers[1], "model": ""}
    for file in ("head.safetensors", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    before, after = (headway.load_backbone(folder).state_dict() for folder in (here / "run", tmp_path / "a"))
    parts = {name: ".".join(name.split(".")[: 2 if name.startswith("blocks") else 1]) for name in before}
    assert {parts[name] for name in before if not torch.equal(before[name], after[name])} == set(moved.split())


def test_permuted_test_labels_change_no_choice(here, tmp_path):
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    tests = tmp_path / "tests"
    for kind, other in (("red", "grey"), ("grey", "red")):
        for folder, name in ((tests, kind), (swapped, other)):
            (folder / name).mkdir(parents=True)
            for number in range(4):
                level = 30 + 10 * number
                Image.new("RGB", (24, 24), (level, 0, 0) if kind == "red" else (level,) * 3).save(
                    folder / name / f"{number}.png"
                )
    words = {"data": here / "photos", "head": "finetune", "epochs": 3, "folds": 2}
    first = headway.transfer(here / "run", test=tests, out=tmp_path / "a", **words)
    second = headway.transfer(here / "run", test=swapped, out=tmp_path / "b", **words)
    assert (
        first["accuracy"] == pytest.approx(100 - second["accuracy"]) and first["temperature"] == second["temperature"]
    )
    for name in ("model.safetensors", "head.safetensors", "classifier.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_rare_classes_count_when_they_are_balanced(here):
    """Of 36 grey and 4 red pictures that look alike, a plain probe names none red; a balanced one names half."""
    from headway.measure.linear import fit_linear

    labels = (torch.arange(40) % 10 == 0).long()
    features = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    plain, balanced = (
        fit_linear(features, labels, 2, 1e-3, balance=b).logits(features).argmax(1) for b in (False, True)
    )
    assert int(plain.sum()) == 0 and int(balanced.sum()) > 8


def test_old_classifiers_are_still_read(here, tmp_path):
    headway.transfer(here / "run", data=here / "photos", out=tmp_path / "m")
    record = json.loads((tmp_path / "m" / "classifier.json").read_text())
    del record["temperature"], record["several"]
    (tmp_path / "m" / "classifier.json").write_text(json.dumps({**record, "schema": 1}))
    old = load_classifier(tmp_path / "m")
    assert old.temperature == 1.0 and not old.several and old.size == SIDE
