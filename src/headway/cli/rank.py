"""``headway rank``: order runs before there are labels, and say how far such an order can be trusted."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from tyro.conf import Positional

from headway.cli.screen import counting, name_skipped, note
from headway.data.form import Form, form_of
from headway.data.open import open_source, open_test
from headway.data.source import Source, evenly
from headway.data.store import build_store, natural_size
from headway.downstream.features import extract
from headway.downstream.labelled import Labelled, gather_labelled
from headway.downstream.swap import load_run, view_size
from headway.downstream.transfer import linear_head
from headway.errors import HeadwayError
from headway.measure.metrics import accuracy, accuracy_interval
from headway.train.job import DETAIL, stored_side
from headway.verdict.rank import PICTURES, LabelFree, correlations, label_free, measured, order


def rank(
    runs: Positional[list[str]],
    *,
    data: str | Path | Source,
    labels: str | Path | Source | None = None,
    test: str | Path | Source | None = None,
    by: Literal["lidar", "rankme", "alpha"] = "lidar",
    seed: int = 0,
) -> dict[str, Any]:
    """Order runs without labels, by the spectrum of their features. It is a hint: accuracy it is not.

    Example: headway rank runs/a runs/b runs/c --data photos

    Args:
        runs: Run folders that ``headway pretrain`` wrote, files of weights, or timm:NAME.
        data: Pictures; no label is looked at. 2,000 of them, evenly spread, are enough.
        labels: Labelled pictures, if there are any: a linear probe then says how well the order is the real one.
        test: Pictures to test the probe on; none: a stratified fifth of the labelled ones is set aside.
        by: lidar (what tells pictures apart beyond their views), rankme (in how many directions features spread), or
            alpha (how near to 1 their spectrum falls). Compare runs of one width.
        seed: Of views and splits.

    Returns:
        rows (run, rankme, lidar, alpha, accuracy, low, high), the best first; by; correlations (Spearman's, of each
        measure with the probe's accuracy; null without labels or with fewer than three runs); n; measured (the same
        correlations over the runs of our own leaderboard).
    """
    if not runs:
        raise HeadwayError("give the folder of one run at least: headway rank RUN ... --data PICTURES")
    backbones: list[Any] = [load_run(run)[0] for run in runs]
    widths = {backbone.embed_dim for backbone in backbones}
    if len(widths) > 1:
        note(f"these runs are {', '.join(map(str, sorted(widths)))} wide: measures of other widths don't compare")
    largest = max(map(view_size, backbones))
    stored = dict[Form, Tensor]()  # runs may have been shown their pictures in different forms
    for backbone in backbones:
        if (form := form_of(backbone.inputs)) not in stored:
            stored[form] = _some(open_source(data, like=backbone), largest)
    found: list[LabelFree] = []
    with counting("measuring runs") as progress:
        for backbone in backbones:
            found.append(label_free(backbone, stored[form_of(backbone.inputs)], view_size(backbone), seed))
            progress(len(found), len(runs))
    probes = _probes(backbones, labels, test, seed) if labels is not None else [{}] * len(runs)
    known = labels is not None
    return {
        "rows": [
            {"run": str(runs[i]), "rankme": found[i].rankme, "lidar": found[i].lidar,
             "alpha": found[i].alpha if math.isfinite(found[i].alpha) else None, **probes[i]}
            for i in order(found, by)
        ],
        "by": by,
        "correlations": correlations(found, [probe["accuracy"] for probe in probes]) if known else None,
        "n": len(runs),
        "measured": measured(),
    }  # fmt: skip


def show(answer: dict[str, Any]) -> None:
    """Print the order, and what it is worth."""
    console = Console(highlight=False, markup=False)
    known = answer["correlations"] is not None
    table = Table("")
    table.add_column("run", overflow="fold")
    for column in ("LiDAR", "RankMe", "alpha", *(("linear probe, %", "95 %") if known else ())):
        table.add_column(column, no_wrap=True)
    for place, row in enumerate(answer["rows"], 1):
        alpha = "-" if row["alpha"] is None else f"{row['alpha']:.2f}"
        probe = [f"{row['accuracy']:.1f}", f"{row['low']:.1f} to {row['high']:.1f}"] if known else []
        table.add_row(str(place), row["run"], f"{row['lidar']:.1f}", f"{row['rankme']:.1f}", alpha, *probe)
    console.print(table)
    console.print(
        f"Best first by {answer['by']}. LiDAR and RankMe: more is better; alpha: nearer to 1.", soft_wrap=True
    )
    for found in answer["measured"]:
        where = f"{found['data']}, {found['processor_seconds']:g} processor seconds a run, {found['tasks']} kinds"
        console.print(f"Measured on {where}: {trust(found['spearman'], found['runs'])}", soft_wrap=True)
    if known:
        console.print("Here: " + trust(answer["correlations"], answer["n"]), soft_wrap=True)


def trust(found: dict[str, float | None], runs: int) -> str:
    """How well the measures order the runs whose accuracy is known."""
    if all(value is None for value in found.values()):
        return f"{runs} runs are too few, or too much alike, to say how well these measures order them."
    words = ", ".join(f"{name} {value:+.2f}" for name, value in found.items() if value is not None)
    chance = min(1.96 / (runs - 1) ** 0.5, 1.0)
    return (
        f"Spearman's rank correlation with the linear probe over {runs} runs: {words} (of alpha's nearness to 1). "
        f"Chance alone stays within {chance:.2f} of 0 in 95 of 100 cases."
    )


def _some(source: Source, size: int) -> Tensor:
    """At most ``PICTURES``, evenly spread, with pixels to spare for crops at this size: N C S S."""
    with counting("decoding") as progress:
        side = stored_side(natural_size(source)[0], size, DETAIL)
        store = build_store(source, side, indices=evenly(len(source), PICTURES), progress=progress)
    name_skipped(store.skipped)
    if len(store.images) < 10:
        raise HeadwayError(f"{len(store.images)} pictures say nothing about a spectrum; give a thousand or so")
    return store.images


def _probes(
    backbones: Sequence[Any], labels: str | Path | Source, test: str | Path | Source | None, seed: int
) -> list[dict[str, float]]:
    """Accuracy of a linear probe on each backbone, with its interval over test pictures."""
    answers, gathered = [], dict[tuple[int, Form], Labelled]()
    with counting("probing") as progress:
        for done, backbone in enumerate(backbones, 1):
            size = view_size(backbone)
            asked = size, form_of(backbone.inputs)
            if asked not in gathered:
                source = open_source(labels, labelled=True, like=backbone)
                held = open_test(test, like=backbone)
                gathered[asked] = gather_labelled(source, held, size, seed=seed)
                name_skipped(gathered[asked].skipped)
            p = gathered[asked]
            if not len(p.test_labels):
                raise HeadwayError("no pictures are left to test on; label more, or give --test")
            head = linear_head(extract(backbone, p.images, size), p.labels, len(p.classes), seed, p.groups)
            with torch.no_grad():
                right = head(extract(backbone, p.test_images, size)).argmax(1) == p.test_labels
            low, high = accuracy_interval(right, p.tested_together())
            answers.append({"accuracy": accuracy(right), "low": low, "high": high})
            progress(done, len(backbones))
    return answers
