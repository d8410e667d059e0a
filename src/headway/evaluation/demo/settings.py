"""The settings of the demo: how its pretraining is configured, and how many labels it draws."""

from dataclasses import replace
from typing import Literal

import torch

from headway.train.config import PretrainConfig
from headway.train.plan.auto import AutoChoice, AutoInputs, choose_settings

NUM_SYNTHETIC, SYNTHETIC_SIZE = 4500, 48
"""Synthetic images drawn where no data are given, and their side in pixels."""
PRETRAIN_FRACTION = 0.45
"""Fraction of the budget for pretraining."""
SYNTHETIC_CROP_SCALE, SYNTHETIC_GRAYSCALE_P = (0.7, 1.0), 0.3
"""Area of a crop of synthetic animals (a small crop could be matched by its background alone), and the probability of
conversion to grayscale."""
LABELS_PER_CLASS, LABEL_DRAWS = 5, 4
"""Labels per class, and draws of labels."""
OUTPUT_RESERVE_S = 4.0
"""Seconds reserved for the overview images and files."""


def demo_choice(inputs: AutoInputs, is_synthetic: bool) -> AutoChoice:
    """The settings of ``auto``; synthetic animals fill the image, so their crops keep most of it."""
    choice = choose_settings(inputs)
    if not is_synthetic:
        return choice
    task = choice.recipe.task
    augment = replace(task.augment, scale=SYNTHETIC_CROP_SCALE, grayscale_prob=SYNTHETIC_GRAYSCALE_P)
    return choice._replace(recipe=replace(choice.recipe, task=replace(task, augment=augment)))


def demo_config(choice: AutoChoice, seed: int, budget_s: float) -> PretrainConfig:
    """The configuration of the pretraining."""
    return PretrainConfig(
        task=choice.task, recipe=choice.recipe, backbone=choice.backbone, stem=choice.stem, patch=choice.patch,
        size=choice.size, seed=seed, precision=_likely_fastest_precision(), budget=max(budget_s, 1.0),
    )  # fmt: skip


def _likely_fastest_precision() -> Literal["auto", "float32", "bf16"]:
    """The precision that is probably fastest on this processor; measuring it would delay the first step."""
    if torch.cuda.is_available():
        return "auto"
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # absent in older torch versions
    return "bf16" if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else "float32"
