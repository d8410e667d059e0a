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
from headway.verdict.gain import FOLDS, trials

BATCH = 16
"""Pictures a step: many small steps learn more from so few labels in the same time."""
LONGER, LEAST, MOST = 10, 5, 400
"""Passes from scratch / passes of fine-tuning (which has hardly any way to go), and bounds on the former."""
SPARE = 0.85
"""Share of the time that is planned with."""


class Affordable(NamedTuple):
    """What there is time for.

    Attributes:
        scratch: Passes over the labelled pictures from scratch.
        fine_tune: The same of fine-tuning.
        threads: Torch's, with which a step takes the least time.
    """

    scratch: int
    fine_tune: int
    threads: int


def affordable(contest: Contest, per_class_count: int, draws: int, remaining: float, seed: int) -> Affordable:
    """Passes so many that ``verdict.gain.judge``, trials included, takes so long.

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
            found[count] = step(FROM_SCRATCH)
    fewest = min(found, key=found.__getitem__)
    with threads(fewest):
        tuning = step(FINE_TUNE)
    pair = found[fewest] + tuning / LONGER  # of a step from scratch and what there is of fine-tuning beside it
    tried = trials(labelled)
    looked = 2 * (tried * CHECKS * (labelled // FOLDS + CHUNK) + draws * len(contest.test_images))
    remaining -= looked * tuning / batch / 3  # a look has no backward pass
    apart = labelled * (FOLDS - 1) / FOLDS  # pictures that a trial learns from
    steps = draws * labelled / batch + tried * apart / min(BATCH, apart)  # in which every training makes one pass
    passes = int(min(max(SPARE * remaining / steps / pair, LEAST), MOST))
    return Affordable(passes, max(passes // LONGER, 1), fewest)
