"""Where contenders meet: pictures, terms, and the cells in which finished results are kept.

Every task trains the same network on the same terms from the same seeds, and is passed on with the same labels. The
baselines see those labels too: raw pixels, the untrained network, training from scratch (which chooses its learning
rate on folds from as many as fine-tuning does, and takes twice its steps), and public backbones.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from headway.backbones.load import build_backbone
from headway.backbones.weights import load_backbone
from headway.data.arrays import Arrays
from headway.downstream.labelled import Labelled
from headway.downstream.transfer import FINE_TUNE, FineTune
from headway.draws import hashed, seeded
from headway.files import read_json
from headway.train.job import Job
from headway.train.log import Sink
from headway.train.planning import channel_statistics
from headway.train.pool import keep_pool
from headway.train.run import run_job
from headway.verdict.cells import Cells, pack, plain_name, unpack
from headway.verdict.public import public_backbone
from headway.verdict.trial import (
    PIXEL,
    SCRATCH,
    SCRATCH_LONG,
    UNTRAINED,
    Start,
    Trial,
    at_rate,
    draw_labels,
    features_of,
    fresh,
    frozen,
    moving,
    raw_pixels,
    score,
    tune,
)

HEADS = {"linear": "linear", "finetune": "fine-tuned"}
"""What a task may be passed on with, and what its row is called."""
Make = Callable[[int], Trial]


@dataclass(frozen=True)
class Terms:
    """Everything that a comparison's result depends on, beside the pictures."""

    jobs: tuple[Job, ...]
    """One pretraining a task; their seeds are counted up from here."""
    heads: tuple[str, ...] = ("linear", "finetune")
    """Keys of ``HEADS``."""
    public: tuple[str, ...] = ()
    """Public backbones, as timm:NAME."""
    per_class: int = 10
    """Labels a class."""
    seeds: int = 3
    """Pretrainings of each task."""
    draws: int = 2
    """Draws of labels for each seed."""
    seed: int = 0
    """The first."""
    fine_tune: FineTune = FINE_TUNE
    """How fine-tuning is done, but for the rate."""
    scratch: FineTune = SCRATCH_LONG
    """How training from scratch is done, but for the rate."""


class Contender(NamedTuple):
    """One row: how its trial is made from the number of a seed, and whether it may be chosen (by folds)."""

    name: str
    make: Make
    choosable: bool


