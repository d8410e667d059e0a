"""Low resolution first: what the network sees follows the clock, and time is planned for both phases."""

import pytest
import torch

import headway
from headway.draws import Draws
from headway.pretext.combined import CombinedTask
from headway.pretext.simclr import RECIPE, SimCLR, SimCLRTask, smaller
from headway.protocol import Batch, Clock, Features, Learner
from headway.train import choices
from headway.train.plan import Plan
from tests.small import pictures, small_backbone


@pytest.mark.parametrize(("step", "side"), [(0, 24), (5, 24), (6, 32), (9, 32)])
def test_what_the_network_sees(step, side):
    seen = []

    def backbone(images):
        seen.append(images.shape[-1])
        pooled = images.mean((2, 3))  # B 3
        return Features(pooled, pooled[:, None], pooled[:, :0, None], (1, 1))

    backbone.patch_size = 8
    task = SimCLRTask(SimCLR(low=0.6, hidden=8, projection=4), 3, 32)
    views = task.views(Batch(pictures(4, side=48), torch.arange(4)), Draws(0, torch.arange(4)))
    assert torch.isfinite(task(backbone, views, Clock(step, 10, 0.0)).loss) and views.images.shape[-1] == 32
    assert seen == [side] and task.phases == (0.0, 0.6)


def test_a_view_of_few_patches_stays_as_it_is():
    assert smaller(torch.rand(1, 3, 32, 32), 8).shape[-1] == 24
    assert smaller(torch.rand(1, 3, 32, 32), 16).shape[-1] == 32  # one patch of 16 pixels is no picture
    assert smaller(torch.full((1, 3, 64, 64), 0.25), 16).sub(0.25).abs().max() < 1e-6
    with pytest.raises(headway.HeadwayError, match="low must be at least 0 and below 1"):
        SimCLR(low=1.0)


def test_a_step_is_timed_in_each_phase(monkeypatch):
    learner = Learner(small_backbone(), SimCLRTask(SimCLR(low=0.25, hidden=8, projection=4), 16, 16))
    starts = []

    def timed(shop, images, plan, optim, start, *limits):
        starts.append(start)
        return 1.0 + 2.0 * (start > 0)

    monkeypatch.setattr(choices, "_phase", timed)
    seconds = choices.measure_step(learner, pictures(8), Plan(steps=1, batch=4), RECIPE.optim, limit=1.0)
    assert starts == [0.0, 0.25] and seconds == 0.25 * 1.0 + 0.75 * 3.0


def test_a_combination_has_the_phases_of_its_games():
    games = {"a": SimCLRTask(SimCLR(low=0.5), 16, 16), "b": SimCLRTask(SimCLR(low=0.25), 16, 16)}
    assert CombinedTask(games, (1.0, 1.0)).phases == (0.0, 0.25, 0.5)


def test_the_phase_is_the_one_that_is_timed(monkeypatch):
    learner = Learner(small_backbone(), SimCLRTask(SimCLR(low=0.5, hidden=8, projection=4), 16, 16))
    clocks = []
    real = choices.take_step

    def noted(shop, optim, plan, batch, places, clock):
        clocks.append(clock.progress)
        return real(shop, optim, plan, batch, places, clock)

    monkeypatch.setattr(choices, "take_step", noted)
    assert choices.measure_step(learner, pictures(8), Plan(steps=1, batch=4), RECIPE.optim, limit=0.0) > 0
    early, late = [p for p in clocks if p < 0.5], [p for p in clocks if p >= 0.5]
    assert len(early) == len(late) == 3  # one for warm-up, two timed
