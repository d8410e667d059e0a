"""The image grid of a pretext task: its views, its generated targets, and a network's predictions."""

import inspect
from dataclasses import dataclass
from pathlib import Path

import torch

from headway.backbones.input_size import choose_view_size, storage_side
from headway.config import Recipe
from headway.data.dataset.image_store import ImageStore, build_store, median_short_side
from headway.data.dataset.subset import subsample_evenly
from headway.data.sources.base import Remarks, Source
from headway.pretext import describe_task, find_recipe
from headway.protocol import Batch
from headway.reports.image_grid import ImageGrid
from headway.rng import SampleRNG
from headway.train.config import PretrainConfig
from headway.train.init.reload import read_trained_run, reload_train_module
from headway.train.init.train_module import build_train_module
from headway.utils.progress import Progress

MIN_IMAGES_READ = 64
"""Images read at least: a task may need statistics of more images than it shows."""


@dataclass(frozen=True)
class TaskSheet:
    """What is to be shown."""

    task: str
    """Name of the pretext task."""
    recipe: Recipe
    """The task with all its settings."""
    run: Path | None
    """A run of this task, whose network makes predictions; None: only views and targets are shown."""
    count: int
    """Images, evenly spaced over the data."""
    size: int
    """Side in pixels of the square main view; 0: the run's, or the median short side."""
    seed: int
    """Of the views."""
    kind: str = "images"
    """What the images are."""


def draw_task_sheet(sheet: TaskSheet, source: Source, progress: Progress) -> tuple[ImageGrid, Remarks]:
    """Make the grid. Returns it with (name, reason) of images that could not be read."""
    config = PretrainConfig(task=sheet.task, recipe=sheet.recipe, backbone="vit_nano", size=sheet.size, seed=sheet.seed)
    own_recipe = find_recipe(sheet.task)
    trained = read_trained_run(sheet.run, sheet.task, own_recipe) if sheet.run else None
    if trained:
        store = _load_evenly_spaced(source, trained.storage_side, sheet.count, progress)
        train_module, backbone = (found := reload_train_module(trained, store.images)), found.backbone
    else:  # an untrained network gives the patch size, and makes no predictions
        short_side = median_short_side(source)[0]
        size, patch = choose_view_size(short_side, size=sheet.size, backbone=config.backbone)
        side = storage_side(short_side, size, config.recipe.storage_scale)
        store = _load_evenly_spaced(source, side, sheet.count, progress)
        train_module, backbone = build_train_module(config, store, size, patch).eval(), None
    indices = subsample_evenly(torch.arange(len(store.images)), sheet.count)  # B
    sample_index = torch.tensor(store.source_indices)[indices]  # B
    batch = Batch(store.images[indices], sample_index % trained.num_images if trained else sample_index)
    with torch.no_grad():
        views = train_module.task.make_views(batch, SampleRNG(sheet.seed, torch.arange(len(indices))))
        panels = train_module.task.visualize(batch, views, backbone)
    network = f"Predictions by the network in {sheet.run}." if sheet.run else "No network makes predictions."
    summary, paper, _ = describe_task(own_recipe)
    grid = ImageGrid(
        title=sheet.task, subtitle=summary, panels=panels, names=[store.names[i] for i in indices.tolist()],
        note=f"{len(indices)} {sheet.kind}, seed {sheet.seed}. {network}", link=paper,
        description=inspect.getdoc(inspect.getmodule(type(own_recipe.task))) or "",
    )  # fmt: skip
    return grid, store.skipped


def _load_evenly_spaced(source: Source, side: int, count: int, progress: Progress) -> ImageStore:
    """Images evenly spaced over the data; those that are shown are a subset of them."""
    indices = subsample_evenly(torch.arange(len(source)), max(count, MIN_IMAGES_READ)).tolist()
    return build_store(source, side, indices=indices, progress=progress)
