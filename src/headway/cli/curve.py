"""``headway curve``: how many labels would I need? Accuracy against labels a class."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import nn
from tyro.conf import Positional

from headway.backbones.weights import digest_of
from headway.cli.screen import counting, name_skipped, note
from headway.data.open import open_source, open_test
from headway.data.source import Source
from headway.data.store import natural_size
from headway.downstream.labelled import Labelled, gather_labelled
from headway.downstream.swap import load_run, view_size
from headway.draws import hashed
from headway.errors import HeadwayError
from headway.files import write_json, write_text, write_whole
from headway.reports.chart import Line, Words, draw_chart
from headway.train.job import DETAIL, stored_side
from headway.train.pool import seen_in_pretraining, transductive
from headway.verdict.cells import Cells, check_free, in_memory
from headway.verdict.curve import PRETRAINED, Count, Curve, Point
from headway.verdict.heads import check_heads
from headway.verdict.trial import SCRATCH, UNTRAINED

ORDER = (PRETRAINED, SCRATCH, UNTRAINED)


def curve(
    run: Positional[str],
    *,
    data: str | Path | Source,
    test: str | Path | Source | None = None,
    per_class: str = "1,2,5,10,20,50,all",
    head: str = "linear",
    group_by: str = "",
    draws: int = 5,
    label_steps: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Draw accuracy against labels a class: this run, training from scratch, and the untrained network.

    Example: headway curve runs/photos --data labelled --per-class 1,5,20,all --out curves/photos

    Args:
        run: A run folder that ``headway pretrain`` wrote, a file of weights, or timm:NAME (timm fetches its weights).
        data: Labelled pictures: a folder with one folder a class, tars with .cls, or a CSV with file,label.
        test: Pictures to test on; none: a stratified fifth of the labelled ones is set aside.
        per_class: Labels a class, with commas between; "all" is all there are.
        head: How the run is passed on: knn, linear, attentive or mlp (the backbone stays as it is), finetune
            (everything moves), last-N (the last N blocks move) or lora. The untrained network gets a linear head.
        group_by: What keeps pictures of one animal, patient or camera on one side of the split and of every fold: a
            column of the table, or a regular expression on names, whose first parentheses are the group.
        draws: Draws of labels at each number; with two or three the intervals are wide.
        label_steps: Steps of one training on labels (from scratch: twice as many); 0: 50 passes, 150 at least, 1,500 at
            most.
        out: Folder to write: curve.csv, curve.png, report.json and finished cells; none: the table alone.
        resume: Go on with a curve that was begun, with more numbers or draws if you like.
        seed: Of the split, draws and training.

    Returns:
        rows (per_class, labels, draws, name, accuracy, low, high), gains (per_class, points, low, high: over training
        from scratch), transductive (test pictures that were in the unlabelled pool; null: not known), out.
    """
    wanted = _counts(per_class)
    for option, value, least in (("draws", draws, 1), ("label-steps", label_steps, 0)):
        if value < least:
            raise HeadwayError(f"--{option} must be {least} or more, got {value}")
    if resume and out is None:
        raise HeadwayError("--resume goes on with what lies in --out; give it")
    if out is not None:
        check_free(Path(out), resume)
    backbone, _ = load_run(run)
    check_heads([head], [backbone])
    size = view_size(backbone)
    source = open_source(data, labelled=True, group_by=group_by, like=backbone)
    held = open_test(test, group_by=group_by, like=backbone)
    with counting("decoding") as progress:
        side = stored_side(natural_size(source)[0], size, DETAIL)
        pictures = gather_labelled(source, held, side, seed=seed, progress=progress)
    name_skipped(pictures.skipped)
    if len(pictures.test_labels) < 2:
        raise HeadwayError("too few pictures are left to test on; label more, or give --test")
    seen = seen_in_pretraining(Path(run), pictures.test_hashes)
    counts = _within(wanted, int(pictures.labels.bincount().max()))
    cells = None if out is None else Cells(Path(out), _record(backbone, pictures, head, label_steps, seed), resume)
    whole = Curve(
        backbone, pictures, size, head=head, counts=counts, draws=draws, seed=seed, label_steps=label_steps,
        keep=cells.get if cells else in_memory(),
    )  # fmt: skip
    note(
        f"{len(pictures.labels):,} labelled pictures, {len(pictures.test_labels):,} to test on; {whole.results()} "
        f"results, with {whole.training_steps():,} steps of training on labels where nothing is finished"
    )
    if cells:
        cells.begin()
    with counting("learning") as progress:
        points = whole.points(progress)
    answer = {**_answer(points), "transductive": seen, "test_images": len(pictures.test_labels), "head": head,
              "run": str(run), "out": None if out is None else str(out)}  # fmt: skip
    if out is not None:
        _write(Path(out), points, answer, len(pictures.classes))
    return answer


