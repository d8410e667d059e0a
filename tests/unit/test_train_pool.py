"""A run remembers which pictures it was trained on, by their contents."""

import pytest
import torch

import headway
from headway.cli.transfer import show
from headway.data.arrays import Arrays
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
