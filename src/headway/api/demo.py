"""``demo``: pretraining, transfer and a comparison with training from scratch, in one command."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.api.result import Result
from headway.api.training import training_sinks
from headway.utils.command import command_start_time, is_command
from headway.utils.duration import parse_duration
from headway.utils.notes import note, note_skipped
from headway.utils.progress import ProgressCallback, stage_progress

if TYPE_CHECKING:
    from headway.data.sources.base import DataLike


@dataclass(frozen=True, repr=False)
class DemoResult(Result):
    """The comparison of one pretraining with training from scratch."""

    rows: list[dict[str, Any]]
    """Of each method: name, accuracy in percent, low, high."""
    gain: dict[str, float]
    """Over training from scratch: points, low, high."""
    steps: dict[str, Any]
    """Of pretraining, fine_tuning and from_scratch; workers."""
    out: str
    """The folder."""
    details: dict[str, Any]
    """What was compared, and how."""


def demo(
    *,
    data: DataLike | None = None,
    out: str | Path = "headway-demo",
    budget: str = "3m",
    seed: int = 0,
    shuffle_labels: bool = False,
    progress: ProgressCallback | None = None,
) -> DemoResult:
    """Pretrain without labels, transfer with few labels, and measure the gain over training from scratch.

    Example: headway demo --data 'train-{0..4}.tar.gz' --budget 5m

    Args:
        data: Labeled images whose labels are hidden from pretraining; none: animals drawn by program.
        out: Folder to write; where it exists, the next free number is appended.
        budget: Time for everything.
        seed: Seed of drawing, splits, weights and training.
        shuffle_labels: Permute the labels at random first: a valid comparison must then find no gain.
        progress: Called with the progress of each stage; none: silent.
    """
    from headway.backbones.input_size import storage_side
    from headway.backbones.weights import load_backbone
    from headway.data.dataset.image_store import median_short_side
    from headway.data.open import open_source
    from headway.data.sources.base import Source
    from headway.evaluation.demo.data import load_demo_data
    from headway.evaluation.demo.evaluate import evaluate_demo
    from headway.evaluation.demo.settings import (
        NUM_SYNTHETIC,
        OUTPUT_RESERVE_S,
        PRETRAIN_FRACTION,
        SYNTHETIC_SIZE,
        demo_choice,
        demo_config,
    )  # fmt: skip
    from headway.reports.demo_outputs import demo_details, demo_steps, write_overview_images
    from headway.synthetic import DrawnAnimals
    from headway.train.plan.auto import auto_inputs
    from headway.train.pretrain import run_pretraining
    from headway.train.run_context import RunOptions
    from headway.train.run_dir.seen_images import write_seen_images
    from headway.utils.files import unused_path, write_json

    start, seconds = command_start_time(), parse_duration(budget)
    folder = unused_path(Path(out))
    source: Source
    if data is None:
        source = animals = DrawnAnimals(NUM_SYNTHETIC, SYNTHETIC_SIZE, seed)
        animals.prerender(stage_progress(progress, "drawing animals"))
    else:
        source = open_source(data, labeled=True)
    short_side = SYNTHETIC_SIZE if data is None else median_short_side(source)[0]
    choice = demo_choice(auto_inputs(len(source), short_side, PRETRAIN_FRACTION * seconds), data is None)
    side = storage_side(short_side, choice.size, choice.recipe.storage_scale)
    images = load_demo_data(
        source, size=choice.size, storage_side=side, seed=seed, shuffle_labels=shuffle_labels,
        progress=stage_progress(progress, "reading"),
    )  # fmt: skip
    note_skipped(images.store.skipped)
    note(images.describe("images" if data is not None else "synthetic animals (drawn by program, not photographs)"))
    config = demo_config(choice, seed, PRETRAIN_FRACTION * (seconds - (time.perf_counter() - start)))
    event_times: list[float] = []
    sinks = training_sinks(progress, f"pretraining ({choice.task})")
    run_pretraining(
        config, images.unlabeled, folder / "run", options=RunOptions(auto_processes=is_command()),
        sinks=[*sinks, lambda event: event_times.append(time.perf_counter() - start)],
    )  # fmt: skip
    # The run has hashed the resized images; a later transfer compares hashes of the original ones.
    write_seen_images(folder / "run", images.store.content_hashes[images.train])
    found = evaluate_demo(
        load_backbone(folder / "run"), images, seed=seed,
        remaining_seconds=lambda: seconds - OUTPUT_RESERVE_S - (time.perf_counter() - start),
        processes=0 if is_command() else 1, progress=stage_progress(progress, "transfer: training on labels"),
    )  # fmt: skip
    comparison, gain = found.comparison, found.comparison.gain
    comparison.classifier.save(folder / "model")
    write_overview_images(folder, choice.task, images, found.test_features)
    times = {"seconds_to_first_step": round(event_times[0], 1), "seconds": round(time.perf_counter() - start, 1)}
    result = DemoResult(
        [row._asdict() for row in comparison.rows],
        {"points": gain.points, "low": gain.low, "high": gain.high}, demo_steps(folder / "run", found), str(folder),
        {**demo_details(data, images, choice, found), "seed": seed, "shuffled_labels": shuffle_labels, **times},
    )  # fmt: skip
    result_dict = result.to_dict()
    write_json(folder / "report.json", {**result_dict, **result_dict.pop("details")})
    return result
