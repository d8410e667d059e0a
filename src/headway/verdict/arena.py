"""Where contenders meet: pictures, terms, and the cells in which finished results are kept.

Every task trains the same network on the same terms from the same seeds, and is passed on with the same labels. The
baselines see those labels too: raw pixels, the untrained network, training from scratch (which chooses its learning
rate on folds from as many as any head does, and takes twice the steps), and public backbones, which the tasks also
train on.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from headway.backbones.load import build_backbone
from headway.backbones.weights import digest_of, load_backbone
from headway.data.picked import Pictures
from headway.data.source import Source
from headway.downstream.labelled import Labelled
from headway.downstream.tune import FineTune
from headway.draws import hashed, seeded
from headway.errors import HeadwayError
from headway.files import read_json
from headway.plain import describe
from headway.train.job import Job
from headway.train.log import Sink
from headway.train.planning import channel_statistics
from headway.train.pool import keep_pool
from headway.train.run import run_job
from headway.train.start import seen_before
from headway.verdict.cells import Cells, pack, plain_name, unpack
from headway.verdict.heads import called, kind_of
from headway.verdict.public import continued, offline, public_backbone, title
from headway.verdict.terms import Terms
from headway.verdict.trial import (
    PIXEL,
    SCRATCH,
    UNTRAINED,
    Start,
    Trial,
    at_rate,
    draw_labels,
    features_of,
    fresh,
    frozen,
    raw_pixels,
    score,
    trained,
    tune,
)

TASKS = "tasks"
Make = Callable[[int], Trial]


class Contender(NamedTuple):
    """One row.

    Attributes:
        name: What it is called.
        make: Its trial, from the number of a seed.
        head: What it is trained with: of ``verdict.heads``, or from scratch.
        among: Of those with the same word here folds choose one; none: it is there to be compared with.
    """

    name: str
    make: Make
    head: str
    among: str = ""


class Arena:
    """Pictures, terms and finished cells.

    Args:
        terms: What is compared.
        pool: Pictures to pretrain on.
        images: The same as stored, N C H W.
        hashes: N, int64, the contents of the pool's pictures.
        pictures: To pass on and to test with.
        cells: Where results are kept.
        watch: Called with the name of each pretraining; within what it gives, the sinks that take its events.
        say: Told what is finished, one line a cell.
    """

    def __init__(
        self, terms: Terms, pool: Source, images: Pictures, hashes: Tensor, pictures: Labelled, cells: Cells,
        watch: Callable[[str], AbstractContextManager[Sequence[Sink]]] = lambda name: nullcontext(()),
        say: Callable[[str], None] = lambda text: None,
    ):  # fmt: skip
        self.terms, self.pool, self.images, self.hashes = terms, pool, images, hashes
        self.pictures, self.cells, self.watch, self.say = pictures, cells, watch, say
        self.size = terms.jobs[0].size
        self.public = {name: cache(partial(public_backbone, name, terms.jobs[0])) for name in terms.public}
        known = self.public.items() if terms.continued else ()
        self.continued = {name: continued(name, backbone(), terms.jobs, images) for name, backbone in known}

    @property
    def jobs(self) -> list[Job]:
        """Every pretraining of one seed."""
        return [*self.terms.jobs, *(job for found in self.continued.values() for job in found.jobs)]

    def pretrained(self, job: Job, number: int) -> nn.Module:
        """The backbone of one task and seed, trained if it isn't yet.

        Raises:
            HeadwayError: It was trained by another recipe than the task has now.
        """
        job, name = replace(job, seed=self.terms.seed + number), title(job)
        run = run_folder(self.cells, name, job.seed)
        if not finished(run):
            with self.watch(f"{name}, seed {job.seed}") as sinks, offline() if job.weights else nullcontext():
                answer = run_job(job, self.pool, run, resume=True, sinks=sinks)
            if (seen := seen_before(job, None)) is not None:
                keep_pool(run, torch.cat([seen, self.hashes]))
            self.say(f"{name}, seed {job.seed}: pretrained, {answer['steps']:,} steps in {answer['seconds']:.0f} s")
        elif read_json(run / "run.json")["job"]["recipe"] != describe(job.recipe):
            raise HeadwayError(f"{run} was trained by another recipe than {name} has now; choose another --out")
        return load_backbone(run).float()

    def untrained(self, number: int) -> nn.Module:
        """The network as a pretraining of this seed finds it."""
        job = self.terms.jobs[0]
        with seeded(self.terms.seed + number):
            return build_backbone(
                job.backbone,
                size=self.size,
                inputs=channel_statistics(self.images),
                stem=job.stem,
                patch_size=job.patch,
            )

    def know_public(self) -> None:
        """Keep what the weights of public backbones are.

        Raises:
            HeadwayError: One has other weights than when this comparison met it first.
        """
        for name, backbone in self.public.items():
            now = digest_of(backbone())
            if self.cells.get(f"weights of {name}", partial(dict, digest=now))["digest"] != now:
                raise HeadwayError(
                    f"{name} has other weights than when {self.cells.folder} met it; choose another --out"
                )

    def contenders(self) -> list[Contender]:
        """Every row of the leaderboard to be."""
        pictures, pixels = self.pictures, frozen(self.pictures, raw_pixels)
        rows = [
            Contender(PIXEL, lambda s: pixels, "linear"),
            Contender(UNTRAINED, lambda s: frozen(pictures, features_of(self.untrained(s), self.size)), "linear"),
            Contender(SCRATCH, lambda s: self._trained(SCRATCH, self.untrained, SCRATCH, s), SCRATCH),
        ]
        for name, backbone in self.public.items():
            as_it_comes = self._rows(name, partial(_any_seed, backbone), name)
            rows += [contender._replace(make=_once(contender.make)) for contender in as_it_comes]
            for job in self.continued[name].jobs if name in self.continued else ():
                rows += self._rows(title(job), partial(self.pretrained, job), f"from {name}")
        for job in self.terms.jobs:
            rows += self._rows(job.task, partial(self.pretrained, job), TASKS)
        return rows

    def _rows(self, name: str, base: Callable[[int], nn.Module], among: str) -> list[Contender]:
        """A backbone with each of the heads."""
        rows = {f"{name} {called(head)}": head for head in self.terms.heads}
        return [Contender(row, partial(self._passed_on, row, base, head), head, among) for row, head in rows.items()]

    def scored(self, contender: Contender, number: int) -> tuple[np.ndarray, list[float]]:
        """Draws n, right or not, of a contender under one seed, and its share on folds of each draw; computed once."""
        terms, pictures, seed = self.terms, self.pictures, self.terms.seed + number
        trial = cache(lambda: contender.make(number))  # made where a cell is missing

        def compute(draw: int) -> dict[str, Any]:
            chosen = draw_labels(pictures.labels, terms.per_class, seed, draw)
            found = score(trial(), pictures, chosen, hashed("training", seed, draw), bool(contender.among))
            known = "" if found.folds is None else f": {100 * found.folds:.1f} % right on folds of its labels"
            self.say(f"{contender.name}, seed {seed}, draw {draw} done{known}")
            return {"right": pack(found.right.numpy()), "folds": found.folds}

        cells = [
            self.cells.get(f"{contender.name}, seed {seed}, draw {draw}", partial(compute, draw))
            for draw in range(terms.draws)
        ]
        return np.stack([unpack(cell["right"]) for cell in cells]), [cell["folds"] for cell in cells]

    def _passed_on(self, name: str, base: Callable[[int], nn.Module], head: str, number: int) -> Trial:
        if self.terms.recipe(head) is None:
            return frozen(self.pictures, features_of(base(number), self.size), head)
        return self._trained(name, base, head, number)

    def _trained(self, name: str, base: Callable[[int], nn.Module], head: str, number: int) -> Trial:
        """A contender that is trained by steps, at the learning rate that folds of the very first labels prefer."""
        terms, pictures, choices = self.terms, self.pictures, self.terms.recipe(head)
        assert choices is not None
        kind = head if head == SCRATCH else kind_of(head)

        def make(backbone: nn.Module, choices: FineTune) -> Trial:
            start: Start = partial(fresh, backbone) if head == SCRATCH else lambda seed: backbone
            return trained(pictures, start, self.size, choices, kind)

        def compute() -> dict[str, Any]:
            chosen = draw_labels(pictures.labels, terms.per_class, terms.seed, 0)
            first = base(0)
            factor = tune(lambda tried: make(first, tried), choices, pictures, chosen, hashed("rate", terms.seed))
            self.say(f"{name}: folds of training labels choose {factor:g} times the learning rate")
            return {"factor": factor}

        return make(base(number), at_rate(choices, self.cells.get(f"rate of {name}", compute)["factor"]))


def _any_seed(built: Callable[[], nn.Module], number: int) -> nn.Module:
    """A network that no seed of ours has made."""
    return built()


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
