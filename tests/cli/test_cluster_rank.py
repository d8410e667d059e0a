"""Clusters, and the order of runs by label-free metrics, through Python and the command line."""

import json

import pytest
import torch

import headway
from headway.cli import main
from headway.data.sources.in_memory import ArraySource
from headway.evaluation.label_free import LabelFreeMetrics, order_runs, rank_correlations, reference_correlations
from headway.synthetic import write_folder
from headway.utils.files import write_json
from tests.small import make_images

SMALL = {"backbone": "vit_nano", "stem": "conv", "patch": 8, "steps": 2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        headway.pretrain("mae", data=ArraySource(make_images(24)), out=folder / str(seed), seed=seed, **SMALL)
    return [str(folder / str(seed)) for seed in range(3)]


@pytest.fixture(scope="module")
def labeled():
    shades = make_images(60, seed=1) // 4 + 90 * (torch.arange(60) % 3)[:, None, None, None].to(torch.uint8)
    return ArraySource(shades, ["abc"[i % 3] for i in range(60)])


def test_clusters_of_pixels_untrained_and_pretrained_features(runs, labeled):
    answer = headway.cluster(runs[0], data=labeled, repeats=2)
    assert [row["name"] for row in answer.rows] == ["raw pixels", "untrained", "pretrained"]
    assert answer.clusters == 3 and answer.images == 60
    for row in answer.rows:
        assert 0 <= row["nmi"] <= 1 and -0.5 <= row["ari"] <= 1 and 100 / 3 <= row["accuracy"] <= 100
    assert answer == headway.cluster(runs[0], data=labeled, repeats=2), "the same seed gives the same clusters"


def test_rank_without_and_with_labels(runs, labeled):
    plain = headway.rank(runs, data=ArraySource(make_images(40)))
    assert {row["run"] for row in plain.rows} == set(runs) and plain.correlations is None
    lidars = [row["lidar"] for row in plain.rows]
    assert lidars == sorted(lidars, reverse=True) and "accuracy" not in plain.rows[0]
    known = headway.rank(runs, data=ArraySource(make_images(40)), labeled=labeled, by="rankme")
    ranks = [row["rankme"] for row in known.rows]
    assert ranks == sorted(ranks, reverse=True) and known.n == 3
    assert set(known.correlations) == {"lidar", "rankme", "alpha"}
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in known.rows)


def test_each_run_sees_images_in_its_own_pixel_format(runs, tmp_path):
    gray = tmp_path / "gray"
    headway.pretrain("mae", data=ArraySource(make_images(24)), out=gray, channels=1, **SMALL)
    shades = ArraySource(make_images(40), ["ab"[i % 2] for i in range(40)])
    answer = headway.rank([str(gray), runs[0]], data=shades, labeled=shades)
    assert {row["run"] for row in answer.rows} == {str(gray), runs[0]}
    single = headway.rank([runs[0]], data=shades, labeled=shades).rows
    assert single == [row for row in answer.rows if row["run"] == runs[0]]


def test_the_best_comes_first_and_a_collapsed_run_last():
    metrics = [
        LabelFreeMetrics(5.0, 3.0, 2.0),
        LabelFreeMetrics(9.0, 2.0, 1.1),
        LabelFreeMetrics(1.0, 1.0, float("inf")),
    ]
    assert (
        order_runs(metrics, "rankme") == [1, 0, 2]
        and order_runs(metrics, "lidar") == [0, 1, 2]
        and order_runs(metrics, "alpha") == [1, 0, 2]
    )
    assert rank_correlations(metrics, [50.0, 60.0, 10.0]) == pytest.approx({"rankme": 1.0, "lidar": 0.5, "alpha": 1.0})
    assert rank_correlations(metrics[:2], [1.0, 2.0]) == {"rankme": None, "lidar": None, "alpha": None}


def test_the_reference_correlations_are_printed(runs, tmp_path, monkeypatch, capsys):
    found = {
        "data": "birds",
        "cpu_seconds": 60.0,
        "runs": 9,
        "tasks": 3,
        "spearman": {"lidar": 0.5, "alpha": None},
    }
    write_json(tmp_path / "measured.json", {"source": "a test", "reference": [found]})
    monkeypatch.setattr("headway.evaluation.label_free.REFERENCE_FILE", tmp_path / "measured.json")
    write_folder(tmp_path / "photos", 12, 32, seed=0)
    assert main(["rank", runs[0], "--data", str(tmp_path / "photos")]) == 0
    output = capsys.readouterr().out
    assert "Measured on birds, 60 CPU seconds per run, 3 tasks" in output and "9 runs: lidar +0.50 (" in output
    monkeypatch.setattr("headway.evaluation.label_free.REFERENCE_FILE", tmp_path / "none.json")
    assert reference_correlations() == []


def test_by_commands(runs, tmp_path, capsys):
    write_folder(tmp_path / "photos", 40, 32, seed=0)
    photos = str(tmp_path / "photos")
    assert main(["rank", *runs, "--data", photos, "--labeled", photos, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(answer) == {"rows", "by", "correlations", "n", "reference"} and len(answer["rows"]) == 3
    assert main(["rank", *runs, "--data", photos, "--labeled", photos]) == 0
    assert "Spearman" in capsys.readouterr().out or "too few" in capsys.readouterr().out
    assert main(["cluster", runs[0], "--data", photos, "--repeats", "1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(answer["rows"][0]) == {"name", "nmi", "ari", "accuracy", "accuracy_std"}
    assert main(["cluster", runs[0], "--data", photos, "--repeats", "1"]) == 0
    assert "k-means on" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["cluster", "nowhere", "--data", "."],
        ["rank", "nowhere", "--data", "."],
        ["cluster", "RUN", "--data", "nowhere"],
        ["rank", "RUN", "--data", "nowhere"],
        ["cluster", "RUN", "--data", "RUN", "--repeats", "0"],
    ],
)
def test_bad_input_is_one_line_and_exit_2(words, runs, capsys):
    assert main([runs[0] if word == "RUN" else word for word in words]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
