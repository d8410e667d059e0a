"""timm:NAME in the place of a run: a network that others trained, as it comes."""

import numpy as np
import pytest
import timm
import torch

import headway
from headway.cli import main
from headway.downstream.classifier import load_classifier
from headway.downstream.swap import load_run, view_size
from headway.samples import write_folder

NAME, SIDE = "timm:resnet10t", 176


@pytest.fixture
def fetched(monkeypatch):
    """timm as it is where weights can be fetched: the same ones every time."""
    create = timm.create_model

    def with_weights(*given, pretrained=False, **choices):
        if not pretrained:
            return create(*given, **choices)
        with torch.random.fork_rng():
            torch.manual_seed(17)
            return create(*given, **choices)

    monkeypatch.setattr(timm, "create_model", with_weights)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    write_folder(folder, 48, 32, seed=0)
    return folder


def test_it_is_taken_with_its_weights_at_its_own_size(fetched):
    (backbone, cut), (again, _) = load_run(NAME), load_run(NAME)
    assert view_size(backbone) == SIDE and not backbone.training and cut == ()
    assert all(torch.equal(a, b) for a, b in zip(backbone.parameters(), again.parameters(), strict=True))


def test_verbs_take_it_for_a_run(fetched, labelled, tmp_path):
    answer = headway.transfer(NAME, data=labelled, head="linear", out=tmp_path / "m", folds=0)
    assert answer["transductive"] is None, "what it was trained on is not known"
    kept, (backbone, _) = load_classifier(tmp_path / "m").backbone, load_run(NAME)
    assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), backbone.parameters(), strict=True))
    named = headway.predict(tmp_path / "m", data=labelled, out=tmp_path / "labels.csv")
    assert named["pictures"] == 48
    embedded = headway.embed(NAME, data=labelled, out=tmp_path / "f.npz")
    assert (embedded["pictures"], embedded["width"]) == (48, 512)
    assert np.load(tmp_path / "f.npz")["features"].shape == (48, 512)
    assert headway.cluster(NAME, data=labelled, repeats=1)["pictures"] == 48
    assert headway.export(NAME, out=tmp_path / "n.pt2")["input"]["shape"][-1] == SIDE
    assert headway.rank([NAME], data=labelled)["rows"][0]["run"] == NAME


@pytest.mark.parametrize("verb", ["transfer", "embed", "curve", "cluster", "rank", "export", "attend"])
def test_every_verb_knows_it_from_a_folder(verb, labelled, tmp_path, capsys):
    pictures = [str(labelled)] if verb == "attend" else [] if verb == "export" else ["--data", str(labelled)]
    out = [] if verb in ("cluster", "rank") else ["--out", str(tmp_path / ("o.pt2" if verb == "export" else "o"))]
    assert main([verb, f"{NAME}.no_such_weights", *pictures, *out]) == 2
    assert f"timm has no weights called {NAME}.no_such_weights" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_fetched_is_one_line(labelled, tmp_path, monkeypatch, capsys):
    def without_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", without_network)
    assert main(["transfer", NAME, "--data", str(labelled), "--out", str(tmp_path / "m")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "timm can't build resnet10t" in said[0] and "no route to host" in said[0]
    assert main(["transfer", "timm:resnet10x", "--data", str(labelled), "--out", str(tmp_path / "m")]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["transfer", f"{NAME}.no_such_weights", "--data", str(labelled), "--out", str(tmp_path / "m")]) == 2
    assert "timm has no weights called timm:resnet10t.no_such_weights" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()
