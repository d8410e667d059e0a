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
def test_every_script_says_what_it_does(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(script), run_name="__main__")
    assert left.value.code == 0 and "usage:" in capsys.readouterr().out


def test_softmax_probe_is_that_of_scikit_learn():
    from peer_simclr import softmax_probe

    chance = torch.Generator().manual_seed(0)
    labels, asked = torch.arange(300) % 3, torch.arange(200) % 3
    centres = torch.randn(3, 8, generator=chance)
    bank, queries = (
        centres[y] + 1.5 * torch.randn(len(y), 8, generator=chance) for y in (labels, asked)
    )  # N 8, with a scale of its own for each feature
    found = softmax_probe(bank, labels, queries, asked, 3, penalty=1e-2, rounds=100)
    centre, scale = bank.mean(0), bank.std(0) + 1e-5
    theirs = LogisticRegression(C=1 / (2 * 1e-2 * len(bank)), tol=1e-8, max_iter=1000)
    theirs.fit(((bank - centre) / scale).numpy(), labels.numpy())
    expected = 100 * theirs.score(((queries - centre) / scale).numpy(), asked.numpy())
    assert abs(found - expected) <= 0.5 and expected > 50


def test_a_table_of_both_sides_gives_their_difference_with_two_standard_errors():
    from peer_simclr import OURS, PEER, table
    from rich.console import Console

    def cell(side, seed, linear):
        probes = {"knn": 50.0, "linear": linear, "ten": 30.0}
        return {"side": side, "data": "cifar10", "budget": 60.0, "seed": seed, "probes": probes}

    cells = [cell(OURS, seed, 60.0 + seed) for seed in range(3)] + [cell(PEER, seed, 40.0) for seed in range(3)]
    console = Console(width=200, record=True)
    console.print(table(cells))
    words = console.export_text()
    assert "61.0 ± 1.0" in words and "40.0 ± 0.0" in words
    assert "+21.0 (two standard errors: 1.2)" in words  # 2 x 1 / sqrt(3)
