"""``headway demo``: pretraining, transfer and a comparison with training from scratch, in one command."""

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from headway import synthetic
from headway.backbones.input_size import storage_side
from headway.backbones.weights import load_backbone
from headway.cli import command_start_time, is_command
from headway.cli.console import print_note, print_skipped, progress_bar
from headway.cli.demo_outputs import OUTPUT_FILES, next_commands, sentence, write_overview_images
from headway.data.dataset.image_store import median_short_side
from headway.data.open import open_source
from headway.data.sources.base import DataLike, Source
from headway.evaluation.demo.data import load_demo_data
from headway.evaluation.demo.scratch_comparison import FINE_TUNED, TUNING_FOLDS, compare_to_scratch
from headway.evaluation.demo.time_budget import fit_time_budget
from headway.evaluation.evaluator import Evaluator
from headway.evaluation.methods import SCRATCH, reinitialize
from headway.reports.steps import pretraining_steps
from headway.train.config import PretrainConfig
from headway.train.log.events import ProgressBar, Sink
from headway.train.plan.auto import AutoChoice, AutoInputs, auto_inputs, choose_settings
from headway.train.pretrain import run_pretraining
from headway.train.run_context import RunOptions
from headway.train.run_dir.seen_images import write_seen_images
from headway.utils.duration import parse_duration
from headway.utils.files import write_json
from headway.utils.threads import torch_threads

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


