"""``headway compare``: which pretext task gains over training from scratch, with a confidence interval."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from headway.backbones.build import build_backbone
from headway.backbones.input_size import choose_view_size, storage_side
from headway.cli import command_start_time, is_command
from headway.cli.comparison_setup import claim_dict, limit_test_set, resume_conditions
from headway.cli.console import (
    check_at_least,
    print_line,
    print_note,
    print_skipped,
    print_table,
    progress_bar,
    stderr_console,
)
from headway.data.dataset.image_store import build_store, median_short_side
from headway.data.dataset.sample_stats import get_sample_stats
from headway.data.dataset.subset import subset
from headway.data.open import open_source, open_test_source
from headway.data.sources.base import DataLike, SubsetSource, with_pixel_format
from headway.data.sources.in_memory import ArraySource
from headway.downstream.labeled_split import load_labeled_split
from headway.errors import HeadwayError
from headway.evaluation.compare import compare as run_comparison
from headway.evaluation.comparison_config import ComparisonConfig
from headway.evaluation.cost_estimate import preview_cost
from headway.evaluation.method_heads import check_heads
from headway.evaluation.methods import RAW_PIXELS, SCRATCH, UNTRAINED, can_hold_out, draw_labels
from headway.evaluation.pretrained_baselines import load_baseline
from headway.evaluation.result_cache import ResultCache, check_out_folder
from headway.evaluation.runner import ComparisonRunner
from headway.pretext import find_recipe
from headway.reports.leaderboard import claim_scope, leaderboard_table, remarks
from headway.reports.steps import comparison_steps, slowed_sentence, steps_sentence
from headway.train.config import PretrainConfig
from headway.train.log.events import ProgressBar, Sink
from headway.utils.duration import parse_duration
from headway.utils.files import write_json


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
) -> dict[str, Any]:
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

    Returns:
        rows (name, accuracy, low, high, gain), gain (points, low, high, method), verdict, sentence,
        continued_baselines (for each public backbone: gain, verdict and sentence of the tasks that continued it,
        against the backbone as published), steps (pretraining: of each run; on_labels: of each head and from scratch),
        unequal (a sentence where other programs slowed down some pretrainings; else null), out, details.
    """
    start = command_start_time()
    task_names, head_names, baseline_names = map(_split_commas, (tasks, heads, baselines))
    check_heads(head_names, ())
    if not task_names or not head_names:
        raise HeadwayError("compare needs a task and a head, such as --tasks rotation,simclr --heads linear")
    check_at_least(1, seeds=seeds, draws=draws, labels_per_class=labels_per_class)
    check_at_least(0, finetune_steps=finetune_steps)
    taken_names = (*task_names, RAW_PIXELS, UNTRAINED, SCRATCH)
    if clash := next((name for name in baseline_names if name in taken_names), None):
        raise HeadwayError(f"--baselines {clash} has the name of another row; write ./{clash}, or its whole path")
    folder = Path(out)
    check_out_folder(folder, resume)
    seconds = parse_duration(budget) if budget else None if steps is not None else parse_duration("3m")
    configs = [
        PretrainConfig(task=name, recipe=find_recipe(name), backbone=backbone, stem=stem, patch=patch, size=size,
            budget=seconds, steps=steps, seed=seed)
        for name in task_names
    ]  # fmt: skip
    source, labeled_source = open_source(data), open_source(labeled, labeled=True, group_by=group_by)
    test_source = open_test_source(test, group_by=group_by)
    short_side = median_short_side(source)[0]
    size, patch = choose_view_size(short_side, size=size, patch=patch, backbone=backbone)
    channels = get_sample_stats(source).pixel_format.channels
    configs = [replace(config, size=size, patch=patch) for config in configs]
    backbones: list[Any] = [build_backbone(backbone, size=size, stem=stem, patch_size=patch)]
    for name in baseline_names:  # checked before hours of training
        backbones.append(load_baseline(name, configs[0]))
        if (expected_channels := backbones[-1].input_spec.channels) != channels:
            raise HeadwayError(
                f"{name} takes images of {expected_channels} channels, and these have {channels}; leave it out"
            )
    check_heads(head_names, backbones)
    side = max(storage_side(short_side, size, config.recipe.storage_scale) for config in configs)
    with progress_bar("decoding") as progress:
        store = build_store(source, side, progress=progress)
    if test_source is not None:
        test_source = with_pixel_format(test_source, store.pixel_format)
    with progress_bar("decoding labeled images") as progress:
        split = load_labeled_split(
            with_pixel_format(labeled_source, store.pixel_format), test_source, side, seed=seed, progress=progress
        )
    print_skipped([*store.skipped, *split.skipped])
    indices = (~torch.isin(store.content_hashes, split.test_hashes)).nonzero().flatten()  # N
    num_excluded = len(store.images) - len(indices)
    split = limit_test_set(split, seed, shuffle_labels)
    images = subset(store.images, indices)  # no copy: the images may be memory-mapped
    if len(images) < 2 or len(split.test_labels) < 2:
        raise HeadwayError(
            f"{len(images)} images to pretrain on (without {num_excluded} that are in the test set) and "
            f"{len(split.test_labels)} to test on are too few; give more, or another --test"
        )
    drawn = draw_labels(split.labels, labels_per_class, seed, 0)
    if len(configs) * len(head_names) > 1 and not can_hold_out(split, drawn):
        raise HeadwayError(
            "no class has a second label (of another group) to hold out, so tasks and heads cannot be selected; "
            "give --labels-per-class 2 or more, or one task and one head"
        )
    config = ComparisonConfig(
        pretrain_configs=tuple(configs), heads=head_names, baselines=baseline_names,
        continue_baselines=continue_baselines, labels_per_class=labels_per_class, seeds=seeds, draws=draws, seed=seed,
        finetune_steps=finetune_steps,
    )  # fmt: skip
    cache = ResultCache(folder, resume_conditions(config, store.fingerprint, split, shuffle_labels), resume)
    print_note(
        f"{len(images):,} images to pretrain on ({num_excluded:,} that are in the test set left out), "
        f"{len(split.labels):,} labeled, {len(split.test_labels):,} to test on, {len(split.classes)} classes"
    )
    unlabeled = SubsetSource(ArraySource(store.images, pixel_format=store.pixel_format), indices.tolist())
    runner = ComparisonRunner(
        config,
        unlabeled,
        images,
        store.content_hashes[indices],
        split,
        cache,
        _progress_sinks,
        print_note,
        is_command(),
    )
    for continued in runner.continued_baselines.values():
        for refusal in continued.refusals:
            print_note(refusal)
    cost = preview_cost(runner)
    print_note(cost["text"])
    if preview:
        return {"preview": cost, "out": str(folder)}
    comparison = run_comparison(runner)
    scope, steps_taken = claim_scope(labels_per_class, seeds), comparison_steps(runner)
    result: dict[str, Any] = {
        "rows": comparison.rows,
        **claim_dict(comparison.claim, "training from scratch", scope),
        "continued_baselines": {
            name: claim_dict(claim, f"{name} as published", scope)
            for name, claim in comparison.continued_baselines.items()
        },
        "steps": steps_taken,
        "unequal": slowed_sentence(steps_taken["pretraining"]),
        "out": str(folder),
    }
    details = {
        "half_width": comparison.claim.half_width, "chosen_methods": comparison.claim.chosen_methods, "seeds": seeds,
        "draws": draws, "labels_per_class": labels_per_class, "drawn_fraction": cost["drawn_fraction"],
        "test_images": len(split.test_labels), "unlabeled_images": len(images), "excluded_test_images": num_excluded,
        "shuffled_labels": shuffle_labels, "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    write_json(folder / "report.json", {**result, "details": details})
    return {**result, "details": details}


def print_result(result: dict[str, Any]) -> None:
    """Print the leaderboard and the verdict."""
    if "preview" in result:
        return  # compare has printed it
    print_table(leaderboard_table(result))
    continued = [claim["sentence"] for claim in result["continued_baselines"].values()]
    on_labels = {name: [count] for name, count in result["steps"]["on_labels"].items()}
    both_sides = steps_sentence(result["steps"]["pretraining"], on_labels)
    for line in filter(None, (*remarks(result), both_sides, result["unequal"], *continued, result["sentence"])):
        print_line(line)
    print_line(f"Everything is in {result['out']}: runs/, results/, report.json.")


def _split_commas(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


@contextmanager
def _progress_sinks(title: str) -> Iterator[Sequence[Sink]]:
    with ProgressBar(title, stderr_console) as bar:
        yield [bar]
