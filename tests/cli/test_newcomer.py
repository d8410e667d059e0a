"""The first steps of a new user, by the command line and from Python."""

import csv
import inspect
import json
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

import headway
from headway.cli import main
from headway.data.dataset.image_store import build_store
from headway.data.decoding.decode import center_crop_resize, decode
from headway.downstream.classifier import load_classifier
from headway.downstream.heads.registry import HEADS
from headway.reports import demo_outputs
from headway.synthetic import VERSION, DrawnAnimals, write_folder
from headway.train.run_dir.seen_images import count_seen_in_pretraining
from tests.errors import raises

NUM_CLASSES = 3


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Synthetic animals of three classes in labeled folders, and one broken file."""
    folder = tmp_path_factory.mktemp("photos")
    write_folder(folder / "all", 60, 32, seed=0)
    classes = sorted(path for path in (folder / "all").iterdir())[:NUM_CLASSES]
    for path in classes:
        path.rename(folder / path.name)
    for rest in (folder / "all").iterdir():
        for file in rest.iterdir():
            file.unlink()
        rest.rmdir()
    (folder / "all").rmdir()
    (folder / classes[0].name / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "r"
    headway.pretrain("rotation", data=photos, out=out, backbone="vit_nano", stem="conv", patch=8, steps=3)
    return out


@pytest.fixture(scope="module", params=HEADS)
def model(request, photos, run, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / request.param
    seed = 2 if request.param in ("finetune", "lora") else 0  # with others, chance on the folds levels all confidences
    options = {"knn": {"folds": 2}, "linear": {"folds": 0}}.get(request.param, {"folds": 2, "epochs": 2, "seed": seed})
    result = headway.transfer(run, data=photos, out=out, head=request.param, **options)
    assert result.head == request.param and result.low <= result.accuracy <= result.high
    return out


def last_json(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_all_commands_in_order(photos, tmp_path, capsys):
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
    assert main(["pretrain", "simclr", *words, "--out", str(run), "--recipe.batch-size", "8"]) == 0
    answer = last_json(capsys)
    assert set(answer) == {"run", "task", "steps", "seconds", "images_per_second", "loss"} and answer["steps"] == 2
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished" and record["plan"]["batch_size"] == 8 and record["data"]["skipped"] == 1

    assert main(["transfer", str(run), "--data", str(photos), "--head", "linear", "--out", str(model), "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out.strip().splitlines()[-1])
    assert {"head", "accuracy", "low", "high", "labels", "test_images"} <= set(answer)
    assert 0 <= answer["calibration_error"] <= 100 and 0 <= answer["balanced_accuracy"] <= 100
    assert (
        answer["temperature"] == pytest.approx(load_classifier(model).temperature, abs=1e-4)
        and answer["temperature"] != 1
    )
    assert "removed" in captured.err and "task.projector" in captured.err and "added" in captured.err
    assert "broken.png" in captured.err and "held out" in captured.err

    table = tmp_path / "labels.csv"
    assert main(["predict", str(model), "--data", str(photos), "--out", str(table), "--json"]) == 0
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    classes = sorted(path.name for path in photos.iterdir())
    assert list(rows[0]) == ["file", "label", "confidence", *classes]
    assert len(rows) == last_json(capsys)["images"] == sum(1 for _ in photos.rglob("*.png")) - 1
    for row in rows:
        probabilities = {name: float(row[name]) for name in classes}
        assert max(probabilities.values()) == probabilities[row["label"]]
        assert abs(sum(probabilities.values()) - 1) < 1e-4

    features = tmp_path / "features.npz"
    assert main(["embed", str(run), "--data", str(photos), "--out", str(features), "--json"]) == 0
    with np.load(features) as arrays:
        assert arrays["features"].shape == (len(rows), 96) and arrays["features"].dtype == np.float32
        assert arrays["files"].tolist() == [row["file"] for row in rows]


def test_predictions_equal_those_in_process_in_any_batch(model, photos, tmp_path):
    classifier = load_classifier(model)
    files = sorted(p for p in photos.rglob("*.png") if p.name != "broken.png")
    images = torch.stack([center_crop_resize(decode(file.read_bytes()), classifier.size) for file in files])
    together = classifier.predict_proba(images)
    one_by_one = torch.cat([classifier.predict_proba(image[None]) for image in images[:5]])
    assert torch.equal(together[:5], one_by_one)
    headway.predict(model, data=photos, out=tmp_path / "labels.csv")
    rows = list(csv.reader((tmp_path / "labels.csv").read_text(encoding="utf-8").splitlines()))[1:]
    assert [[float(cell) for cell in row[3:]] for row in rows] == [
        [round(p, 6) for p in row] for row in together.tolist()
    ]


def test_rotated_and_gray_files_are_predicted_like_equal_images(model, tmp_path):
    (tmp_path / "equal").mkdir()
    image = Image.fromarray(DrawnAnimals(1, 48, seed=3).image(0).permute(1, 2, 0).numpy())
    image.save(tmp_path / "equal" / "a-upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was rotated: the image must be rotated by 90 degrees clockwise
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "equal" / "b-rotated.png", exif=exif)
    image.convert("L").save(tmp_path / "equal" / "c-gray.png")
    image.convert("L").convert("RGB").save(tmp_path / "equal" / "d-gray-as-rgb.png")
    headway.predict(model, data=tmp_path / "equal", out=tmp_path / "labels.csv")
    rows = [row[1:] for row in csv.reader((tmp_path / "labels.csv").read_text(encoding="utf-8").splitlines())][1:]
    assert rows[0] == rows[1] and rows[2] == rows[3] and rows[0] != rows[2]


def test_resume_of_a_finished_run_and_refusals(photos, run, capsys):
    same = {"data": photos, "out": run, "backbone": "vit_nano", "stem": "conv", "patch": 8, "steps": 3}
    assert headway.pretrain("rotation", **same, resume=True).steps == 3
    with raises("run-exists", "--resume"):
        headway.pretrain("rotation", **same)
    with raises("resume-differs"):
        headway.pretrain("rotation", **same, seed=1, resume=True)
    with raises("resume-differs"):
        headway.pretrain("rotation", **{**same, "data": DrawnAnimals(9, 32, seed=5)}, resume=True)


def test_a_resumed_command_ends_in_the_same_bits(photos, tmp_path, monkeypatch):
    from headway.train.loop import loop

    words = {"data": photos, "backbone": "vit_nano", "stem": "conv", "patch": 8, "steps": 3}
    headway.pretrain("rotation", **words, out=tmp_path / "whole")  # caches its measurements for the next run
    train_step = loop.train_step
    calls = iter(range(100))

    def interrupted(*arguments):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return train_step(*arguments)

    monkeypatch.setattr(loop, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        headway.pretrain("rotation", **words, out=tmp_path / "cut")
    monkeypatch.setattr(loop, "train_step", train_step)
    headway.pretrain("rotation", **words, out=tmp_path / "cut", resume=True)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_budget_is_met_and_recorded(photos, tmp_path):
    answer = headway.pretrain(
        "rotation", data=photos, out=tmp_path / "r", backbone="vit_nano", stem="conv", patch=8, budget="6s"
    )
    plan = json.loads((tmp_path / "r" / "run.json").read_text())["plan"]
    assert plan["steps"] == answer.steps > 3 and 3 < answer.seconds < 12


def test_tasks_as_json(capsys):
    assert main(["tasks", "--json"]) == 0
    rows = last_json(capsys)["tasks"]
    assert {row["name"] for row in rows} >= {"rotation", "simclr", "mae", "dino"}
    assert all({"name", "paper", "file"} <= set(row) for row in rows)


@pytest.mark.slow
def test_demo_writes_all_files_and_takes_the_next_free_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("headway.evaluation.demo.settings.NUM_SYNTHETIC", 150)
    monkeypatch.setattr("headway.evaluation.demo.evaluate.LABEL_DRAWS", 2)
    monkeypatch.setattr("headway.evaluation.demo.time_budget.MIN_SCRATCH_EPOCHS", 2)
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--budget", "3s", "--json"]) == 0
    answer = last_json(capsys)
    names = ["raw pixels", "untrained", "from scratch", "pretrained linear", "pretrained fine-tuned"]
    assert [row["name"] for row in answer["rows"]] == names and answer["out"] == str(out)
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in answer["rows"])
    assert answer["gain"]["low"] <= answer["gain"]["points"] <= answer["gain"]["high"]
    for name in demo_outputs.OUTPUT_FILES:
        path = out / name
        assert any(path.iterdir()) if name.endswith("/") else path.stat().st_size > 0
        if name.endswith(".png"):
            with Image.open(path) as image:
                assert min(image.size) > 300
    classifier, report = load_classifier(out / "model"), json.loads((out / "report.json").read_text())
    assert classifier.size == 32 and classifier.temperature == report["temperature"]
    assert report["synthetic_version"] == VERSION
    assert report["steps"] == answer["steps"] and report["out"] == str(out)
    record = json.loads((out / "run" / "run.json").read_text())
    assert answer["steps"]["pretraining"]["steps"] == record["result"]["steps"] > 0
    for side in ("fine_tuning", "from_scratch"):
        assert 0 <= answer["steps"][side]["steps"] <= answer["steps"][side]["planned_steps"]
    assert answer["steps"]["from_scratch"]["steps"] > 0
    store = build_store(DrawnAnimals(150, 48, 0), 48)
    num_seen = count_seen_in_pretraining(out / "run", store.content_hashes)
    assert num_seen == report["unlabeled_images"], "the run records the images it was trained on"
    out.with_name("demo-2").mkdir()
    assert main(["demo", "--out", str(out), "--budget", "3s", "--shuffle-labels"]) == 0
    printed = capsys.readouterr().out
    words = " ".join(printed.split())
    assert (tmp_path / "demo-3" / "report.json").exists() and "demo-3" in words
    assert "drawn by program" in words and "of this one run" in words and "were shuffled" in words
    assert "Cannot tell" in words or "to judge" in words, "with shuffled labels there is no gain"
    assert "training from scratch" in words and "passes over the images" in words, "the steps of both sides"
    commands = [shlex.split(line) for line in printed.splitlines() if line.startswith("  headway ")]
    assert [verb for _, verb, *_ in commands] == ["pretrain", "transfer", "predict"]
    for _, verb, *arguments in commands:
        parameters = inspect.signature(getattr(headway, verb)).parameters
        assert {word[2:].replace("-", "_") for word in arguments if word.startswith("--")} <= set(parameters)
    assert commands[0][3:5] == ["--data", "photos"]
    assert commands[1][2] == commands[0][6] and commands[2][2] == commands[1][-1]


def test_next_commands_name_the_given_data():
    first, second, last = demo_outputs.next_commands("my photos/train-{0..4}.tar")
    assert "'my photos/train-{0..4}.tar'" in first and "'my photos/train-{0..4}.tar'" in second
    assert "--data photos" in last
