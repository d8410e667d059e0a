"""The exact position: whatever kills a run, and however many processes go on, every image comes once per epoch.

A task that learns nothing keeps the census: how often each image was in a step that is part of the final weights.
"""

import random
from pathlib import Path

import pytest
import torch

from headway.config import Optim
from headway.data.sampling.loader import Loader
from headway.data.sampling.shuffle import shuffled_index
from headway.distributed import all_sum
from headway.protocol import PretextTask, TaskOutput, TrainModule
from headway.train.config import Plan
from headway.train.loop.loop import fit
from headway.utils import files
from tests.small import make_images, small_backbone

COUNT, BATCH, STEPS = 37, 10, 26  # 260 positions: seven epochs and one image, and no epoch ends with a batch


class Killed(BaseException):
    """Like a kill: nothing is cleaned up."""


class Census(PretextTask):
    """Counts the images of every step; the counts are part of its state."""

    def __init__(self, kill_after=None):
        super().__init__()
        self.kill_after = kill_after
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("seen", torch.zeros(COUNT))
        self.register_buffer("stream", torch.full((STEPS * BATCH,), -1.0))  # the image at each position

    def make_views(self, batch, rng):
        return batch.images, batch.sample_index, rng.stream_position

    def forward(self, backbone, views, clock):
        images, index, places = views
        pooled = backbone(images[..., :16, :16].float() / 255).pooled
        return TaskOutput((pooled.mean() * self.weight).square().sum(), {}, (index, places))

    def after_step(self, backbone, step_stats, clock):
        index, places = (torch.cat(parts) for parts in zip(*step_stats, strict=True))
        self.seen += all_sum(torch.bincount(index, minlength=COUNT).to(self.seen.dtype))
        self.stream += all_sum(torch.zeros_like(self.stream).index_copy(0, places, index.to(self.stream.dtype) + 1))
        if clock.step == self.kill_after:
            raise Killed


def census(run, kill_after=None, save_every=3, accumulate=1):
    """Continue a census to its end or until it is killed; returns the counts where it reached its end."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = TrainModule(small_backbone(), Census(kill_after))
    plan = Plan(steps=STEPS, batch_size=BATCH, save_every=save_every, grad_accum=accumulate, precision="float64")
    try:
        fit(module, make_images(COUNT), plan, Optim(lr=1e-3), run=Path(run), resume=True)
    except Killed:
        return None
    return module.task.seen.clone(), module.task.stream.clone()


def correct(answer):
    seen, stream = (counts.long() for counts in answer)
    places = torch.arange(STEPS * BATCH)
    assert stream.equal(shuffled_index(places, COUNT, 0))  # in the order that one uninterrupted run would take
    assert seen.equal(stream.bincount(minlength=COUNT))
    for epoch in stream[: STEPS * BATCH // COUNT * COUNT].reshape(-1, COUNT):
        assert epoch.sort().values.equal(torch.arange(COUNT))
    return True


def test_1_then_2_then_3_then_1_processes_with_kills_between(tmp_path, workers):
    run = str(tmp_path)
    assert census(run, kill_after=5) is None
    assert workers(2).run(census, run, 11, 2) == [None, None]
    assert workers(3).run(census, run, 19, 3, 1) == [None] * 3
    assert correct(census(run, accumulate=2))


@pytest.mark.slow
def test_through_fifty_random_kills(tmp_path, monkeypatch):
    monkeypatch.setattr(
        files, "fsync_path", lambda path: None
    )  # flushing takes most of the time and is tested elsewhere
    chance = random.Random(0)
    kills, answer = 0, None
    while kills < 50:
        run = tmp_path / f"{kills}"
        while answer is None:
            answer = census(run, chance.choice([None, *range(1, STEPS)]) if kills < 50 else None, chance.randint(1, 4))
            kills += answer is None
        assert correct(answer)
        answer = None


@pytest.mark.parametrize("seed", range(3))
def test_the_loader_alone_through_fifty_kills_and_other_numbers_of_processes(seed):
    chance = random.Random(seed)
    count, batch, steps, first = chance.randint(5, 60), chance.randint(1, 40), 90, chance.choice([0, 23])
    images = torch.zeros(count, 3, 1, 1, dtype=torch.uint8)
    final, start = {}, 0
    for world in [1, 2, 3, 1] * 13:
        stop = min(start + chance.randint(0, 5), steps)
        loaders = [
            Loader(images, seed=seed, batch_size=batch, rank=r, world_size=world, start_position=first)
            for r in range(world)
        ]
        together = zip(*(loader.batches(start, stop) for loader in loaders), strict=True)
        for step, parts in enumerate(together, start):
            final[step] = (
                torch.cat([part.sample_index for part, _ in parts]),
                torch.cat([places for _, places in parts]),
            )
        start = chance.randint(start, stop)  # steps after the last checkpoint are taken again
    index, places = (torch.cat([final[step][n] for step in sorted(final)]) for n in range(2))
    assert places.equal(first + torch.arange(len(places))) and index.equal(shuffled_index(places, count, seed))
    whole = index[-first % count :]
    for epoch in whole[: len(whole) // count * count].reshape(-1, count):
        assert epoch.sort().values.equal(torch.arange(count))