class Arena:
    """Pictures, terms and finished cells.

    Args:
        terms: What is compared.
        pool: Stored pictures to pretrain on.
        hashes: N, int64, the contents of the pool's pictures.
        pictures: To pass on and to test with.
        cells: Where results are kept.
        watch: Called with the name of each pretraining; within what it gives, the sinks that take its events.
        say: Told what is finished, one line a cell.
    """

    def __init__(
        self, terms: Terms, pool: Arrays, hashes: Tensor, pictures: Labelled, cells: Cells,
        watch: Callable[[str], AbstractContextManager[Sequence[Sink]]] = lambda name: nullcontext(()),
        say: Callable[[str], None] = lambda text: None,
    ):  # fmt: skip
        self.terms, self.pool, self.hashes, self.pictures, self.cells = terms, pool, hashes, pictures, cells
        self.watch, self.say = watch, say
        self.size = terms.jobs[0].size

    def pretrained(self, job: Job, number: int) -> nn.Module:
        """The backbone of one task and seed, trained if it isn't yet."""
        job = replace(job, seed=self.terms.seed + number)
        run = run_folder(self.cells, job.task, job.seed)
        if not finished(run):
            with self.watch(f"{job.task}, seed {job.seed}") as sinks:
                answer = run_job(job, self.pool, run, resume=True, sinks=sinks)
            keep_pool(run, self.hashes)
            self.say(f"{job.task}, seed {job.seed}: pretrained, {answer['steps']:,} steps in {answer['seconds']:.0f} s")
        return load_backbone(run).float()

    def untrained(self, number: int) -> nn.Module:
        """The network as a pretraining of this seed finds it."""
        job = self.terms.jobs[0]
        with seeded(self.terms.seed + number):
            return build_backbone(
                job.backbone,
                size=self.size,
                inputs=channel_statistics(self.pool.images),
                stem=job.stem,
                patch_size=job.patch,
            )

    def contenders(self) -> list[Contender]:
        """Every row of the leaderboard to be."""
        terms, pictures = self.terms, self.pictures
        pixels = frozen(pictures, raw_pixels)
        rows = [
            Contender(PIXEL, lambda s: pixels, False),
            Contender(UNTRAINED, lambda s: frozen(pictures, features_of(self.untrained(s), self.size)), False),
            Contender(SCRATCH, lambda s: self._moving(SCRATCH, self.untrained, s, terms.scratch, False), False),
        ]
        for name in terms.public:
            base = self._public(name)
            for head in terms.heads:
                rows.append(
                    Contender(f"{name} {HEADS[head]}", _once(partial(self._passed_on, name, base, head)), False)
                )
        for job in terms.jobs:
            base = partial(self.pretrained, job)
            for head in terms.heads:
                rows.append(
                    Contender(f"{job.task} {HEADS[head]}", partial(self._passed_on, job.task, base, head), True)
                )
        return rows

    def scored(self, contender: Contender, number: int) -> tuple[np.ndarray, list[float]]:
        """Draws n, right or not, of a contender under one seed, and its share on folds of each draw; computed once."""
        terms, pictures, seed = self.terms, self.pictures, self.terms.seed + number
        trial = cache(lambda: contender.make(number))  # made where a cell is missing

        def compute(draw: int) -> dict[str, Any]:
            chosen = draw_labels(pictures.labels, terms.per_class, seed, draw)
            found = score(trial(), pictures, chosen, hashed("training", seed, draw), contender.choosable)
            known = "" if found.folds is None else f": {100 * found.folds:.1f} % right on folds of its labels"
            self.say(f"{contender.name}, seed {seed}, draw {draw} done{known}")
            return {"right": pack(found.right.numpy()), "folds": found.folds}

        cells = [
            self.cells.get(f"{contender.name}, seed {seed}, draw {draw}", partial(compute, draw))
            for draw in range(terms.draws)
        ]
        return np.stack([unpack(cell["right"]) for cell in cells]), [cell["folds"] for cell in cells]

    def _public(self, name: str) -> Callable[[int], nn.Module]:
        """A public backbone, the same for every seed."""
        built = cache(lambda: public_backbone(name, self.size))
        return lambda number: built()

    def _passed_on(self, name: str, base: Callable[[int], nn.Module], head: str, number: int) -> Trial:
        if head == "linear":
            return frozen(self.pictures, features_of(base(number), self.size))
        return self._moving(f"{name} {HEADS[head]}", base, number, self.terms.fine_tune, True)

    def _moving(
        self, name: str, base: Callable[[int], nn.Module], number: int, choices: FineTune, probe_first: bool
    ) -> Trial:
        """A contender whose backbone moves, at the learning rate that folds of the very first labels prefer."""
        terms, pictures = self.terms, self.pictures

        def make(backbone: nn.Module, choices: FineTune) -> Trial:
            start: Start = (lambda seed: backbone) if probe_first else partial(fresh, backbone)
            return moving(pictures, start, self.size, choices, probe_first=probe_first)

        def compute() -> dict[str, Any]:
            chosen = draw_labels(pictures.labels, terms.per_class, terms.seed, 0)
            first = base(0)
            factor = tune(lambda tried: make(first, tried), choices, pictures, chosen, hashed("rate", terms.seed))
            self.say(f"{name}: folds of training labels choose {factor:g} times the learning rate")
            return {"factor": factor}

        return make(base(number), at_rate(choices, self.cells.get(f"rate of {name}", compute)["factor"]))


def _once(make: Make) -> Make:
    """The same trial under every seed."""
    trial = cache(lambda: make(0))
    return lambda number: trial()


def run_folder(cells: Cells, task: str, seed: int) -> Path:
    """Where the pretraining of a task and seed lies, or will."""
    return cells.folder / "runs" / f"{plain_name(task)}-{seed}"


def finished(run: Path) -> bool:
    """Whether a pretraining has left its whole run folder."""
    return (run / "run.json").is_file() and read_json(run / "run.json").get("status") == "finished"
