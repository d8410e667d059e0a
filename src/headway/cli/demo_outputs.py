"""What ``headway demo`` leaves besides the run: overview images, its result in words, commands to continue with."""

import shlex
from pathlib import Path
from typing import Any

import torch

from headway import synthetic
from headway.cli.show import show
from headway.data.dataset.image_store import ImageStore
from headway.data.sources.base import Source, SubsetSource
from headway.data.sources.in_memory import ArraySource
from headway.reports.contact_sheets import ImagesAt, contact_sheet, neighbor_sheet
from headway.reports.image_grid import image_grid_png
from headway.reports.steps import too_little_to_judge
from headway.utils.files import write_bytes

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
    drawn = " The images are drawn by program." if details["data"] == "synthetic animals" else ""
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


def write_overview_images(
    folder: Path, task: str, source: Source, store: ImageStore, test_indices: torch.Tensor, test_labels: torch.Tensor,
    test_features: dict[str, torch.Tensor],
) -> None:  # fmt: skip
    """Write the three PNG files of ``OUTPUT_FILES``.

    Args:
        folder: The demo's folder, which holds the run.
        task: Name of the pretext task.
        source: Source of the images; synthetic animals are drawn again, larger.
        store: The images.
        test_indices: n, int64: indices in the store of the test images, which were never trained on.
        test_labels: n, int64: labels of the test images.
        test_features: n D for each network, by its name.
    """
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
    show(task, data=test_source, run=folder / "run", out=folder / "pretext_task.png", count=TASK_SHEET_IMAGES)
    grid = neighbor_sheet(
        images_of(test_indices), test_labels, store.classes, test_features, note=f"{note} Test images."
    )
    write_bytes(folder / "nearest_neighbors.png", image_grid_png(grid))
