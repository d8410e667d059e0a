"""Low resolution first: view sizes follow the clock, and both phases are timed for the plan."""

import math

import pytest
import torch

from headway.pretext.combined import CombinedTask
from headway.pretext.simclr import RECIPE, SimCLR, SimCLRTask, downscale
from headway.protocol import Batch, Features, TrainingClock, TrainModule
from headway.rng import SampleRNG
from headway.train.config import Plan
from headway.train.engine import timing
from tests.errors import raises
from tests.small import make_images, small_backbone


@pytest.mark.parametrize(("step", "side"), [(0, 24), (5, 24), (6, 32), (9, 32)])
def test_size_of_the_networks_input(step, side):
    seen = []

    def backbone(images):
        seen.append(images.shape[-1])
        pooled = images.mean((2, 3))  # B 3
        return Features(pooled, pooled[:, None], pooled[:, :0, None], (1, 1))

    backbone.patch_size = 8
    task = SimCLRTask(SimCLR(low_res_fraction=0.6, hidden_dim=8, projection_dim=4), 3, 32)
    views = task.make_views(Batch(make_images(4, side=48), torch.arange(4)), SampleRNG(0, torch.arange(4)))
    assert torch.isfinite(task(backbone, views, TrainingClock(step, 10, 0.0)).loss) and views.images.shape[-1] == 32
    assert seen == [side] and task.cost_milestones == (0.0, 0.6)


def test_a_view_of_few_patches_is_not_downscaled():
    assert downscale(torch.rand(1, 3, 32, 32), 8).shape[-1] == 24
    assert downscale(torch.rand(1, 3, 32, 32), 16).shape[-1] == 32  # it would be a single patch
    assert downscale(torch.full((1, 3, 64, 64), 0.25), 16).sub(0.25).abs().max() < 1e-6
    with raises("value-out-of-range", "low_res_fraction"):
        SimCLR(low_res_fraction=1.0)


def test_a_step_is_timed_in_each_phase(monkeypatch):
    module = TrainModule(
        small_backbone(), SimCLRTask(SimCLR(low_res_fraction=0.25, hidden_dim=8, projection_dim=4), 16, 16)
    )
    starts = []

    def timed(engine, images, plan, optim, start, *limits):
        starts.append(start)
        return 1.0 + 2.0 * (start > 0)

    monkeypatch.setattr(timing, "_time_phase", timed)
    seconds = timing.measure_step(module, make_images(8), Plan(steps=1, batch_size=4), RECIPE.optim, time_limit_s=1.0)
    assert starts == [0.0, 0.25] and seconds == 0.25 * 1.0 + 0.75 * 3.0


def test_a_combination_has_the_milestones_of_its_tasks():
    tasks = {
        "a": SimCLRTask(SimCLR(low_res_fraction=0.5), 16, 16),
        "b": SimCLRTask(SimCLR(low_res_fraction=0.25), 16, 16),
    }
    assert CombinedTask(tasks, (1.0, 1.0)).cost_milestones == (0.0, 0.25, 0.5)


def test_steps_are_timed_within_their_phase(monkeypatch):
    module = TrainModule(
        small_backbone(), SimCLRTask(SimCLR(low_res_fraction=0.5, hidden_dim=8, projection_dim=4), 16, 16)
    )
    clocks = []
    train_step = timing.train_step

    def recorded(engine, optim, plan, batch, positions, clock):
        clocks.append(clock.progress)
        return train_step(engine, optim, plan, batch, positions, clock)

    monkeypatch.setattr(timing, "train_step", recorded)
    monkeypatch.setattr(timing, "PATIENCE", math.inf)  # however busy this machine is
    assert timing.measure_step(module, make_images(8), Plan(steps=1, batch_size=4), RECIPE.optim, time_limit_s=0.0) > 0
    early, late = [p for p in clocks if p < 0.5], [p for p in clocks if p >= 0.5]
    assert len(early) == len(late) == 3  # one for warm-up, two timed
