"""``auto``: choose task, network, view, batch size and learning rate by the images, the budget and the machine.

The rules and the measurements behind them are in ``docs/recipes.md``. The rules are few on purpose: they cover only
what was measured, and the notes say where a rule is applied beyond that.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from headway.backbones.input_size import MAX_VIEW_SIZE
from headway.config import Recipe
from headway.distributed import world_size
from headway.errors import HeadwayError
from headway.pretext import TASKS
from headway.train.config import Stem
from headway.train.run_dir.record import RECORD_FILE, config_of, read_record
from headway.transforms.augment import simclr_augment
from headway.utils.threads import available_threads

DEFAULT_BUDGET_S = 3600.0
"""Budget in seconds where none is given."""
ACCELERATOR_CORES = 200.0
"""Number of CPU cores that an accelerator counts as; never measured on one."""
FEW_IMAGES, SHORT_BUDGET_S, FEW_PASSES = 1_000, 60.0, 8.0
"""Images, seconds and passes over the data below which a note says that this is little."""


class AutoInputs(NamedTuple):
    """What the rules depend on.

    Attributes:
        num_images: Number of images.
        short_side: Their median short side in pixels.
        budget_s: Budget in seconds.
        cores: CPU cores over all processes; an accelerator counts as ACCELERATOR_CORES.
    """

    num_images: int
    short_side: int
    budget_s: float
    cores: float


class BackboneOption(NamedTuple):
    """A backbone that the rules may choose, and its cost.

    Attributes:
        backbone: Its name.
        patches_per_side: Patches along a side of the view.
        ms_per_patch: Core-milliseconds per patch (two views, forward and backward).
    """

    backbone: str
    patches_per_side: int
    ms_per_patch: float


class AutoChoice(NamedTuple):
    """What the rules choose.

    Attributes:
        task: Name in TASKS.
        recipe: Its settings, with batch size and learning rate.
        backbone: Name of the backbone.
        stem: Its stem.
        patch: Side of a patch in pixels.
        size: Side of the view in pixels.
        notes: The reasons, and what is probably too little, one line each.
    """

    task: str
    recipe: Recipe
    backbone: str
    stem: Stem
    patch: int
    size: int
    notes: list[str]


BATCH_SIZE, MUON_LR, LOW_RES_FRACTION, TEMPERATURE = 128, 8e-3, 0.6, 0.2
"""Images per step; Muon's learning rate at batch size 256; share of the run at low resolution; SimCLR's temperature."""
MIN_CROP_AREA, JITTER_STRENGTH, MAX_UNBLURRED_SIZE = 0.2, 0.5, 64
"""Minimum area of a crop; strength of color jitter; side in pixels up to which views are not blurred."""
BACKBONE_OPTIONS = (
    BackboneOption("vit_tiny", 8, 0.17),
    BackboneOption("vit_micro", 8, 0.066),
    BackboneOption("vit_pico", 4, 0.069),
)
"""From the backbone that learns most in a long run, by the papers, to the one that learns most in minutes, as
measured."""
MS_PER_PIXEL = 7e-5
"""Core-milliseconds per pixel of the view, spent mostly in the stem."""
MIN_PASSES_LARGER_VIEW, MIN_PASSES_LARGER_BACKBONE = 40.0, 400.0
"""Passes over the data that must be affordable: with the smallest backbone for a larger view to be chosen, and with a
backbone for it to be chosen over a smaller one."""
PREFERRED_MIN_VIEW_SIZE = 64
"""Minimum side of a view in pixels where the images are large enough: smaller views cost little less."""
VIEW_SIZES = (224, 128, 96, 64, 32)
"""Sides of the view in pixels, from the most detailed to the cheapest."""


def auto_inputs(num_images: int, short_side: int, budget_s: float | None) -> AutoInputs:
    """The inputs of the rules on this machine."""
    cores = ACCELERATOR_CORES if torch.cuda.is_available() else available_threads()
    return AutoInputs(num_images, short_side, DEFAULT_BUDGET_S if budget_s is None else budget_s, cores * world_size())


def choose_settings(inputs: AutoInputs) -> AutoChoice:
    """Choose the settings of a run.

    Args:
        inputs: The images, the budget and the machine.

    Raises:
        HeadwayError: For images so small that no view of 16 pixels fits.
    """
    if inputs.short_side < 16:
        raise HeadwayError(
            "image-size",
            f"auto has no rules for images of {inputs.short_side} pixels; name a task, a --patch and a --size",
        )
    possible = [view for view in VIEW_SIZES if view <= min(inputs.short_side, MAX_VIEW_SIZE)] or [16]
    given_ms = inputs.budget_s * inputs.cores * 1e3 / inputs.num_images  # core-milliseconds per image in all
    smallest = BACKBONE_OPTIONS[-1]
    sides = [side for side in possible if side >= min(possible[0], PREFERRED_MIN_VIEW_SIZE)]
    view = next(
        (side for side in sides if given_ms >= MIN_PASSES_LARGER_VIEW * ms_per_image(smallest, side)), sides[-1]
    )
    affordable = (o for o in BACKBONE_OPTIONS if given_ms >= MIN_PASSES_LARGER_BACKBONE * ms_per_image(o, view))
    option = next(affordable, smallest)
    passes = given_ms / ms_per_image(option, view)
    patch = patch_size_of(option, view)
    size = view // patch * patch
    recipe = TASKS["simclr"]
    augment = replace(
        simclr_augment(size, JITTER_STRENGTH),
        scale=(MIN_CROP_AREA, 1.0),
        blur_prob=0.0 if size <= MAX_UNBLURRED_SIZE else 0.5,
    )
    recipe = replace(
        recipe,
        task=replace(recipe.task, augment=augment, low_res_fraction=LOW_RES_FRACTION, temperature=TEMPERATURE),
        batch_size=BATCH_SIZE,
        optim=replace(recipe.optim, method="muon", lr=MUON_LR),
    )
    notes = [
        f"auto: simclr on {option.backbone} with a residual stem, views of {size} pixels in patches of "
        f"{patch}, Muon, batch size {BATCH_SIZE}; {inputs.num_images:,} images, {inputs.budget_s:,.0f} s, "
        f"{inputs.cores:g} "
        f"{'cores' if inputs.cores < ACCELERATOR_CORES else 'cores worth of accelerator (never measured on one)'}"
    ]
    if inputs.num_images < FEW_IMAGES:
        notes.append(
            f"{inputs.num_images:,} images are few (below {FEW_IMAGES:,}): little can be learned from them alone. More "
            "images of the same kind help most, or a public network: pretrain simclr --init timm:NAME"
        )
    if inputs.budget_s < SHORT_BUDGET_S:
        notes.append(f"{inputs.budget_s:,.0f} s are short: a network learns little in under {SHORT_BUDGET_S:.0f} s")
    elif passes < FEW_PASSES:
        notes.append(f"about {passes:.1f} passes over the images are few: more time would help most")
    return AutoChoice("simclr", recipe, option.backbone, "residual", patch, size, notes)


def check_no_overrides(given: Sequence[str]) -> None:
    """Refuse options that ``auto`` sets itself. Raises HeadwayError."""
    if given:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise HeadwayError("options-conflict", f"auto sets {options} itself; name a task (simclr, say) to set them")


def recorded_choice(run: Path) -> AutoChoice | None:
    """What was chosen for a run that is resumed, whatever the rules choose now; None where there is no run yet."""
    if not (run / RECORD_FILE).is_file():
        return None
    record = read_record(run)
    task = str(record.get("task"))
    if task not in TASKS:  # a record from elsewhere may name anything, and nothing is imported by its names
        raise HeadwayError(
            "resume-differs", f"{run} is a run of {task}, which auto never chooses; name the task to resume it"
        )
    config = config_of(record, task, TASKS[task], run / RECORD_FILE)
    return AutoChoice(task, config.recipe, config.backbone, config.stem, config.patch, config.size, [])


def patch_size_of(option: BackboneOption, view_size: int) -> int:
    """Side of a patch in pixels: a power of two, so that a view of 224 pixels has a grid of 7 x 7 patches of 32."""
    return 2 ** int(math.log2(view_size / option.patches_per_side))


def ms_per_image(option: BackboneOption, view_size: int) -> float:
    """Core-milliseconds per image: the blocks' cost is per patch, the stem's per pixel."""
    patches = view_size // patch_size_of(option, view_size)
    return option.ms_per_patch * patches**2 + MS_PER_PIXEL * view_size**2
