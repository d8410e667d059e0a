"""The curve of accuracy against labels, end to end."""

import csv
import json
from xml.etree import ElementTree

import pytest
import torch

import headway
from headway.cli import curve as curve_command
from headway.cli import main
from headway.data.sources.in_memory import ArraySource
from headway.downstream.finetuning.model_selection import select_config
from headway.evaluation.curve import clip_counts, parse_counts
from headway.evaluation.evaluator import Evaluator
from headway.reports import steps as steps_module
from headway.synthetic import write_folder
from tests.small import make_images

NAMES = ["pretrained", "from scratch", "untrained"]


def shades(count, seed):
    """Images whose class shows: three levels of brightness."""
    images = make_images(count, seed=seed) // 4 + 90 * (torch.arange(count) % 3)[:, None, None, None].to(torch.uint8)
    return ArraySource(images, ["abc"[i % 3] for i in range(count)])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "r"
    unlabeled = torch.cat([make_images(20), shades(30, 2).images[:7]])
    headway.pretrain("mae", data=ArraySource(unlabeled), out=folder, backbone="vit_nano", stem="conv", patch=8, steps=2)
    return folder


def curve(run, **options):
    defaults = {
        "data": shades(36, 1), "test": shades(30, 2), "labels_per_class": "2,5,all", "draws": 2, "finetune_steps": 1,
    }  # fmt: skip
    return headway.curve(run, **{**defaults, **options})


@pytest.fixture(scope="module")
def drawn(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("curves") / "c"
    return out, curve(run, out=out)


def test_table_csv_chart_and_transductive(drawn):
    out, answer = drawn
    assert [(row["labels_per_class"], row["name"]) for row in answer.rows] == [
        (n, x) for n in (2, 5, "all") for x in NAMES
    ]
    assert [row["labels"] for row in answer.rows[::3]] == [6, 15, 36]
    assert [row["draws"] for row in answer.rows[::3]] == [2, 2, 1]
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in answer.rows)
    for gain, rows in zip(answer.gains, zip(*[iter(answer.rows)] * 3, strict=True), strict=True):
        assert gain["points"] == pytest.approx(rows[0]["accuracy"] - rows[1]["accuracy"])
    assert answer.transductive == 7, "the test images among the unlabeled ones"
    assert answer.steps["pretraining"]["steps"] == 2 and answer.unequal is None
    assert answer.steps["on_labels"] == {"pretrained": [0, 0, 0], "from scratch": [2, 2, 2]}
    with (out / "curve.csv").open() as file:
        assert [float(row["accuracy"]) for row in csv.DictReader(file)] == [row["accuracy"] for row in answer.rows]
    assert ElementTree.parse(out / "curve.svg").findtext("{*}title") == "Accuracy against labels"
    assert json.loads((out / "report.json").read_text())["gains"] == answer.gains


def test_steps_of_both_sides_are_printed_and_a_slowed_pretraining_is_named(drawn, run, monkeypatch, capsys):
    curve_command.print_result(drawn[1])
    assert "pretraining of this run 2 (" in (printed := capsys.readouterr().out) and "from scratch 2." in printed
    honest = steps_module.pretraining_steps
    monkeypatch.setattr(steps_module, "pretraining_steps", lambda run: {**honest(run), "slowed": True})
    answer = curve(run, out=drawn[0], resume=True)
    assert answer.rows == drawn[1].rows and "the pretraining ran at less than half" in answer.unequal
    curve_command.print_result(answer)
    assert answer.unequal in capsys.readouterr().out


def test_it_grows_and_computes_only_what_is_missing(run, drawn, monkeypatch):
    out, answer = drawn
    calls, score = [], Evaluator.score
    monkeypatch.setattr(Evaluator, "score", lambda *given: calls.append(given) or score(*given))
    more = curve(run, out=out, resume=True, labels_per_class="2,4,5,all")
    assert len(calls) == 3 * 2
    assert [row for row in more.rows if row["labels_per_class"] != 4] == answer.rows


@pytest.mark.slow
def test_a_point_does_not_depend_on_the_other_points(run, tmp_path):
    few, whole = {"labels_per_class": "2", "head": "finetune"}, {"labels_per_class": "2,5", "head": "finetune"}
    curve(run, out=tmp_path / "grown", **few)
    grown = curve(run, out=tmp_path / "grown", resume=True, **whole)
    assert grown.rows == curve(run, **whole).rows


def test_permuted_test_labels_change_no_selection(run, monkeypatch):
    selections, select = [], select_config
    monkeypatch.setattr(
        "headway.downstream.transfer.select_config",
        lambda *given, **how: selections.append(select(*given, **how)) or selections[-1],
    )
    for shift in (0, 1):
        test = shades(30, 2)
        test.labels = test.labels[shift:] + test.labels[:shift]
        curve(run, test=test, labels_per_class="4", draws=1)
    assert len(selections) == 2 and selections[0] == selections[1]


def test_fine_tuning_by_command(run, tmp_path, capsys):
    write_folder(tmp_path / "photos", 60, 32, seed=0)
    words = ["--data", str(tmp_path / "photos"), "--labels-per-class", "1", "--draws", "1", "--finetune-steps", "1"]
    assert main(["curve", str(run), *words, "--head", "finetune", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert {"rows", "gains", "transductive", "out"} <= set(answer) and answer["transductive"] == 0
    assert main(["curve", str(run), *words]) == 0
    assert "labels per class" in capsys.readouterr().out


def test_refusals(run, drawn, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").touch()
    for words, message in (
        ({"labels_per_class": "ten"}, "takes numbers from 1"),
        ({"labels_per_class": "0,5"}, "takes numbers from 1"),
        ({"labels_per_class": ""}, "takes numbers from 1"),
        ({"draws": 0}, "--draws must be 1"),
        ({"resume": True}, "give it"),
        ({"out": drawn[0]}, "add --resume"),
        ({"out": drawn[0], "resume": True, "head": "finetune"}, "another head"),
        ({"out": tmp_path / "taken"}, "something else"),
    ):
        with pytest.raises(headway.HeadwayError, match=message):
            curve(run, **words)


def test_numbers_of_labels():
    assert parse_counts("all, 5,2,5") == [2, 5, None]
    assert (
        clip_counts([1, 5, 20], 10) == [1, 5, None]
        and clip_counts([1, 5], 10) == [1, 5]
        and clip_counts([None], 3) == [None]
    )
