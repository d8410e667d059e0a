"""``headway show``: shows a pretext task: its views, its generated targets, and a network's predictions."""

import inspect
from pathlib import Path
from typing import Any

import torch
from tyro.conf import Positional

from headway import synthetic
from headway.backbones.input_size import choose_view_size, storage_side
from headway.cli.console import print_line, print_skipped
from headway.config import Recipe
from headway.data.dataset.image_store import ImageStore, build_store, median_short_side
from headway.data.dataset.subset import subsample_evenly
from headway.data.open import open_source
from headway.data.sources.base import DataLike, Source
from headway.errors import HeadwayError
from headway.pretext import describe_task, find_recipe
from headway.protocol import Batch
from headway.reports.html import image_grid_html
from headway.reports.image_grid import ImageGrid, image_grid_png
from headway.rng import SampleRNG
from headway.train.config import PretrainConfig
from headway.train.init.reload import read_trained_run, reload_train_module
from headway.train.init.train_module import build_train_module
from headway.utils.files import refuse_existing, write_bytes, write_text

NUM_SYNTHETIC, SYNTHETIC_SIZE, SYNTHETIC_VIEW_SIZE = 1000, 96, 64
"""Synthetic images drawn where no data are given, their side and the side of the main view in pixels."""
MIN_IMAGES_READ = 64
"""Images read at least: a task may need statistics of more images than it shows."""
MAX_IMAGES = 200
"""Images shown at most."""


def show(
    task: Positional[str],
    *,
    data: DataLike | None = None,
    out: str | Path,
    run: str | Path | None = None,
    count: int = 8,
    size: int = 0,
    seed: int = 0,
    recipe: Recipe | None = None,
) -> dict[str, Any]:
    """Show a pretext task: its views, its generated targets and, given a run, the network's predictions.

    Example: headway show rotation --data photos --run runs/r --out rotation.html

    Args:
        task: A name that ``headway tasks`` lists, or your own as my_package.my_file:RECIPE. The task is the first
            argument.
        data: A folder, a tar or brace pattern of tars, or a CSV with a column "file"; none: animals drawn by program.
        out: The file to write, .png (an image) or .html (a self-contained page); it must not exist.
        run: A run of this task, whose network makes predictions; none: only views and targets are shown.
        count: Images to show, evenly spaced over the data.
        size: Side in pixels of the square main view; 0: the run's, or the median short side, at most 224.
        seed: Seed of the views.
        recipe: The task with all its settings; none: the run's, or the task's own.

    Returns:
        out, task, images.
    """
    file = refuse_existing(Path(out))
    if file.suffix not in (".png", ".html"):
        raise HeadwayError(f"--out '{out}' ends in neither .png nor .html, the formats that show writes")
    if not 1 <= count <= MAX_IMAGES:
        raise HeadwayError(f"--count must lie in 1..{MAX_IMAGES}, got {count}")
    own_recipe = find_recipe(task)
    if run is not None and (size or recipe not in (None, own_recipe)):
        raise HeadwayError("with --run the view's size and the recipe are the run's; leave --size and --recipe out")
    config = PretrainConfig(task=task, recipe=recipe or own_recipe, backbone="vit_nano", size=size, seed=seed)
    source = open_source(data) if data is not None else synthetic.DrawnAnimals(NUM_SYNTHETIC, SYNTHETIC_SIZE, seed)
    trained = read_trained_run(Path(run), task, own_recipe) if run is not None else None
    if trained:
        store = _load_evenly_spaced(source, trained.storage_side, count)
        train_module, backbone = (found := reload_train_module(trained, store.images)), found.backbone
    else:  # an untrained network gives the patch size, and makes no predictions
        short_side = median_short_side(source)[0]
        view_size, patch = choose_view_size(
            short_side if data is not None else SYNTHETIC_VIEW_SIZE, size=size, backbone=config.backbone
        )
        store = _load_evenly_spaced(source, storage_side(short_side, view_size, config.recipe.storage_scale), count)
        train_module, backbone = build_train_module(config, store, view_size, patch).eval(), None
    print_skipped(store.skipped)

    indices = subsample_evenly(torch.arange(len(store.images)), count)  # B
    sample_index = torch.tensor(store.source_indices)[indices]  # B
    batch = Batch(store.images[indices], sample_index % trained.num_images if trained else sample_index)
    with torch.no_grad():
        views = train_module.task.make_views(batch, SampleRNG(seed, torch.arange(len(indices))))
        panels = train_module.task.visualize(batch, views, backbone)
    kind = "animals drawn by program" if data is None else "images"
    network = f"Predictions by the network in {run}." if run is not None else "No network makes predictions."
    summary, paper, _ = describe_task(own_recipe)
    grid = ImageGrid(
        title=task, subtitle=summary, panels=panels, names=[store.names[i] for i in indices.tolist()],
        note=f"{len(indices)} {kind}, seed {seed}. {network}", link=paper,
        description=inspect.getdoc(inspect.getmodule(type(own_recipe.task))) or "",
    )  # fmt: skip
    if file.suffix == ".png":
        write_bytes(file, image_grid_png(grid))
    else:
        write_text(file, image_grid_html(grid))
    return {"out": str(file), "task": task, "images": len(indices)}


def print_result(result: dict[str, Any]) -> None:
    """Print the result in a line."""
    print_line(f"{result['task']} on {result['images']} images: open {result['out']}")


def _load_evenly_spaced(source: Source, side: int, count: int) -> ImageStore:
    """Images evenly spaced over the data; those that are shown are a subset of them."""
    indices = subsample_evenly(torch.arange(len(source)), max(count, MIN_IMAGES_READ)).tolist()
    return build_store(source, side, indices=indices)
