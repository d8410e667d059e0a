"""A run remembers which pictures it was trained on, by their contents."""

import pytest
import torch

import headway
from headway.cli.transfer import show
from headway.data.arrays import Arrays
from headway.data.store import build_store
from headway.train.pool import POOL, keep_pool, seen_in_pretraining, transductive
from tests.small import pictures

SMALL = {"backbone": "vit_nano", "stem": "conv", "patch": 8, "steps": 1}


def test_what_was_kept_is_found_again(tmp_path):
    hashes = torch.tensor([5, -7, 2**62, 11])
    keep_pool(tmp_path, hashes)
    assert seen_in_pretraining(tmp_path, torch.tensor([11, 12, 2**62])) == 2
    assert seen_in_pretraining(tmp_path / "elsewhere", hashes) is None
    for content in (b"rubbish", b""):
        (tmp_path / POOL).write_bytes(content)
        with pytest.raises(headway.HeadwayError, match="cannot read"):
            seen_in_pretraining(tmp_path, hashes)


def seen_by(run, images):
    return seen_in_pretraining(run, build_store(Arrays(images), 24).hashes)


@pytest.mark.parametrize("word", ["extend", "weights"])
def test_what_the_first_weights_have_seen_has_been_seen(word, tmp_path, unmeasured):
    first, second, new = pictures(20), pictures(20, seed=1), pictures(20, seed=2)
    headway.pretrain("rotation", data=Arrays(first), out=tmp_path / "a", size=16, **SMALL)
    words = {"data": Arrays(second), "steps": 1, "precision": "float32", word: str(tmp_path / "a")}
    headway.pretrain("rotation", out=tmp_path / "b", **words)
    headway.pretrain("rotation", out=tmp_path / "c", **{**words, word: str(tmp_path / "b"), "data": Arrays(new[:10])})
    assert seen_by(tmp_path / "b", torch.cat([first[:5], second[:3], new])) == 8
    assert seen_by(tmp_path / "c", torch.cat([first[:5], second[:3], new])) == 18
    (tmp_path / "c" / "model.safetensors").unlink()  # goes on at its end, without what it began from
    (tmp_path / "b").rename(tmp_path / "elsewhere")
    headway.pretrain(
        "rotation", out=tmp_path / "c", resume=True, **{**words, word: str(tmp_path / "b"), "data": Arrays(new[:10])}
    )
    assert seen_by(tmp_path / "c", torch.cat([first[:5], second[:3], new])) == 18


def test_where_the_first_weights_do_not_say_it_is_not_known(tmp_path, unmeasured):
    seen, words = pictures(20), {"data": Arrays(pictures(20, seed=1)), "steps": 1, "precision": "float32"}
    headway.pretrain("rotation", data=Arrays(seen), out=tmp_path / "a", size=16, **SMALL)
    file = str(tmp_path / "a" / "model.safetensors")
    headway.pretrain("rotation", out=tmp_path / "b", weights=file, **words)
    headway.pretrain("rotation", out=tmp_path / "c", extend=str(tmp_path / "b"), **words)
    for run in ("b", "c"):
        assert not (tmp_path / run / POOL).exists() and seen_by(tmp_path / run, seen) is None
    (tmp_path / "c" / "model.safetensors").unlink()
    headway.pretrain("rotation", out=tmp_path / "c", extend=str(tmp_path / "b"), resume=True, **words)
    assert seen_by(tmp_path / "c", seen) is None  # nor later
    (tmp_path / "a" / POOL).write_bytes(b"rubbish")
    with pytest.raises(headway.HeadwayError, match="cannot read"):
        headway.pretrain("rotation", out=tmp_path / "d", weights=str(tmp_path / "a"), **words)
    assert not (tmp_path / "d").exists()


def test_the_remark_is_made_where_it_is_due():
    assert transductive(0, 10) is None and "not known" in str(transductive(None, 10))
    assert str(transductive(3, 10)).startswith("transductive: 3 of 10 test pictures")


def test_transfer_says_transductive(tmp_path, capsys):
    seen, new = pictures(20), pictures(30, seed=1)
    headway.pretrain("mae", data=Arrays(seen), out=tmp_path / "run", **SMALL)
    labels = ["ab"[i % 2] for i in range(20)]
    test = Arrays(torch.cat([seen[:4], new[20:]]), ["ab"[i % 2] for i in range(14)])
    answer = headway.transfer(tmp_path / "run", data=Arrays(new[:20], labels), test=test, out=tmp_path / "model")
    assert answer["transductive"] == 4
    capsys.readouterr()
    show(answer)
    assert "transductive: 4 of 14" in " ".join(capsys.readouterr().out.split())
