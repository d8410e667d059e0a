"""The options of transfer through Python and the command line; test images select nothing."""

import csv
import json

import pytest
import torch
from PIL import Image

import headway
from headway.backbones.weights import save_backbone
from headway.cli import main
from headway.rng import seeded
from tests.small import small_backbone


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A run, and images that are red or not and bright or not: folders of few red and many gray, and a table."""
    folder = tmp_path_factory.mktemp("options")
    lines = ["file,label"]
    for index in range(40):
        red, bright = index % 4 == 0, index % 8 < 4
        level = 60 + 120 * bright + index
        kind = folder / "photos" / ("red" if red else "gray")
        kind.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 24), (level, level // 3, level // 3) if red else (level,) * 3).save(kind / f"{index}.png")
        names = [name for name, has in (("red", red), ("bright", bright)) if has]
        lines.append(f"{kind.name}/{index}.png,{';'.join(names) or ';'}")
    (folder / "labels.csv").write_text("\n".join(lines))
    with seeded(0):
        network = small_backbone()
    (folder / "run").mkdir()
    save_backbone(network, folder / "run" / "model.safetensors")
    return folder


def test_several_labels_from_a_table_to_a_table(here, tmp_path, capsys):
    words = ["transfer", here / "run", "--data", here / "photos", "--labels", here / "labels.csv", "--multilabel"]
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
    ("head", "options", "changed"),
    [
        ("finetune", {"layer_decay": 0.5}, "blocks.0 blocks.1 norm pos_embed stem"),
        ("finetune", {"blocks": 1, "class_weights": "balanced"}, "blocks.1 norm"),
        ("lora", {"lora_rank": 2}, "blocks.0 blocks.1"),
        ("attentive", {"class_weights": "balanced"}, ""),
        ("mlp", {}, ""),
    ],
)
def test_which_parameters_change_and_that_training_is_deterministic(here, tmp_path, head, options, changed):
    words = {"data": here / "photos", "head": head, "epochs": 2, "folds": 0, **options}
    answers = [headway.transfer(here / "run", out=tmp_path / name, **words) for name in "ab"]
    assert answers[0].to_dict() | {"model": ""} == answers[1].to_dict() | {"model": ""}
    for file in ("head.safetensors", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    before, after = (headway.load_backbone(folder).state_dict() for folder in (here / "run", tmp_path / "a"))
    parts = {name: ".".join(name.split(".")[: 2 if name.startswith("blocks") else 1]) for name in before}
    assert {parts[name] for name in before if not torch.equal(before[name], after[name])} == set(changed.split())


def test_permuted_test_labels_change_no_selection(here, tmp_path):
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    tests = tmp_path / "tests"
    for kind, other in (("red", "gray"), ("gray", "red")):
        for folder, name in ((tests, kind), (swapped, other)):
            (folder / name).mkdir(parents=True)
            for index in range(4):
                level = 30 + 10 * index
                Image.new("RGB", (24, 24), (level, 0, 0) if kind == "red" else (level,) * 3).save(
                    folder / name / f"{index}.png"
                )
    words = {"data": here / "photos", "head": "finetune", "epochs": 3, "folds": 2}
    first = headway.transfer(here / "run", test=tests, out=tmp_path / "a", **words)
    second = headway.transfer(here / "run", test=swapped, out=tmp_path / "b", **words)
    assert first.accuracy == pytest.approx(100 - second.accuracy) and first.temperature == second.temperature
    for name in ("model.safetensors", "head.safetensors", "classifier.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_balanced_class_weights_make_rare_classes_count(here):
    """With random features, an unweighted probe never predicts the rare class; a balanced one does for many images."""
    from headway.metrics.linear_probe import fit_linear

    labels = (torch.arange(40) % 10 == 0).long()
    features = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    plain, balanced = (
        fit_linear(features, labels, 2, 1e-3, balance_classes=b).logits(features).argmax(1) for b in (False, True)
    )
    assert int(plain.sum()) == 0 and int(balanced.sum()) > 8
