"""How long training on labels may be, so that a comparison ends in time: measured before it begins."""

from typing import Any, NamedTuple

import torch

from headway.downstream.choose import CHECKS
from headway.downstream.features import CHUNK
from headway.downstream.supervised import SupervisedTask
from headway.downstream.transfer import FINE_TUNE, FROM_SCRATCH, new_head
from headway.downstream.tune import FineTune
from headway.protocol import Learner
from headway.threads import threads
from headway.train.choices import measure_step
from headway.train.plan import Plan
from headway.verdict.contest import Contest
from headway.verdict.gain import FACTORS, FOLDS, trials

BATCH = 16
"""Pictures a step: many small steps learn more from so few labels in the same time."""
LONGER, LEAST, MOST = 4, 20, 400
"""Steps of training from scratch / steps of fine-tuning (it has farther to go), and bounds on the latter."""
SPARE = 0.85
"""Share of the time that is planned with."""


class Affordable(NamedTuple):
    """What there is time for.

    Attributes:
        steps: Of a fine-tuning.
        threads: Torch's, with which a step takes the least time.
    """

    steps: int
    threads: int


def affordable_steps(contest: Contest, per_class_count: int, draws: int, remaining: float, seed: int) -> Affordable:
    """Steps of a fine-tuning so that ``verdict.gain.judge``, trials and training from scratch included, takes so long.

    Args:
        contest: Backbones and pictures.
        per_class_count: Labels a class in each draw.
        draws: How many draws.
        remaining: Seconds.
        seed: Of the steps that are measured.
    """
    backbone: Any = contest.pretrained
    head = new_head(backbone.embed_dim, len(contest.classes), seed)
    labelled = per_class_count * len(contest.classes)
    batch = min(BATCH, labelled)
    task = SupervisedTask(head, contest.labels, contest.size, FINE_TUNE.task)
    plan, learner = Plan(steps=10, batch=batch, seed=seed), Learner(contest.untrained, task)

    def step(recipe: FineTune) -> float:
        return measure_step(learner, contest.images, plan, recipe.optim, limit=1.0)

    found = {}
    for count in sorted({1, torch.get_num_threads()}):  # steps of few pictures are often quicker on one
        with threads(count):
            found[count] = step(FINE_TUNE)
    fewest = min(found, key=found.__getitem__)
    seconds = found[fewest]
    with threads(fewest):
        pair = seconds + LONGER * step(FROM_SCRATCH)  # of one step of fine-tuning and those from scratch beside it
    tried = len(FACTORS) * trials(labelled)
    looked = 2 * (tried * CHECKS * (labelled // FOLDS + CHUNK) + draws * len(contest.test_images))
    remaining -= looked * seconds / batch / 3  # a look has no backward pass
    return Affordable(int(min(max(SPARE * remaining / (tried + draws) / pair, LEAST), MOST)), fewest)
