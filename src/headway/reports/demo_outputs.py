"""What ``headway demo`` leaves besides the run: overview images, its result in words, commands to continue with."""

import shlex
from pathlib import Path
from typing import Any

import torch

from headway import synthetic
from headway.data.sources.base import SubsetSource
from headway.data.sources.in_memory import ArraySource
from headway.evaluation.demo.data import DemoData
from headway.evaluation.demo.evaluate import DemoEvaluation
from headway.evaluation.demo.scratch_comparison import FINE_TUNED
from headway.evaluation.demo.settings import LABELS_PER_CLASS
from headway.evaluation.methods import SCRATCH
from headway.pretext import find_recipe
from headway.reports.contact_sheets import ImagesAt, contact_sheet, neighbor_sheet
from headway.reports.image_grid import image_grid_png
from headway.reports.steps import pretraining_steps, too_little_to_judge
from headway.reports.task_sheet import TaskSheet, draw_task_sheet
from headway.train.plan.auto import AutoChoice
from headway.utils.files import write_bytes
from headway.utils.threads import torch_threads

SYNTHETIC_DATA = "synthetic animals"
"""The name of the data where none were given."""
DISPLAY_SIZE, CONTACT_SHEET_IMAGES, TASK_SHEET_IMAGES = 96, 36, 6
"""Side of synthetic animals in the overview images, images on the contact sheet, images that show the pretext task."""
OUTPUT_FILES = {
    "run/": "the run: weights, log, record",
    "model/": "the classifier, for headway predict",
    "images.png": "examples of the images",
    "pretext_task.png": "the views of the pretext task, its targets and the network's predictions",
    "nearest_neighbors.png": "nearest neighbors in feature space, before and after pretraining",
    "report.json": "the numbers",
}
"""What the demo writes into its folder."""


def next_commands(data: str | Path | None = None) -> list[str]:
    """Three commands to continue with: pretrain, transfer, predict."""
    photos, labeled = (shlex.quote(str(data or name)) for name in ("photos", "labeled"))
    return [
        f"headway pretrain auto --data {photos} --out runs/mine --budget 10m",
        f"headway transfer runs/mine --data {labeled} --head linear --out models/mine",
        "headway predict models/mine --data photos --out labels.csv",
    ]


def sentence(gain: dict[str, float], details: dict[str, Any], steps: dict[str, Any]) -> str:
    """The gain with its interval, what the interval covers, and the steps of both sides.

    Where pretraining had too few steps to show anything, it says so instead of a verdict.
    """
    low, high = gain["low"], gain["high"]
    verdict = (
        "Pretraining helped" if low > 0
        else too_little_to_judge(steps["pretraining"])
        or ("Pretraining hurt" if high < 0 else "Cannot tell whether pretraining helped")
    )  # fmt: skip
    found = f"{verdict}{' Measured' if verdict.endswith('.') else ''}: {gain['points']:+.1f} points"
    drawn = " The images are drawn by program." if details["data"] == SYNTHETIC_DATA else ""
    shuffled = " The labels were shuffled, so there was nothing to gain." if details["shuffled_labels"] else ""
    pretraining, tuned, scratch = (steps[name] for name in ("pretraining", "fine_tuning", "from_scratch"))
    return (
        f"{found} (95 %: {low:+.1f} to {high:+.1f}), {details['method']} against from scratch with the same "
        f"{details['labels_per_class']} labels per class. The interval covers label draws and test images of this one "
        f"run, not other pretrainings. Pretraining took {pretraining['steps']:,} steps ({pretraining['passes']:.1f} "
        f"passes over the images), fine-tuning {tuned['steps']:,} and training from scratch {scratch['steps']:,}; the "
        f"budget allowed {tuned['planned_steps']:,} and {scratch['planned_steps']:,}, and folds chose when to stop "
        f"(more steps: docs/results.md).{drawn}{shuffled}"
    )


def demo_steps(run: Path, found: DemoEvaluation) -> dict[str, Any]:
    """The steps of pretraining, fine-tuning and training from scratch, and the workers of the latter two."""
    steps = {"pretraining": pretraining_steps(run), **found.steps()}
    return {**steps, "workers": str(found.time_budget.workers)}


def demo_details(data: object, images: DemoData, choice: AutoChoice, found: DemoEvaluation) -> dict[str, Any]:
    """What was compared, and how; ``data`` as the user gave it, None: animals drawn by program."""
    comparison, steps = found.comparison, found.steps()
    return {
        "data": SYNTHETIC_DATA if data is None else str(data),
        "synthetic_version": synthetic.VERSION if data is None else None,
        "task": choice.task, "backbone": choice.backbone, "method": comparison.gain.method,
        "labels_per_class": LABELS_PER_CLASS, "label_draws": comparison.num_draws, "test_images": len(images.test),
        "unlabeled_images": len(images.train),
        **{
            name: {"steps": steps[key]["planned_steps"], "chosen_on_folds": str(comparison.selections[row])}
            for name, key, row in (
                ("finetune", "fine_tuning", FINE_TUNED), ("from_scratch", "from_scratch", SCRATCH)
            )
        },
        "temperature": comparison.classifier.temperature,
        "commands": next_commands(data if isinstance(data, (str, Path)) else None),
    }  # fmt: skip


def write_overview_images(folder: Path, task: str, images: DemoData, test_features: dict[str, torch.Tensor]) -> None:
    """Write the three PNG files of ``OUTPUT_FILES``.

    Args:
        folder: The demo's folder, which holds the run.
        task: Name of the pretext task.
        images: The images; synthetic animals are drawn again, larger.
        test_features: N' D for each network, by its name.
    """
    with torch_threads(1):  # several would stall beside other programs
        _write_overview_images(folder, task, images, test_features)


def _write_overview_images(folder: Path, task: str, images: DemoData, test_features: dict[str, torch.Tensor]) -> None:
    source, store, test_indices = images.source, images.store, images.test
    larger = (
        synthetic.DrawnAnimals(len(source), DISPLAY_SIZE, source.seed)
        if isinstance(source, synthetic.DrawnAnimals)
        else None
    )
    note = f"Animals drawn by program, version {synthetic.VERSION}." if larger else "As they are stored."

    def images_of(indices: torch.Tensor | None) -> ImagesAt:
        def images_at(positions: torch.Tensor) -> torch.Tensor:
            chosen = positions if indices is None else indices[positions]
            if larger is None:
                return store.images[chosen]
            return torch.stack([larger.image(store.source_indices[i]) for i in chosen.tolist()])

        return images_at

    assert store.labels is not None
    grid = contact_sheet(images_of(None), store.labels, store.classes, count=CONTACT_SHEET_IMAGES, note=note)
    write_bytes(folder / "images.png", image_grid_png(grid))
    test_source = SubsetSource(ArraySource(store.images, pixel_format=store.pixel_format), test_indices.tolist())
    sheet = TaskSheet(task, find_recipe(task), folder / "run", TASK_SHEET_IMAGES, 0, 0)
    shown, _ = draw_task_sheet(sheet, test_source, lambda done, total: None)
    write_bytes(folder / "pretext_task.png", image_grid_png(shown))
    grid = neighbor_sheet(
        images_of(test_indices), images.labels[test_indices], store.classes, test_features, note=f"{note} Test images."
    )
    write_bytes(folder / "nearest_neighbors.png", image_grid_png(grid))
