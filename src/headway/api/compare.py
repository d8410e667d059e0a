"""``compare``: which pretext task gains over training from scratch, with a confidence interval."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headway.api.result import Result
from headway.api.training import opened_training_sinks
from headway.utils.checks import check_at_least
from headway.utils.command import command_start_time, is_command
from headway.utils.duration import parse_duration
from headway.utils.notes import note, note_skipped
from headway.utils.progress import ProgressCallback, stage_progress

if TYPE_CHECKING:
    from headway.data.sources.base import DataLike


@dataclass(frozen=True, repr=False)
class CompareResult(Result):
    """The leaderboard and its one claim."""

    rows: list[dict[str, Any]]
    """Methods, best first: name, accuracy, low, high, and gain over training from scratch."""
    gain: dict[str, Any]
    """Of the method that folds select: points, low, high, method."""
    verdict: str
    """helped, hurt, or cannot tell."""
    sentence: str
    """The claim in words."""
    continued_baselines: dict[str, Any]
    """For each public backbone: gain, verdict and sentence of the tasks that continued it, against it as published."""
    steps: dict[str, Any]
    """pretraining: of each run; on_labels: of each head and of training from scratch."""
    unequal: str | None
    """A sentence where other programs slowed down some pretrainings; else None."""
    out: str
    """The folder."""
    details: dict[str, Any]
    """Numbers of images, seeds, draws and labels."""


@dataclass(frozen=True, repr=False)
class ComparePreview(Result):
    """What a comparison would cost."""

    preview: dict[str, Any]
    """Pretrainings, trainings on labels, their steps and seconds."""
    out: str
    """The folder, which is not written yet."""


def compare(
    *,
    data: DataLike,
    labeled: DataLike,
    out: str | Path,
    test: DataLike | None = None,
    tasks: str = "rotation,simclr",
    budget: str | None = None,
    steps: int | None = None,
    labels_per_class: int = 10,
    seeds: int = 3,
    draws: int = 2,
    heads: str = "linear,finetune",
    baselines: str = "",
    continue_baselines: bool = True,
    group_by: str = "",
    backbone: str = "vit_tiny",
    stem: Literal["linear", "conv", "residual"] = "linear",
    patch: int = 0,
    size: int = 0,
    finetune_steps: int = 0,
    seed: int = 0,
    shuffle_labels: bool = False,
    preview: bool = False,
    resume: bool = False,
    progress: ProgressCallback | None = None,
) -> CompareResult | ComparePreview:
    """Pretrain with each task for equal time, transfer with each head, and test the gain over training from scratch.

    Example: headway compare --data photos --labeled labeled --tasks rotation,simclr --budget 3m --out cmp

    Args:
        data: Images to pretrain on; those that are in the test set are left out.
        labeled: Labeled images: a folder with one folder per class, tars with .cls, or a CSV with file,label.
        out: The folder to write. Finished results in it are not computed again.
        test: Images to test on; none: a stratified fifth of the labeled images is held out.
        tasks: Names, separated by commas.
        budget: Time of ONE pretraining; without budget and steps 3m.
        steps: Optimizer steps of one pretraining, in place of a budget.
        labels_per_class: Labels per class to train on.
        seeds: Pretrainings of each task. With one, the interval does not cover other pretrainings; with two, hardly.
        draws: Draws of labels for each seed.
        heads: Of knn, linear, attentive, mlp, finetune, lora and last-N (fine-tuning of the last N blocks), separated
            by commas.
        baselines: Public backbones to compare with, separated by commas: timm:NAME, where its weights are on this
            machine (nothing is downloaded), timm:NAME=FILE, or a file or run of Headway.
        continue_baselines: Whether the tasks also continue the pretraining of these backbones, on your images.
        group_by: Keeps labeled images of one animal, patient or camera on one side of the split and of every fold: a
            column of the table, or a regular expression on names, whose first parentheses are the group.
        backbone: As for pretrain.
        stem: As for pretrain: linear, conv or residual.
        patch: As for pretrain.
        size: Side in pixels of the square main view; 0: the median short side, at most 224.
        finetune_steps: Steps of one training on labels (from scratch: twice as many); 0: 50 epochs, at least 150 steps.
        seed: The first seed.
        shuffle_labels: Permute the labels at random first: a valid comparison must then end in "cannot tell".
        preview: Print what the comparison would cost, and stop.
        resume: Continue a comparison, also with more tasks, heads, seeds or draws. Choose their number before you see
            the result: adding seeds until the verdict pleases is wrong more often than 5 % of the time.
        progress: Called with the progress of each stage; none: silent.
    """
    from headway.data.open import open_source, open_test_source
    from headway.evaluation.comparison.compare import compare as run_comparison
    from headway.evaluation.comparison.config import ComparisonConfig
    from headway.evaluation.comparison.cost_estimate import preview_cost
    from headway.evaluation.comparison.data import load_comparison_data
    from headway.evaluation.comparison.runner import ComparisonRunner
    from headway.evaluation.result_cache import ResultCache, check_out_folder
    from headway.pretext import find_recipe
    from headway.reports.leaderboard import comparison_to_dict
    from headway.train.config import PretrainConfig
    from headway.utils.files import write_json

    start, folder = command_start_time(), Path(out)
    check_at_least(1, seeds=seeds, draws=draws, labels_per_class=labels_per_class)
    check_at_least(0, finetune_steps=finetune_steps)
    seconds = parse_duration(budget) if budget else None if steps is not None else parse_duration("3m")
    configs = [
        PretrainConfig(task=name, recipe=find_recipe(name), backbone=backbone, stem=stem, patch=patch, size=size,
            budget=seconds, steps=steps, seed=seed)
        for name in _split_commas(tasks)
    ]  # fmt: skip
    config = ComparisonConfig(
        pretrain_configs=tuple(configs), heads=_split_commas(heads), baselines=_split_commas(baselines),
        continue_baselines=continue_baselines, labels_per_class=labels_per_class, seeds=seeds, draws=draws, seed=seed,
        finetune_steps=finetune_steps,
    )  # fmt: skip
    check_out_folder(folder, resume)
    source, labeled_source = open_source(data), open_source(labeled, labeled=True, group_by=group_by)
    test_source = open_test_source(test, group_by=group_by)
    config = config.for_images(source)
    found = load_comparison_data(
        source, labeled_source, test_source, size=config.size, storage_side=config.storage_side(source), seed=seed,
        shuffle_labels=shuffle_labels,
        progress=(stage_progress(progress, "decoding"), stage_progress(progress, "decoding labeled images")),
    )  # fmt: skip
    note_skipped(found.skipped)
    config.check_labels(found.split)
    cache = ResultCache(folder, config.resume_conditions(found.fingerprint, found.split, shuffle_labels), resume)
    note(str(found))
    sinks = partial(opened_training_sinks, progress)
    runner = ComparisonRunner(config, found, cache, sinks, note, auto_processes=is_command())
    for continued in runner.continued_baselines.values():
        for refusal in continued.refusals:
            note(refusal)
    cost = preview_cost(runner)
    note(cost["text"])
    if preview:
        return ComparePreview(cost, str(folder))
    comparison = run_comparison(runner)
    details = {
        "half_width": comparison.claim.half_width, "chosen_methods": comparison.claim.chosen_methods, "seeds": seeds,
        "draws": draws, "labels_per_class": labels_per_class, "drawn_fraction": cost["drawn_fraction"],
        "test_images": len(found.split.test_labels), "unlabeled_images": len(found.images),
        "excluded_test_images": found.num_excluded, "shuffled_labels": shuffle_labels,
        "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    result = CompareResult(**comparison_to_dict(comparison, runner), out=str(folder), details=details)
    write_json(folder / "report.json", result.to_dict())
    return result


def _split_commas(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
