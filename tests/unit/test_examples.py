"""The examples run as documented."""

import importlib.util
from pathlib import Path

import pytest
import torch

import headway
from headway.protocol import Batch, TrainingClock
from headway.rng import SampleRNG
from headway.synthetic import write_folder
from tests.small import SIDE, make_images, small_train_module

EXAMPLES = Path(__file__).parents[2] / "examples"
CORNER = "which_corner:RECIPE"


@pytest.fixture
def in_examples(monkeypatch):
    monkeypatch.chdir(EXAMPLES)


def test_a_custom_task_makes_the_corner_of_its_target(in_examples):
    task = small_train_module(CORNER).task
    quarters = torch.arange(4, dtype=torch.uint8).reshape(2, 2) * 60
    image = quarters.repeat_interleave(20, 0).repeat_interleave(20, 1)  # 40 40: one gray value per corner
    views = task.make_views(Batch(image.expand(50, 3, 40, 40), torch.arange(50)), SampleRNG(0, torch.arange(50)))
    assert views.images.shape == (50, 3, SIDE, SIDE) and set(views.corners.tolist()) == {0, 1, 2, 3}
    outermost = views.images[torch.arange(50), 0, -(views.corners // 2), -(views.corners % 2)]  # rows, columns 0 or -1
    assert torch.equal((outermost * 255 / 60).round().long(), views.corners)


def test_a_custom_task_is_trained_and_shown(in_examples, tmp_path):
    write_folder(tmp_path / "animals", 24, 32, seed=0)
    small = {"backbone": "vit_nano", "stem": "conv", "patch": 8}
    run = headway.pretrain(CORNER, data=str(tmp_path / "animals"), out=str(tmp_path / "run"), steps=3, **small)
    assert run.steps == 3
    sheet = tmp_path / "sheet.png"
    headway.show(CORNER, data=str(tmp_path / "animals"), run=str(tmp_path / "run"), out=str(sheet))
    assert sheet.stat().st_size > 0


def test_a_custom_task_can_be_combined(in_examples):
    module = small_train_module(f"rotation+{CORNER}")
    outcome = module(Batch(make_images(4), torch.arange(4)), SampleRNG(0, torch.arange(4)), TrainingClock(0, 10, 0.0))
    assert torch.isfinite(outcome.loss) and "which_corner.accuracy" in outcome.metrics


@pytest.mark.slow
def test_simclr_from_scratch_trains_by_the_parts_alone(capsys):
    spec = importlib.util.spec_from_file_location("simclr_from_scratch", EXAMPLES / "simclr_from_scratch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    backbone = module.pretrain(steps=21, count=64)
    losses = [float(line.split()[3]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 2 and losses[1] < losses[0]
    assert 0 <= module.evaluate(backbone) <= 100
