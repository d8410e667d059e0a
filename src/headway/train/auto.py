"""``auto``: task, network, view, batch and rate from the pictures, the budget and the machine.

The rules and the measurements behind them are in ``docs/recipes.md``. They are few on purpose: what was not measured is
not ruled on, and the notes say where a rule is stretched beyond what was.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from headway.config import Recipe
from headway.distributed import world
from headway.errors import HeadwayError
from headway.pretext import TASKS
from headway.train.job import LARGEST, Stem
from headway.train.record import FILE, job_of, read_record
from headway.views.augment import simclr

HOUR = 3600.0
"""Seconds that are planned for where no budget is given."""
DEVICE = 200.0
"""Processor cores that an accelerator is taken for; never measured on one."""
FEW, SHORT, ONCE = 1_000, 60.0, 8.0
"""Pictures, seconds and passes below which a run is told that it is given little."""


class Situation(NamedTuple):
    """All that the rules look at.

    Attributes:
        count: Pictures.
        side: Their median short side in pixels.
        seconds: Of the budget.
        cores: Processor cores that work on it, over all processes; an accelerator counts as DEVICE of them.
    """

    count: int  # type: ignore[assignment]  # hides tuple.count
    side: int
    seconds: float
    cores: float


class Network(NamedTuple):
    """A network that the rules may choose, and what it costs.

    Attributes:
        backbone: Its name.
        grid: Patches a side of the view.
        token: Milliseconds of one core that a patch takes (in two views, there and back).
    """

    backbone: str
    grid: int
    token: float


class Advice(NamedTuple):
    """What the rules say.

    Attributes:
        task: Name in TASKS.
        recipe: Its choices, batch and rate among them.
        backbone: Name of the network.
        stem: Its stem.
        patch: Pixels a side of a patch.
        size: Side of the view in pixels.
        notes: Why, and what is expected to be too little: a line each.
    """

    task: str
    recipe: Recipe
    backbone: str
    stem: Stem
    patch: int
    size: int
    notes: list[str]


BATCH, RATE, LOW, TEMPERATURE = 128, 8e-3, 0.6, 0.2
"""Pictures a step; Muon's rate at batch 256; share of the run at low resolution; SimCLR's temperature."""
CROP, JITTER, SHARP = 0.2, 0.5, 64
"""Least area of a crop; strength of colour jitter; pixels a side up to which views aren't blurred."""
NETWORKS = (Network("vit_tiny", 8, 0.17), Network("vit_micro", 8, 0.066), Network("vit_pico", 4, 0.069))
"""From the one that learns most in the long run, as papers say, to the one that learns most in minutes, as measured."""
PIXEL = 7e-5
"""Milliseconds of one core that a pixel of the view takes, above all in the stem."""
PASSES, PATIENT = 40.0, 400.0
"""Passes that the smallest network must be able to make for a larger view, and a network to be taken for a smaller."""
DETAILED = 64
"""Pixels a side that a view has at least where the pictures hold them: they cost little more than fewer."""
VIEWS = (224, 128, 96, 64, 32)
"""Sides of the view, from the one that shows most to the cheapest."""


def situation(count: int, side: int, seconds: float | None) -> Situation:
    """What is known here of the machine, beside what was given."""
    if torch.cuda.is_available():
        cores = DEVICE
    else:
        cores = min(torch.get_num_threads(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1024)
    return Situation(count, side, HOUR if seconds is None else seconds, cores * world())


def advise(known: Situation) -> Advice:
    """Choose.

    Args:
        known: The pictures, the budget and the machine.

    Raises:
        HeadwayError: For pictures so small that no view of 16 pixels fits.
    """
    if known.side < 16:
        raise HeadwayError(
            f"auto has no rules for pictures of {known.side} pixels; name a task, a --patch and a --size"
        )
    possible = [view for view in VIEWS if view <= min(known.side, LARGEST)] or [16]
    given = known.seconds * known.cores * 1e3 / known.count  # milliseconds of a core that each picture may take in all
    smallest, sides = NETWORKS[-1], [side for side in possible if side >= min(possible[0], DETAILED)]
    view = next((side for side in sides if given >= PASSES * cost(smallest, side)), sides[-1])
    network = next((network for network in NETWORKS if given >= PATIENT * cost(network, view)), smallest)
    passes = given / cost(network, view)
    patch = patch_of(network, view)
    size = view // patch * patch
    recipe = TASKS["simclr"]
    views = replace(simclr(size, JITTER), scale=(CROP, 1.0), blur=0.0 if size <= SHARP else 0.5)
    recipe = replace(
        recipe,
        task=replace(recipe.task, augment=views, low=LOW, temperature=TEMPERATURE),
        batch=BATCH,
        optim=replace(recipe.optim, method="muon", lr=RATE),
    )
    notes = [
        f"auto: simclr on {network.backbone} with a residual stem, views of {size} pixels in patches of "
        f"{patch}, Muon, batch {BATCH}; {known.count:,} pictures, {known.seconds:,.0f} s, {known.cores:g} "
        f"{'cores' if known.cores < DEVICE else 'cores worth of accelerator (never measured on one)'}"
    ]
    if known.count < FEW:
        notes.append(
            f"{known.count:,} pictures are few (below {FEW:,}): little can be learnt from them alone. More pictures of "
            "the same kind help most, or a public network: pretrain simclr --backbone timm:NAME --weights pretrained"
        )
    if known.seconds < SHORT:
        notes.append(f"{known.seconds:,.0f} s are short: below {SHORT:.0f} s a network hardly leaves its beginnings")
    elif passes < ONCE:
        notes.append(f"about {passes:.1f} passes over the pictures are few: more time is what would help most")
    return Advice("simclr", recipe, network.backbone, "residual", patch, size, notes)


def refuse_choices(given: Sequence[str]) -> None:
    """Raises HeadwayError where a person chose what ``auto`` would."""
    if given:
        raise HeadwayError(
            f"auto chooses by itself, and --{' and --'.join(given)} was given; name a task to choose (simclr, say)"
        )


def advice_of(run: Path) -> Advice | None:
    """What was chosen for a run that is resumed, whatever the rules would say now; None where none was begun."""
    if not (run / FILE).is_file():
        return None
    record = read_record(run)
    task = str(record.get("task"))
    if task not in TASKS:  # a stranger's record may name anything, and nothing is imported for it
        raise HeadwayError(f"{run} is a run of {task}, which auto never chooses; name the task to resume it")
    job = job_of(record, task, TASKS[task], run / FILE)
    return Advice(task, job.recipe, job.backbone, job.stem, job.patch, job.size, [])


def patch_of(network: Network, view: int) -> int:
    """Pixels a side of a patch: a power of two, so that 224 pixels have patches of 32 in a grid of 7."""
    return 2 ** int(math.log2(view / network.grid))


def cost(network: Network, view: int) -> float:
    """Milliseconds of a core for a picture: blocks work on patches, and the stem on pixels."""
    patches = view // patch_of(network, view)
    return network.token * patches**2 + PIXEL * view**2
