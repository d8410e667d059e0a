"""``show``: shows a pretext task: its views, its generated targets, and a network's predictions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from headway.api.result import Result
from headway.utils.notes import note_skipped
from headway.utils.progress import ProgressCallback, stage_progress

if TYPE_CHECKING:
    from headway.config import Recipe
    from headway.data.sources.base import DataLike


NUM_SYNTHETIC, SYNTHETIC_SIZE, SYNTHETIC_VIEW_SIZE = 1000, 96, 64
"""Synthetic images drawn where no data are given, their side and the side of the main view in pixels."""
MAX_IMAGES = 200
"""Images shown at most."""


@dataclass(frozen=True, repr=False)
class ShowResult(Result):
    """What is shown."""

    out: str
    """The file."""
    task: str
    """The pretext task."""
    images: int
    """Images that are shown."""


def show(
    task: str,
    *,
    data: DataLike | None = None,
    out: str | Path,
    run: str | Path | None = None,
    count: int = 8,
    size: int = 0,
    seed: int = 0,
    recipe: Recipe | None = None,
    progress: ProgressCallback | None = None,
) -> ShowResult:
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
        progress: Called with the progress of each stage; none: silent.
    """
    from headway.data.open import open_source
    from headway.errors import HeadwayError
    from headway.pretext import find_recipe
    from headway.reports.html import image_grid_html
    from headway.reports.image_grid import image_grid_png
    from headway.reports.task_sheet import TaskSheet, draw_task_sheet
    from headway.synthetic import DrawnAnimals
    from headway.utils.files import refuse_existing, write_bytes, write_text

    file = refuse_existing(Path(out))
    if file.suffix not in (".png", ".html"):
        raise HeadwayError(
            "output-format", f"--out '{out}' ends in neither .png nor .html, the formats that show writes"
        )
    if not 1 <= count <= MAX_IMAGES:
        raise HeadwayError("value-out-of-range", f"--count must lie in 1..{MAX_IMAGES}, got {count}")
    own_recipe: Recipe = find_recipe(task)
    if run is not None and (size or recipe not in (None, own_recipe)):
        raise HeadwayError(
            "options-conflict", "with --run the view's size and the recipe are the run's; leave --size and --recipe out"
        )
    source = DrawnAnimals(NUM_SYNTHETIC, SYNTHETIC_SIZE, seed) if data is None else open_source(data)
    wanted = TaskSheet(task, recipe or own_recipe, None if run is None else Path(run), count, size, seed)
    if data is None:
        wanted = replace(wanted, size=size or SYNTHETIC_VIEW_SIZE, kind="animals drawn by program")
    grid, skipped = draw_task_sheet(wanted, source, stage_progress(progress, "decoding"))
    note_skipped(skipped)
    if file.suffix == ".png":
        write_bytes(file, image_grid_png(grid))
    else:
        write_text(file, image_grid_html(grid))
    return ShowResult(str(file), task, len(grid.names))
