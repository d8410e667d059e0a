"""``headway show``: see a pretext game: what is dealt, which labels are generated, and what a network answers."""

import inspect
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from tyro.conf import Positional

from headway import samples
from headway.cli.screen import name_skipped
from headway.config import Recipe
from headway.data.open import open_source
from headway.data.source import Source
from headway.data.store import Store, build_store, natural_size
from headway.downstream.classifier import refuse_existing
from headway.draws import Draws
from headway.errors import HeadwayError
from headway.files import write_bytes, write_text
from headway.pretext import find_recipe, source_of
from headway.protocol import Batch
from headway.reports.page import write_page
from headway.reports.sheet import Sheet, write_png
from headway.train.job import Job, main_size, stored_side
from headway.train.planning import make_learner, spread
from headway.train.reload import read_past, reload_learner

DRAWN, DRAWN_SIDE, DRAWN_VIEW = 1000, 96, 64
"""Pictures drawn where no data are given, their side and the side of the main view."""
SAMPLE = 64
"""Pictures that are read at least: a task may want to know more of the data than what is shown."""
MOST = 200
"""Pictures on a sheet, at most."""


def show(
    task: Positional[str],
    *,
    data: str | Path | Source | None = None,
    out: str | Path,
    run: str | Path | None = None,
    count: int = 8,
    size: int = 0,
    seed: int = 0,
    recipe: Recipe | None = None,
) -> dict[str, Any]:
    """See a pretext game: what is dealt, which labels are generated and, given a run, the network's answers.

    Example: headway show rotation --data photos --run runs/r --out rotation.html

    Args:
        task: A name that ``headway tasks`` lists, or your own as my_package.my_file:RECIPE. Name it first.
        data: A folder, a tar or brace pattern of tars, or a CSV with a column "file"; none: animals drawn by program.
        out: The sheet to write, .png (a picture) or .html (a page that holds everything); it must not exist.
        run: A run of this task, whose network is asked; none: the game alone.
        count: Pictures to show, spread evenly over the data.
        size: Side in pixels of the square main view; 0: the run's, or the median short side, at most 224.
        seed: Of the draws: another seed deals other views.
        recipe: The task with every choice; none: the run's, or the task's own.

    Returns:
        out, task, pictures.
    """
    file = refuse_existing(Path(out))
    if file.suffix not in (".png", ".html"):
        raise HeadwayError(f"--out '{out}' ends in neither .png nor .html, the formats that show writes")
    if not 1 <= count <= MOST:
        raise HeadwayError(f"--count must lie in 1..{MOST}, got {count}")
    own = find_recipe(task)
    if run is not None and (size or recipe not in (None, own)):
        raise HeadwayError("with --run the view's size and the recipe are the run's; leave --size and --recipe out")
    job = Job(task=task, recipe=recipe or own, backbone="vit_nano", size=size, seed=seed)
    source = open_source(data) if data is not None else samples.DrawnAnimals(DRAWN, DRAWN_SIDE, seed)
    past = read_past(Path(run), task, own) if run is not None else None
    if past:
        store = _some(source, past.side, count)
        learner, backbone = (found := reload_learner(past, store.images)), found.backbone
    else:  # a network is made for its patches alone, and is not asked
        natural = natural_size(source)[0]
        view, patch = main_size(natural if data is not None else DRAWN_VIEW, job)
        store = _some(source, stored_side(natural, view, job.recipe.detail), count)
        learner, backbone = make_learner(job, store, view, patch).eval(), None
    name_skipped(store.skipped)

    shown = spread(torch.arange(len(store.images)), count)  # B
    index = torch.tensor(store.kept)[shown]  # B
    batch = Batch(store.images[shown], index % past.pictures if past else index)
    with torch.no_grad():
        views = learner.task.views(batch, Draws(seed, torch.arange(len(shown))))
        panels = learner.task.panels(batch, views, backbone)
    kind = "animals drawn by program" if data is None else "pictures"
    asked = f"Answers by the network in {run}." if run is not None else "No network is asked."
    sheet = Sheet(
        title=task, claim=source_of(own)[0], panels=panels, names=[store.names[i] for i in shown.tolist()],
        note=f"{len(shown)} {kind}, dealt by seed {seed}. {asked}", link=source_of(own)[1],
        story=inspect.getdoc(inspect.getmodule(type(own.task))) or "",
    )  # fmt: skip
    if file.suffix == ".png":
        write_bytes(file, write_png(sheet))
    else:
        write_text(file, write_page(sheet))
    return {"out": str(file), "task": task, "pictures": len(shown)}


def tell(answer: dict[str, Any]) -> None:
    """Print the answer as a line."""
    print = Console(soft_wrap=True, highlight=False, markup=False).print
    print(f"{answer['task']} on {answer['pictures']} pictures: open {answer['out']}")


def _some(source: Source, side: int, count: int) -> Store:
    """Pictures spread evenly over the data, those to be shown among them."""
    indices = spread(torch.arange(len(source)), max(count, SAMPLE)).tolist()
    return build_store(source, side, indices=indices)
