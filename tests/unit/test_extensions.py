"""A task, a head and a source from outside the package: one file and one line each, and every verb knows them."""

import json

import pytest
import torch

import headway
from headway.cli import main
from headway.data.open import open_source
from headway.data.sources.registry import SOURCES
from headway.downstream.heads.registry import HEADS
from headway.pretext import TASKS
from tests.errors import raises
from tests.extensions import nearest_centroid, noise, upside_down

NETWORK = {"backbone": "vit_nano", "stem": "conv", "patch": 8, "steps": 3, "precision": "float32"}


@pytest.fixture
def _registered(monkeypatch):
    monkeypatch.setitem(TASKS, "upside_down", upside_down.RECIPE)
    monkeypatch.setitem(HEADS, "centroid", nearest_centroid.HEAD)
    SOURCES.insert(0, noise.KIND)
    yield
    SOURCES.remove(noise.KIND)


@pytest.mark.usefixtures("_registered", "unmeasured")
def test_they_are_used_end_to_end(tmp_path, capsys):
    run, model = tmp_path / "run", tmp_path / "model"
    assert "upside_down" in [task["name"] for task in headway.tasks().to_dict()["tasks"]]
    trained = headway.pretrain("upside_down", data="noise:24", out=run, **NETWORK)
    assert trained.task == "upside_down" and trained.steps == 3
    result = headway.transfer(run, data="noise:40", out=model, head="centroid")
    assert result.head == "centroid" and result.accuracy > 90

    classifier, new = headway.load_classifier(model), open_source("noise:50")
    expected = ["dark", "light"] * 5
    assert classifier.predict(torch.stack([new.image(index) for index in range(40, 50)])) == expected
    features, labels = classifier.backbone.embed("noise:50")[40:], classifier.predict("noise:50")[40:]
    assert labels == expected and classifier.predict_features(features).argmax(1).tolist() == [0, 1] * 5

    words = ["--data", "noise:24", "--head", "centroid", "--out", str(tmp_path / "again"), "--json"]
    assert main(["transfer", str(run), *words]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["head"] == "centroid"


@pytest.mark.usefixtures("unmeasured")
def test_task_and_source_need_no_line_where_they_are_passed_themselves(tmp_path):
    source = noise.Noise(24, labeled=True)
    recipe = f"{upside_down.__name__}:RECIPE"
    headway.pretrain(recipe, data=source, out=tmp_path / "run", **NETWORK)
    assert headway.transfer(tmp_path / "run", data=source, out=tmp_path / "model", head="linear").head == "linear"
    images = [source.image(index) for index in range(24)]
    backbone = headway.load_backbone(tmp_path / "run")
    assert torch.equal(backbone.embed(source), backbone.embed(images))


def test_without_the_lines_they_are_unknown(tmp_path):
    with raises("unknown-name", "upside_down"):
        headway.pretrain("upside_down", data=noise.Noise(8, labeled=False), out=tmp_path / "run")
    with raises("data-not-found", "24"):
        open_source("noise:24")
