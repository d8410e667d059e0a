"""The scripts in benchmarks/ can be started, and what the tables say follows from their cells."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from sklearn.linear_model import LogisticRegression

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for path in FOLDER.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_has_a_help_text(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    assert stop.value.code == 0 and "usage:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("leaderboard", ["simclr", "52.4 ± 1.4", "Spearman"]),
        ("demo", ["drawn-animals version 2", "+31.6", "+27.6 to +35.6", "+14.9", "cannot tell"]),
        ("fewlabel", ["simclr-170s", "-1.6", "-4.0 to 0.8"]),
        ("steps", ["drawn-77", "scratch", "45.8"]),
        ("networks", ["vit_pico@32", "58.15", "temperature 0.1"]),
        ("peer_simclr", ["headway auto", "64.9 ± 0.8", "+16.6"]),
    ],
)
def test_tables_of_the_measured_cells_are_printed(script, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script])
    runpy.run_path(str(FOLDER / f"{script}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert [word for word in words if word not in printed] == []


def test_a_cell_is_measured_once(tmp_path, capsys):
    from cells_io import make_cell, read_cells

    for value in (1, 2):
        make_cell(tmp_path / "c" / "a.json", {"task": "mae"}, lambda value=value: {"score": value}, "score")
    assert read_cells(tmp_path / "c") == [{"task": "mae", "score": 1}] and capsys.readouterr().out == "a.json 1\n"


def test_softmax_probe_is_that_of_scikit_learn():
    from peer_simclr import softmax_probe

    g = torch.Generator().manual_seed(0)
    labels, targets = torch.arange(300) % 3, torch.arange(200) % 3
    means = torch.randn(3, 8, generator=g)
    bank, queries = (
        means[y] + 1.5 * torch.randn(len(y), 8, generator=g) for y in (labels, targets)
    )  # N 8, each feature with its own scale
    found = softmax_probe(bank, labels, queries, targets, 3, penalty=1e-2, max_iter=100)
    center, scale = bank.mean(0), bank.std(0) + 1e-5
    theirs = LogisticRegression(C=1 / (2 * 1e-2 * len(bank)), tol=1e-8, max_iter=1000)
    theirs.fit(((bank - center) / scale).numpy(), labels.numpy())
    expected = 100 * theirs.score(((queries - center) / scale).numpy(), targets.numpy())
    assert abs(found - expected) <= 0.5 and expected > 50


def test_a_table_of_both_sides_gives_their_difference_with_two_standard_errors():
    from peer_simclr import OURS, PEER, table
    from rich.console import Console

    def cell(side, seed, linear):
        probes = {"knn": 50.0, "linear": linear, "linear_10_per_class": 30.0}
        return {"side": side, "data": "cifar10", "budget": 60.0, "seed": seed, "probes": probes}

    cells = [cell(OURS, seed, 60.0 + seed) for seed in range(3)] + [cell(PEER, seed, 40.0) for seed in range(3)]
    console = Console(width=200, record=True)
    console.print(table(cells))
    words = console.export_text()
    assert "61.0 ± 1.0" in words and "40.0 ± 0.0" in words
    assert "+21.0 (two standard errors: 1.2)" in words  # 2 x 1 / sqrt(3)
