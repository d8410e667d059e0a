"""What the demo leaves for a person: sheets to look at, and the commands with which to go on."""

import shlex
from pathlib import Path

import torch

from headway import samples
from headway.cli.show import show
from headway.data.arrays import Arrays
from headway.data.source import Chosen, Source
from headway.data.store import Store
from headway.files import write_bytes
from headway.reports.gallery import Look, contact_sheet, neighbour_sheet
from headway.reports.sheet import write_png

SHOWN_SIDE, PICTURES, GAMES = 96, 36, 6
"""Side of drawn animals on sheets, pictures on the contact sheet, and pictures with which the game is shown."""
LEFT = {
    "run/": "the run: weights, log, record",
    "model/": "the classifier, for headway predict",
    "pictures.png": "what there was to learn from",
    "game.png": "what the pretext task dealt, and what the network answered",
    "neighbours.png": "what looks alike to it, before and after",
    "report.json": "the numbers",
}
"""What is left in the folder."""


def commands(data: str | Path | None = None) -> list[str]:
    """The three commands with which to go on: pretrain, change the head, predict."""
    photos, labelled = (shlex.quote(str(data or name)) for name in ("photos", "labelled"))
    return [
        f"headway pretrain auto --data {photos} --out runs/mine --budget 10m",
        f"headway transfer runs/mine --data {labelled} --head linear --out models/mine",
        "headway predict models/mine --data photos --out labels.csv",
    ]


def draw_sheets(
    folder: Path, task: str, source: Source, store: Store, test: torch.Tensor, labels: torch.Tensor,
    features: dict[str, torch.Tensor],
) -> None:  # fmt: skip
    """Write the sheets.

    Args:
        folder: That holds the run.
        task: That was played.
        source: Where the pictures came from; drawn animals are drawn anew, larger.
        store: The pictures.
        test: n, int64: which of them nobody learnt from.
        labels: n, int64: theirs.
        features: n D for each network, by its name.
    """
    larger = (
        samples.DrawnAnimals(len(source), SHOWN_SIDE, source.seed) if isinstance(source, samples.DrawnAnimals) else None
    )
    what = f"Animals drawn by program, version {samples.VERSION}." if larger else "As they are stored."

    def look_at(places: torch.Tensor | None) -> Look:
        def look(some: torch.Tensor) -> torch.Tensor:
            chosen = some if places is None else places[some]
            return (
                torch.stack([larger.image(store.kept[i]) for i in chosen.tolist()]) if larger else store.images[chosen]
            )

        return look

    assert store.labels is not None
    sheet = contact_sheet(look_at(None), store.labels, store.classes, count=PICTURES, note=what)
    write_bytes(folder / "pictures.png", write_png(sheet))
    shown = Chosen(Arrays(store.images, form=store.form), test.tolist())
    show(task, data=shown, run=folder / "run", out=folder / "game.png", count=GAMES)
    sheet = neighbour_sheet(look_at(test), labels, store.classes, features, note=f"{what} Test pictures.")
    write_bytes(folder / "neighbours.png", write_png(sheet))
