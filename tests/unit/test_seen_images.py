"""A run records the content hashes of the images that it was trained on."""

import pytest
import torch

import headway
from headway.cli.transfer import print_result
from headway.data.dataset.image_store import build_store
from headway.data.sources.in_memory import ArraySource
from headway.train.run_dir.seen_images import (
    SEEN_IMAGES_FILE,
    count_seen_in_pretraining,
    transductive_note,
    write_seen_images,
)
from tests.errors import raises
from tests.small import make_images

SMALL = {"backbone": "vit_nano", "stem": "conv", "patch": 8, "steps": 1}


def test_recorded_images_are_found_again(tmp_path):
    hashes = torch.tensor([5, -7, 2**62, 11])
    write_seen_images(tmp_path, hashes)
    assert count_seen_in_pretraining(tmp_path, torch.tensor([11, 12, 2**62])) == 2
    assert count_seen_in_pretraining(tmp_path / "elsewhere", hashes) is None
    for content in (b"rubbish", b""):
        (tmp_path / SEEN_IMAGES_FILE).write_bytes(content)
        with raises("cannot-read"):
            count_seen_in_pretraining(tmp_path, hashes)


def seen_by(run, images):
    return count_seen_in_pretraining(run, build_store(ArraySource(images), 24).content_hashes)


@pytest.mark.parametrize("word", ["continue_from", "init"])
def test_images_that_the_initial_weights_saw_count_as_seen(word, tmp_path, unmeasured):
    first, second, new = make_images(20), make_images(20, seed=1), make_images(20, seed=2)
    headway.pretrain("rotation", data=ArraySource(first), out=tmp_path / "a", size=16, **SMALL)
    words = {"data": ArraySource(second), "steps": 1, "precision": "float32", word: str(tmp_path / "a")}
    headway.pretrain("rotation", out=tmp_path / "b", **words)
    headway.pretrain(
        "rotation", out=tmp_path / "c", **{**words, word: str(tmp_path / "b"), "data": ArraySource(new[:10])}
    )
    assert seen_by(tmp_path / "b", torch.cat([first[:5], second[:3], new])) == 8
    assert seen_by(tmp_path / "c", torch.cat([first[:5], second[:3], new])) == 18
    (tmp_path / "c" / "model.safetensors").unlink()  # resumes at its end, without the run that it started from
    (tmp_path / "b").rename(tmp_path / "elsewhere")
    headway.pretrain(
        "rotation",
        out=tmp_path / "c",
        resume=True,
        **{**words, word: str(tmp_path / "b"), "data": ArraySource(new[:10])},
    )
    assert seen_by(tmp_path / "c", torch.cat([first[:5], second[:3], new])) == 18


def test_seen_images_are_unknown_where_the_initial_weights_record_none(tmp_path, unmeasured):
    seen, words = make_images(20), {"data": ArraySource(make_images(20, seed=1)), "steps": 1, "precision": "float32"}
    headway.pretrain("rotation", data=ArraySource(seen), out=tmp_path / "a", size=16, **SMALL)
    file = str(tmp_path / "a" / "model.safetensors")
    headway.pretrain("rotation", out=tmp_path / "b", init=file, **words)
    headway.pretrain("rotation", out=tmp_path / "c", continue_from=str(tmp_path / "b"), **words)
    for run in ("b", "c"):
        assert not (tmp_path / run / SEEN_IMAGES_FILE).exists() and seen_by(tmp_path / run, seen) is None
    (tmp_path / "c" / "model.safetensors").unlink()
    headway.pretrain("rotation", out=tmp_path / "c", continue_from=str(tmp_path / "b"), resume=True, **words)
    assert seen_by(tmp_path / "c", seen) is None  # and stays unknown
    (tmp_path / "a" / SEEN_IMAGES_FILE).write_bytes(b"rubbish")
    with raises("cannot-read"):
        headway.pretrain("rotation", out=tmp_path / "d", init=str(tmp_path / "a"), **words)
    assert not (tmp_path / "d").exists()


def test_the_transductive_note():
    assert transductive_note(0, 10) is None and "not known" in str(transductive_note(None, 10))
    assert str(transductive_note(3, 10)).startswith("transductive: 3 of 10 test images")


def test_transfer_says_transductive(tmp_path, capsys):
    seen, new = make_images(20), make_images(30, seed=1)
    headway.pretrain("mae", data=ArraySource(seen), out=tmp_path / "run", **SMALL)
    labels = ["ab"[i % 2] for i in range(20)]
    test = ArraySource(torch.cat([seen[:4], new[20:]]), ["ab"[i % 2] for i in range(14)])
    answer = headway.transfer(tmp_path / "run", data=ArraySource(new[:20], labels), test=test, out=tmp_path / "model")
    assert answer.transductive == 4
    capsys.readouterr()
    print_result(answer)
    assert "transductive: 4 of 14" in " ".join(capsys.readouterr().out.split())
