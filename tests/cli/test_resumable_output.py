"""predict and embed: any number of images, in order, resumed after an interruption, the same bit for bit."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import headway
from headway.backbones.embedding import embed as compute
from headway.backbones.weights import save_backbone
from headway.data.dataset import decode_stream
from headway.data.decoding.decode import center_crop_resize, decode
from headway.downstream.classifier import Classifier
from headway.downstream.features.resumable_writer import ResumableWriter
from headway.downstream.targets import MULTILABEL
from headway.rng import seeded
from headway.synthetic import write_folder
from tests.errors import raises
from tests.small import SIDE, small_backbone

CLASSES = ("a", "b", "c")
KINDS = ["labels.csv", "features.npz", "features"]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A run, a classifier, and 30 images of which one is broken."""
    folder = tmp_path_factory.mktemp("stream")
    write_folder(folder / "photos", 30, 32, seed=0)
    next((folder / "photos").rglob("*.png")).write_bytes(b"rubbish")
    with seeded(0):
        network = small_backbone("vit", "class")
        head = nn.Linear(16, 3)
    (folder / "run").mkdir()
    save_backbone(network, folder / "run" / "model.safetensors")
    Classifier(network, head, CLASSES, SIDE, "linear", temperature=0.5).save(folder / "model")
    return folder


@pytest.fixture(autouse=True)
def _few_at_a_time(monkeypatch):
    monkeypatch.setattr(decode_stream, "DECODE_CHUNK", 8)


def write(here, out, **choices):
    if out.suffix == ".csv":
        return headway.predict(here / "model", data=here / "photos", out=out, **choices)
    return headway.embed(here / "run", data=here / "photos", out=out, **choices)


def contents(out):
    return {p.name: p.read_bytes() for p in ([out] if out.is_file() else sorted(out.iterdir()))}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("moment", [1, 2, 3, 4, 5])
