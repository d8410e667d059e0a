"""A newcomer's path end to end, through the command line and through Python."""

import csv
import inspect
import json
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

import headway
from headway.cli import keepsakes, main
from headway.data.decode import decode, fit
from headway.data.store import build_store
from headway.downstream.classifier import load_classifier
from headway.samples import VERSION, DrawnAnimals, write_folder
from headway.train.pool import seen_in_pretraining

KINDS = 3


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Drawn animals of three kinds in labelled folders, and one broken file."""
    folder = tmp_path_factory.mktemp("photos")
    write_folder(folder / "all", 60, 32, seed=0)
    kinds = sorted(path for path in (folder / "all").iterdir())[:KINDS]
    for kind in kinds:
        kind.rename(folder / kind.name)
    for rest in (folder / "all").iterdir():
        for file in rest.iterdir():
            file.unlink()
        rest.rmdir()
    (folder / "all").rmdir()
    (folder / kinds[0].name / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "r"
    headway.pretrain("rotation", data=photos, out=out, backbone="vit_nano", stem="conv", patch=8, steps=3)
    return out


HEADS = ["knn", "linear", "attentive", "mlp", "finetune", "lora"]


@pytest.fixture(scope="module", params=HEADS)
def model(request, photos, run, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / request.param
    few = {"knn": {"folds": 2}, "linear": {"folds": 0}}.get(request.param, {"folds": 2, "epochs": 2})
    answer = headway.transfer(run, data=photos, out=out, head=request.param, **few)
    assert answer["head"] == request.param and answer["low"] <= answer["accuracy"] <= answer["high"]
    return out


def last_json(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_whole_path_by_commands(photos, tmp_path, capsys):
    run, model = tmp_path / "r", tmp_path / "m"
    words = [
        "--data",
        str(photos),
        "--backbone",
        "vit_nano",
        "--stem",
        "conv",
        "--patch",
        "8",
        "--steps",
        "2",
        "--json",
    ]
    assert main(["pretrain", "simclr", *words, "--out", str(run), "--recipe.batch", "8"]) == 0
    answer = last_json(capsys)
    assert set(answer) == {"run", "task", "steps", "seconds", "images_per_second", "loss"} and answer["steps"] == 2
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished" and record["plan"]["batch"] == 8 and record["data"]["skipped"] == 1

    assert main(["transfer", str(run), "--data", str(photos), "--head", "linear", "--out", str(model), "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out.strip().splitlines()[-1])
    assert {"head", "accuracy", "low", "high", "labels", "test_images"} <= set(answer)
    assert 0 <= answer["calibration_error"] <= 100 and 0 <= answer["balanced_accuracy"] <= 100
    assert (
        answer["temperature"] == pytest.approx(load_classifier(model).temperature, abs=1e-4)
        and answer["temperature"] != 1
    )
    assert "cut" in captured.err and "task.projector" in captured.err and "joined" in captured.err
    assert "broken.png" in captured.err and "set aside" in captured.err

    table = tmp_path / "labels.csv"
    assert main(["predict", str(model), "--data", str(photos), "--out", str(table), "--json"]) == 0
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    kinds = sorted(path.name for path in photos.iterdir())
    assert list(rows[0]) == ["file", "label", "confidence", *kinds]
    assert len(rows) == last_json(capsys)["pictures"] == sum(1 for _ in photos.rglob("*.png")) - 1
    for row in rows:
        shares = {kind: float(row[kind]) for kind in kinds}
        assert max(shares.values()) == shares[row["label"]] and abs(sum(shares.values()) - 1) < 1e-4

    features = tmp_path / "features.npz"
    assert main(["embed", str(run), "--data", str(photos), "--out", str(features), "--json"]) == 0
    with np.load(features) as arrays:
        assert arrays["features"].shape == (len(rows), 96) and arrays["features"].dtype == np.float32
        assert arrays["files"].tolist() == [row["file"] for row in rows]


def test_predicts_exactly_as_in_process_whatever_the_company(model, photos, tmp_path):
    classifier = load_classifier(model)
    files = sorted(p for p in photos.rglob("*.png") if p.name != "broken.png")
    images = torch.stack([fit(decode(file.read_bytes()), classifier.size) for file in files])
    whole = classifier.probabilities(images)
    alone = torch.cat([classifier.probabilities(image[None]) for image in images[:5]])
    assert torch.equal(whole[:5], alone)
    headway.predict(model, data=photos, out=tmp_path / "labels.csv")
    rows = list(csv.reader((tmp_path / "labels.csv").read_text(encoding="utf-8").splitlines()))[1:]
    assert [[float(cell) for cell in row[3:]] for row in rows] == [[round(p, 6) for p in row] for row in whole.tolist()]


def test_turned_and_grey_files_are_predicted_like_their_twins(model, tmp_path):
    (tmp_path / "twins").mkdir()
    picture = Image.fromarray(DrawnAnimals(1, 48, seed=3).image(0).permute(1, 2, 0).numpy())
    picture.save(tmp_path / "twins" / "a-upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "twins" / "b-turned.png", exif=exif)
    picture.convert("L").save(tmp_path / "twins" / "c-grey.png")
    picture.convert("L").convert("RGB").save(tmp_path / "twins" / "d-grey-as-rgb.png")
    headway.predict(model, data=tmp_path / "twins", out=tmp_path / "labels.csv")
    rows = [row[1:] for row in csv.reader((tmp_path / "labels.csv").read_text(encoding="utf-8").splitlines())][1:]
    assert rows[0] == rows[1] and rows[2] == rows[3] and rows[0] != rows[2]


def test_resume_of_a_finished_run_and_refusals(photos, run, capsys):
    same = {"data": photos, "out": run, "backbone": "vit_nano", "stem": "conv", "patch": 8, "steps": 3}
    assert headway.pretrain("rotation", **same, resume=True)["steps"] == 3
    with pytest.raises(headway.HeadwayError, match="--resume"):
        headway.pretrain("rotation", **same)
    with pytest.raises(headway.HeadwayError, match="another seed"):
        headway.pretrain("rotation", **same, seed=1, resume=True)
    with pytest.raises(headway.HeadwayError, match="other pictures"):
        headway.pretrain("rotation", **{**same, "data": DrawnAnimals(9, 32, seed=5)}, resume=True)


def test_an_interrupted_command_goes_on_to_the_same_bits(photos, tmp_path, monkeypatch):
    from headway.train import loop

    words = {"data": photos, "backbone": "vit_nano", "stem": "conv", "patch": 8, "steps": 3}
    headway.pretrain("rotation", **words, out=tmp_path / "whole")  # leaves its measured choices for the next
    whole = loop.take_step
    taken = iter(range(100))

    def interrupted(*arguments):
        if next(taken) == 2:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(loop, "take_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        headway.pretrain("rotation", **words, out=tmp_path / "cut")
    monkeypatch.setattr(loop, "take_step", whole)
    headway.pretrain("rotation", **words, out=tmp_path / "cut", resume=True)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_budget_is_met_and_recorded(photos, tmp_path):
    answer = headway.pretrain(
        "rotation", data=photos, out=tmp_path / "r", backbone="vit_nano", stem="conv", patch=8, budget="6s"
    )
    plan = json.loads((tmp_path / "r" / "run.json").read_text())["plan"]
    assert plan["steps"] == answer["steps"] > 3 and 3 < answer["seconds"] < 12


def test_tasks_as_json(capsys):
    assert main(["tasks", "--json"]) == 0
    rows = last_json(capsys)["tasks"]
    assert {row["name"] for row in rows} >= {"rotation", "simclr", "mae", "dino"}
    assert all({"name", "paper", "file"} <= set(row) for row in rows)


def test_demo_leaves_everything_and_takes_the_next_number(tmp_path, monkeypatch, capsys):
    from headway.cli import demo

    monkeypatch.setattr(demo, "DRAWN", 150)
    monkeypatch.setattr(demo, "LABEL_DRAWS", 2)
    monkeypatch.setattr("headway.verdict.afford.LEAST", 2)
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--budget", "3s", "--json"]) == 0
    answer = last_json(capsys)
    names = ["raw pixels", "untrained", "from scratch", "pretrained linear", "pretrained fine-tuned"]
    assert [row["name"] for row in answer["rows"]] == names and answer["out"] == str(out)
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in answer["rows"])
    assert answer["gain"]["low"] <= answer["gain"]["points"] <= answer["gain"]["high"]
    for name in keepsakes.LEFT:
        left = out / name
        assert any(left.iterdir()) if name.endswith("/") else left.stat().st_size > 0
        if name.endswith(".png"):
            with Image.open(left) as sheet:
                assert min(sheet.size) > 300
    classifier, report = load_classifier(out / "model"), json.loads((out / "report.json").read_text())
    assert classifier.size == 32 and classifier.temperature == report["temperature"]
    assert report["generator"] == VERSION
    drawn = build_store(DrawnAnimals(150, 48, 0), 48)
    assert seen_in_pretraining(out / "run", drawn.hashes) == report["pool"], "a later transfer knows what was seen"
    out.with_name("demo-2").mkdir()
    assert main(["demo", "--out", str(out), "--budget", "3s", "--shuffle-labels"]) == 0
    printed = capsys.readouterr().out
    shown = " ".join(printed.split())
    assert (tmp_path / "demo-3" / "report.json").exists() and "demo-3" in shown
    assert "drawn by program" in shown and "of this one run" in shown and "were shuffled" in shown
    assert "Cannot tell" in shown, "labels that mean nothing are no gain"
    told = [shlex.split(line) for line in printed.splitlines() if line.startswith("  headway ")]
    assert [verb for _, verb, *_ in told] == ["pretrain", "transfer", "predict"]
    for _, verb, *words in told:
        takes = inspect.signature(getattr(headway, verb)).parameters
        assert {word[2:].replace("-", "_") for word in words if word.startswith("--")} <= set(takes)
    assert told[0][3:5] == ["--data", "photos"] and told[1][2] == told[0][6] and told[2][2] == told[1][-1]


def test_the_commands_to_go_on_with_name_the_pictures_that_were_given():
    first, second, last = keepsakes.commands("my photos/train-{0..4}.tar")
    assert "'my photos/train-{0..4}.tar'" in first and "'my photos/train-{0..4}.tar'" in second
    assert "--data photos" in last
