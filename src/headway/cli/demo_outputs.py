"""Files that ``headway demo`` leaves besides the run: overview images, and commands to continue with."""

import shlex
from pathlib import Path

import torch

from headway import synthetic
from headway.cli.show import show
from headway.data.dataset.image_store import ImageStore
from headway.data.sources.base import Source, SubsetSource
from headway.data.sources.in_memory import ArraySource
from headway.reports.contact_sheets import ImagesAt, contact_sheet, neighbor_sheet
from headway.reports.image_grid import image_grid_png
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