def show(answer: dict[str, Any]) -> None:
    """Print the table."""
    console = Console(highlight=False, markup=False)
    title = f"per cent right against labels a class ({answer['head']} head)"
    table = Table("a class", "labels", *ORDER, "gain", title=title)
    named = {(row["per_class"], row["name"]): row for row in answer["rows"]}
    for gain in answer["gains"]:
        rows = [named[gain["per_class"], name] for name in ORDER]
        numbers = [f"{row['accuracy']:.1f}\n{row['low']:.1f} to {row['high']:.1f}" for row in rows]
        difference = f"{gain['points']:+.1f}\n{gain['low']:.1f} to {gain['high']:.1f}"
        table.add_row(str(gain["per_class"]), f"{rows[0]['labels']:,}", *numbers, difference)
    console.print(table)
    console.print(NOTE.format(answer["test_images"]) + " Gain: over from scratch, paired.", soft_wrap=True)
    if remark := transductive(answer["transductive"], answer["test_images"]):
        console.print(remark, soft_wrap=True)
    if answer["out"]:
        console.print(f"In {answer['out']}: curve.csv, curve.png, report.json.", soft_wrap=True)


NOTE = "95 % intervals over draws of labels and {:,} test pictures, of this one pretraining."


def _counts(text: str) -> list[Count]:
    """Numbers of labels a class, ascending, "all" (None) last. Raises HeadwayError for anything else."""
    parts = {part.strip() for part in text.split(",") if part.strip()}
    numbers = sorted({int(part) for part in parts if part.isdecimal() and int(part) > 0})
    strange = [part for part in parts if part != "all" and not (part.isdecimal() and int(part) > 0)]
    if strange or not parts:
        raise HeadwayError(f"--per-class takes numbers from 1 and 'all', with commas between, got '{text}'")
    counts: list[int | None] = [*numbers]
    if "all" in parts:
        counts.append(None)
    return counts


def _within(counts: Sequence[Count], most: int) -> list[Count]:
    """Numbers that no class has are all there are."""
    few: list[Count] = [count for count in counts if count is not None and count < most]
    return few if len(few) == len(counts) else [*few, None]


def _record(backbone: nn.Module, pictures: Labelled, head: str, label_steps: int, seed: int) -> dict[str, Any]:
    """Everything that must be as it was for a curve to be gone on with."""
    assert pictures.groups is not None
    contents = (pictures.labels, pictures.test_labels, pictures.test_hashes)
    return {
        "run": digest_of(backbone), "labels": hashed(*(x.tolist() for x in contents)), "head": head,
        "label_steps": label_steps, "seed": seed, "group_by": hashed(*pictures.groups.tolist()),
    }  # fmt: skip


def _answer(points: Sequence[Point]) -> dict[str, Any]:
    rows = [
        {"per_class": point.per_class or "all", "labels": point.labels, "draws": point.draws, "name": name,
         "accuracy": point.rows[name].mean, "low": point.rows[name].low, "high": point.rows[name].high}
        for point in points for name in ORDER
    ]  # fmt: skip
    gains = [
        {"per_class": point.per_class or "all", "points": point.gain.mean, "low": point.gain.low,
         "high": point.gain.high}
        for point in points
    ]  # fmt: skip
    return {"rows": rows, "gains": gains}


def _write(folder: Path, points: Sequence[Point], answer: dict[str, Any], classes: int) -> None:
    """The table as CSV, the chart as PNG, and the answer as JSON."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(answer["rows"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(answer["rows"])
    write_text(folder / "curve.csv", text.getvalue())
    places = [point.labels / classes for point in points]
    lines = [
        Line(name, places, *zip(*(point.rows[name] for point in points), strict=True)) for name in ORDER
    ]  # fmt: skip
    ticks = [(place, str(point.per_class or f"all ({place:.0f})")) for place, point in zip(places, points, strict=True)]
    words = Words(
        "Accuracy against labels", "labels a class", "test pictures right, %", NOTE.format(answer["test_images"])
    )
    image = draw_chart(words, lines, ticks)

    def save(temporary: Path) -> None:
        temporary.write_bytes(image)

    write_whole(folder / "curve.png", save)
    write_json(folder / "report.json", answer)
