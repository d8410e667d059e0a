"""timm:NAME in the place of a run: a public network with its weights."""

import numpy as np
import pytest
import timm
import torch

import headway
from headway.cli import main
from headway.downstream.classifier import load_classifier
from headway.downstream.head_swap import load_run
from headway.synthetic import write_folder

NAME, SIDE = "timm:resnet10t", 176


@pytest.fixture
def downloadable(monkeypatch):
    """timm with weights that can be downloaded: the same ones every time."""
    create = timm.create_model

    def with_weights(*given, pretrained=False, **choices):
        if not pretrained:
            return create(*given, **choices)
        with torch.random.fork_rng():
            torch.manual_seed(17)
            return create(*given, **choices)

    monkeypatch.setattr(timm, "create_model", with_weights)


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labeled")
    write_folder(folder, 48, 32, seed=0)
    return folder


def test_it_has_its_weights_and_its_own_size(downloadable):
    (backbone, removed), (again, _) = load_run(NAME), load_run(NAME)
    assert backbone.image_size == SIDE and not backbone.training and removed == ()
    assert all(torch.equal(a, b) for a, b in zip(backbone.parameters(), again.parameters(), strict=True))


@pytest.mark.slow
def test_verbs_accept_it_as_a_run(downloadable, labeled, tmp_path):
    answer = headway.transfer(NAME, data=labeled, head="linear", out=tmp_path / "m", folds=0)
    assert answer.transductive is None, "what it was trained on is not known"
    kept, (backbone, _) = load_classifier(tmp_path / "m").backbone, load_run(NAME)
    assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), backbone.parameters(), strict=True))
    predicted = headway.predict(tmp_path / "m", data=labeled, out=tmp_path / "labels.csv")
    assert predicted.images == 48
    embedded = headway.embed(NAME, data=labeled, out=tmp_path / "f.npz")
    assert (embedded.images, embedded.embed_dim) == (48, 512)
    assert np.load(tmp_path / "f.npz")["features"].shape == (48, 512)
    assert headway.cluster(NAME, data=labeled, repeats=1).images == 48
    assert headway.export(NAME, out=tmp_path / "n.pt2").input["shape"][-1] == SIDE
    assert headway.rank([NAME], data=labeled).rows[0]["run"] == NAME


@pytest.mark.parametrize("verb", ["transfer", "embed", "curve", "cluster", "rank", "export", "attend"])
def test_every_verb_tells_it_from_a_folder(verb, labeled, tmp_path, capsys):
    images = [str(labeled)] if verb == "attend" else [] if verb == "export" else ["--data", str(labeled)]
    out = [] if verb in ("cluster", "rank") else ["--out", str(tmp_path / ("o.pt2" if verb == "export" else "o"))]
    assert main([verb, f"{NAME}.no_such_weights", *images, *out]) == 2
    assert f"timm has no weights called {NAME}.no_such_weights" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_download_is_one_line(labeled, tmp_path, monkeypatch, capsys):
    def without_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", without_network)
    assert main(["transfer", NAME, "--data", str(labeled), "--out", str(tmp_path / "m")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "timm cannot build resnet10t" in lines[0] and "no route to host" in lines[0]
    assert main(["transfer", "timm:resnet10x", "--data", str(labeled), "--out", str(tmp_path / "m")]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["transfer", f"{NAME}.no_such_weights", "--data", str(labeled), "--out", str(tmp_path / "m")]) == 2
    assert "timm has no weights called timm:resnet10t.no_such_weights" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()
