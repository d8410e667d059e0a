"""The examples run as they say."""

from pathlib import Path

import pytest
import torch

import headway
from headway.draws import Draws
from headway.protocol import Batch, Clock
from headway.samples import write_folder
from tests.small import SIDE, pictures, small_learner

EXAMPLES = Path(__file__).parents[2] / "examples"
CORNER = "which_corner:RECIPE"


@pytest.fixture
def beside(monkeypatch):
    monkeypatch.chdir(EXAMPLES)  # where the one who types the command is


def test_a_game_of_ones_own_deals_the_corner_that_it_says(beside):
    task = small_learner(CORNER).task
    quarters = torch.arange(4, dtype=torch.uint8).reshape(2, 2) * 60
    picture = quarters.repeat_interleave(20, 0).repeat_interleave(20, 1)  # 40 40: a grey of its own a corner
    dealt = task.views(Batch(picture.expand(50, 3, 40, 40), torch.arange(50)), Draws(0, torch.arange(50)))
    assert dealt.images.shape == (50, 3, SIDE, SIDE) and set(dealt.corners.tolist()) == {0, 1, 2, 3}
    outermost = dealt.images[torch.arange(50), 0, -(dealt.corners // 2), -(dealt.corners % 2)]  # rows, columns 0 or -1
    assert torch.equal((outermost * 255 / 60).round().long(), dealt.corners)


def test_a_game_of_ones_own_is_trained_and_shown(beside, tmp_path):
    write_folder(tmp_path / "animals", 24, 32, seed=0)
    small = {"backbone": "vit_nano", "stem": "conv", "patch": 8}
    run = headway.pretrain(CORNER, data=str(tmp_path / "animals"), out=str(tmp_path / "run"), steps=3, **small)
    assert run["steps"] == 3
    sheet = tmp_path / "sheet.png"
    headway.show(CORNER, data=str(tmp_path / "animals"), run=str(tmp_path / "run"), out=str(sheet))
    assert sheet.stat().st_size > 0


def test_a_game_of_ones_own_may_join_a_combination(beside):
    learner = small_learner(f"rotation+{CORNER}")
    outcome = learner(Batch(pictures(4), torch.arange(4)), Draws(0, torch.arange(4)), Clock(0, 10, 0.0))
    assert torch.isfinite(outcome.loss) and "which_corner.accuracy" in outcome.metrics