def test_an_interrupted_command_resumes_to_the_same_bits(here, tmp_path, monkeypatch, name, moment):
    whole, cut = tmp_path / "whole" / name, tmp_path / "cut" / name
    answer = write(here, whole)
    assert answer.images == 29 and answer.skipped == 1 and list(whole.parent.iterdir()) == [whole]
    save, calls = ResumableWriter._save_progress, iter(range(1, 100))

    def interrupted(self):
        if next(calls) == moment:  # the files were appended to, the progress file was not written
            raise KeyboardInterrupt
        save(self)

    monkeypatch.setattr(ResumableWriter, "_save_progress", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(here, cut)
    monkeypatch.setattr(ResumableWriter, "_save_progress", save)
    assert not cut.exists()
    if moment > 2:
        with raises("output-unfinished", "--resume"):
            write(here, cut)
    assert write(here, cut, resume=True) == replace(answer, out=str(cut))
    assert contents(cut) == contents(whole) and list(cut.parent.iterdir()) == [cut]


def test_a_killed_process_is_resumed(here, tmp_path):
    code = f"""
import os, signal, headway
from headway.data.dataset import decode_stream
from headway.downstream.features.resumable_writer import ResumableWriter
decode_stream.DECODE_CHUNK = 8
append = ResumableWriter.append
def killed(self, *given):
    append(self, *given)
    if self.next_index == 16:
        os.kill(os.getpid(), signal.SIGKILL)
ResumableWriter.append = killed
headway.embed({str(here / "run")!r}, data={str(here / "photos")!r}, out={str(tmp_path / "cut.npz")!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert json.loads((tmp_path / "cut.npz.partial" / "progress.json").read_text())["next_index"] == 16
    write(here, tmp_path / "whole.npz")
    write(here, tmp_path / "cut.npz", resume=True)
    assert contents(tmp_path / "cut.npz").popitem()[1] == contents(tmp_path / "whole.npz").popitem()[1]


@pytest.mark.parametrize(("features", "layer"), [("pooled", None), ("prefix", None), ("patches", None), ("patches", 0),
                                                 ("pooled", -2), ("prefix", 1)])  # fmt: skip
def test_features_are_those_in_process_and_in_order(here, tmp_path, features, layer):
    write(here, tmp_path / "f", features=features, layer=layer)
    write(here, tmp_path / "f.npz", features=features, layer=layer)
    names = [row[0] for row in csv.reader((tmp_path / "f" / "files.csv").read_text().splitlines())][1:]
    found = sorted(p.relative_to(here / "photos").as_posix() for p in (here / "photos").rglob("*.png"))
    assert len(names) == 29 and [name for name in found if name in names] == names
    images = torch.stack([center_crop_resize(decode((here / "photos" / name).read_bytes()), SIDE) for name in names])
    network = headway.load_backbone(here / "run")
    expected = compute(network, images, SIDE, features, layer).numpy()
    rows = np.load(tmp_path / "f" / "features.npy")
    assert rows.dtype == np.float32 and np.array_equal(rows, expected)
    with np.load(tmp_path / "f.npz") as arrays:
        assert np.array_equal(arrays["features"], rows) and arrays["files"].tolist() == names
    if layer == -2:
        layers = network(torch.zeros(1, 3, SIDE, SIDE), return_layers=(0,)).layers[0]
        assert rows.shape == (29, layers.shape[2])


@pytest.mark.parametrize("name", KINDS[1:])
def test_a_first_chunk_without_a_readable_image_is_no_obstacle(here, tmp_path, name):
    shutil.copytree(here / "photos", tmp_path / "photos")
    for path in sorted((tmp_path / "photos").rglob("*.png"))[:9]:
        path.write_bytes(b"rubbish")
    headway.embed(here / "run", data=tmp_path / "photos", out=tmp_path / name)
    rows = np.load(tmp_path / name)["features"] if name.endswith(".npz") else np.load(tmp_path / name / "features.npy")
    write(here, tmp_path / "all")
    expected = np.load(tmp_path / "all" / "features.npy")
    assert len(rows) in (20, 21) and np.array_equal(rows, expected[-len(rows) :])


def test_below_min_confidence_the_label_is_unknown(here, tmp_path):
    write(here, tmp_path / "all.csv")
    answer = write(here, tmp_path / "sure.csv", min_confidence=0.5)
    every, sure = (list(csv.DictReader((tmp_path / n).read_text().splitlines())) for n in ("all.csv", "sure.csv"))
    for before, after in zip(every, sure, strict=True):
        assert after["label"] == (before["label"] if float(before["confidence"]) >= 0.5 else "don't know")
        assert {**after, "label": ""} == {**before, "label": ""}
        assert float(after["confidence"]) == max(float(after[name]) for name in CLASSES)
    unsure = sum(row["label"] == "don't know" for row in sure)
    assert 0 < unsure == answer.unsure and sum(answer.labels.values()) == 29 - unsure


def test_several_labels_an_image(here, tmp_path):
    with seeded(1):
        Classifier(small_backbone(), nn.Linear(16, 3), CLASSES, SIDE, "linear", target=MULTILABEL).save(tmp_path / "m")
    headway.predict(tmp_path / "m", data=here / "photos", out=tmp_path / "labels.csv")
    for row in csv.DictReader((tmp_path / "labels.csv").read_text().splitlines()):
        p = {name: float(row[name]) for name in CLASSES}
        assert row["label"] == ";".join(name for name in CLASSES if p[name] >= 0.5)
        assert float(row["confidence"]) == pytest.approx(min(max(q, 1 - q) for q in p.values()), abs=2e-6)


def test_another_job_is_not_resumed_and_other_files_are_not_touched(here, tmp_path, monkeypatch):
    append = ResumableWriter.append
    out = tmp_path / "labels.csv"

    def interrupted(self, *given):
        append(self, *given)
        raise KeyboardInterrupt

    monkeypatch.setattr(ResumableWriter, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(here, out)
    monkeypatch.setattr(ResumableWriter, "append", append)
    with raises("resume-differs", "min_confidence"):
        write(here, out, min_confidence=0.3, resume=True)
    foreign = tmp_path / "x.npz.partial"
    foreign.mkdir()
    (foreign / "mine.txt").write_text("precious")
    for resume in (False, True):
        with raises("output-exists"):
            write(here, tmp_path / "x.npz", resume=resume)
    assert (foreign / "mine.txt").read_text() == "precious"
    out.write_text("mine")
    with raises("output-exists"):
        write(here, out, resume=True)
    assert out.read_text() == "mine"


def test_nothing_is_left_where_no_image_can_be_read(here, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"rubbish")
    with raises("unreadable-images"):
        headway.predict(here / "model", data=tmp_path / "bad", out=tmp_path / "labels.csv")
    assert [p.name for p in tmp_path.iterdir() if p.name != "cache"] == ["bad"]