def demo(
    *,
    data: DataLike | None = None,
    out: str | Path = "headway-demo",
    budget: str = "3m",
    seed: int = 0,
    shuffle_labels: bool = False,
) -> dict[str, Any]:
    """Pretrain without labels, transfer with few labels, and measure the gain over training from scratch.

    Example: headway demo --data 'train-{0..4}.tar.gz' --budget 5m

    Args:
        data: Labeled images whose labels are hidden from pretraining; none: animals drawn by program.
        out: Folder to write; where it exists, the next free number is appended.
        budget: Time for everything.
        seed: Seed of drawing, splits, weights and training.
        shuffle_labels: Permute the labels at random first: a valid comparison must then find no gain.

    Returns:
        rows (name, accuracy, low, high), gain (points, low, high), steps (of pretraining, fine-tuning and training from
        scratch), out, details.
    """
    start, seconds = command_start_time(), parse_duration(budget)
    folder = _unused_path(Path(out))
    source = open_source(data, labeled=True) if data is not None else _synthetic_animals(seed)
    short_side = median_short_side(source)[0] if data is not None else SYNTHETIC_SIZE
    choice = demo_choice(auto_inputs(len(source), short_side, PRETRAIN_FRACTION * seconds), data is None)
    side = storage_side(short_side, choice.size, choice.recipe.storage_scale)
    with progress_bar("reading") as progress:
        images = load_demo_data(
            source, size=choice.size, storage_side=side, seed=seed, shuffle_labels=shuffle_labels, progress=progress
        )
    print_skipped(images.store.skipped)
    train, test, classes = images.train, images.test, images.store.classes
    kind = "synthetic animals (drawn by program, not photographs)" if data is None else "images"
    print_note(
        f"{len(images.labels):,} {kind} of {len(classes)} classes: "
        f"{len(train):,} to pretrain on without labels, {len(test):,} to test on"
    )

    config = PretrainConfig(
        task=choice.task, recipe=choice.recipe, backbone=choice.backbone, stem=choice.stem, patch=choice.patch,
        size=choice.size, seed=seed, precision=_likely_fastest_precision(),
        budget=max(PRETRAIN_FRACTION * (seconds - (time.perf_counter() - start)), 1.0),
    )  # fmt: skip
    event_times: list[float] = []
    with ProgressBar(f"pretraining ({choice.task})") as bar:
        sinks: list[Sink] = [bar, lambda event: event_times.append(time.perf_counter() - start)]
        options = RunOptions(auto_processes=is_command())
        run_pretraining(config, images.unlabeled, folder / "run", sinks=sinks, options=options)
    # The run has hashed the resized images; a later transfer compares hashes of the original ones.
    write_seen_images(folder / "run", images.store.content_hashes[train])
    pretrained = load_backbone(folder / "run")
    untrained = reinitialize(pretrained, seed)
    split, draws = images.labeled(images.draws(LABELS_PER_CLASS, LABEL_DRAWS, seed))

    def remaining_seconds() -> float:
        return seconds - OUTPUT_RESERVE_S - (time.perf_counter() - start)

    time_budget = fit_time_budget(
        pretrained, split, labels_per_class=LABELS_PER_CLASS, num_draws=LABEL_DRAWS,
        remaining_seconds=remaining_seconds(), seed=seed, processes=0 if is_command() else 1,
    )  # fmt: skip
    evaluator, heads = Evaluator(split, folds=TUNING_FOLDS), time_budget.heads()
    with progress_bar("transfer: training on labels") as progress:
        comparison = compare_to_scratch(
            evaluator, pretrained, untrained, draws=draws, seed=seed, heads=heads,
            remaining_seconds=remaining_seconds, progress=progress,
        )  # fmt: skip
    comparison.classifier.save(folder / "model")
    networks = {"untrained": untrained, "pretrained": pretrained}
    test_features = {name: evaluator.test_features(network) for name, network in networks.items()}
    with torch_threads(1):  # several would stall beside other programs
        write_overview_images(folder, choice.task, source, images.store, test, images.labels[test], test_features)
    gain, num_labels = comparison.gain, LABELS_PER_CLASS * len(classes)
    taken = {name: selection.stop_step(num_labels) for name, selection in comparison.selections.items()}
    scratch_steps, finetune_steps = (head.num_steps(num_labels) for head in heads)
    result = {
        "rows": [row._asdict() for row in comparison.rows],
        "gain": {"points": gain.points, "low": gain.low, "high": gain.high},
        "steps": {
            "pretraining": pretraining_steps(folder / "run"),
            "fine_tuning": {"steps": taken[FINE_TUNED], "planned_steps": finetune_steps},
            "from_scratch": {"steps": taken[SCRATCH], "planned_steps": scratch_steps},
            "workers": str(time_budget.workers),
        },
        "out": str(folder),
    }
    selections = {name: str(selection) for name, selection in comparison.selections.items()}
    details = {
        "data": "synthetic animals" if data is None else str(data),
        "synthetic_version": synthetic.VERSION if data is None else None,
        "task": choice.task, "backbone": choice.backbone, "method": gain.method, "labels_per_class": LABELS_PER_CLASS,
        "label_draws": comparison.num_draws, "test_images": len(test), "unlabeled_images": len(train),
        "finetune": {"steps": finetune_steps, "chosen_on_folds": selections[FINE_TUNED]},
        "from_scratch": {"steps": scratch_steps, "chosen_on_folds": selections[SCRATCH]},
        "temperature": comparison.classifier.temperature, "seed": seed, "shuffled_labels": shuffle_labels,
        "commands": next_commands(None if isinstance(data, Source) else data),
        "seconds_to_first_step": round(event_times[0], 1), "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    write_json(folder / "report.json", {**result, **details})
    return {**result, "details": details}


def print_result(result: dict[str, Any]) -> None:
    """Print the table, the gain in one sentence, and the commands to continue with."""
    console, details, gain = Console(highlight=False, markup=False), result["details"], result["gain"]
    table = Table("", "accuracy, %", "95 %", title=f"{details['labels_per_class']} labels per class")
    for row in result["rows"]:
        table.add_row(row["name"], f"{row['accuracy']:.1f}", f"{row['low']:.1f} to {row['high']:.1f}")
    console.print(table)
    console.print(sentence(gain, details, result["steps"]))
    console.print(f"\nEverything is in {result['out']}:")
    for name, description in OUTPUT_FILES.items():
        console.print(f"  {name:<22}{description}")
    console.print(
        "\nContinue with your own images (photos: any folder; labeled: one folder per class):"
        if details["data"] == "synthetic animals" else "\nContinue with these images, and with others (photos):"
    )  # fmt: skip
    for command in details["commands"]:
        console.print(f"  {command}", soft_wrap=True)


def _likely_fastest_precision() -> Literal["auto", "float32", "bf16"]:
    """The precision that is probably fastest on this processor; measuring it would delay the first step."""
    if torch.cuda.is_available():
        return "auto"
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # absent in older torch versions
    return "bf16" if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else "float32"


def _unused_path(out: Path) -> Path:
    """``out``, or the first of ``out-2``, ``out-3``, ... that does not exist."""
    if not out.exists():
        return out
    return next(path for n in itertools.count(2) if not (path := out.with_name(f"{out.name}-{n}")).exists())


def _synthetic_animals(seed: int) -> synthetic.DrawnAnimals:
    source = synthetic.DrawnAnimals(NUM_SYNTHETIC, SYNTHETIC_SIZE, seed)
    with progress_bar("drawing animals") as progress:
        source.prerender(progress)
    return source
