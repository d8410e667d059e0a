"""``headway curve``: accuracy against labels per class, to see how many labels a task needs."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import nn
from tyro.conf import Positional

from headway.backbones.weights import weights_sha256
from headway.cli import is_command
from headway.cli.console import check_at_least, print_line, print_note, print_skipped, print_table, progress_bar
from headway.data.open import open_source, open_test_source
from headway.data.sources.base import DataLike
from headway.downstream.head_swap import input_size, load_run
from headway.downstream.heads.registry import find_head
from headway.downstream.labeled_split import LabeledSplit, load_labeled_split
from headway.downstream.transfer import DEFAULT_FOLDS, check_transfer
from headway.errors import HeadwayError
from headway.evaluation.curve import CurvePoint, LabelCurve
from headway.evaluation.evaluator import Evaluator
from headway.evaluation.methods import PRETRAINED, SCRATCH, UNTRAINED, LabelsPerClass
from headway.evaluation.result_cache import ResultCache, check_out_folder, in_memory_cache
from headway.reports.line_chart import ChartText, Line, draw_chart
from headway.reports.steps import pretraining_steps, slowed_sentence, steps_sentence
from headway.train.run_dir.seen_images import count_seen_in_pretraining, transductive_note
from headway.utils.files import write_bytes, write_json, write_text

METHODS = (PRETRAINED, SCRATCH, UNTRAINED)
INTERVAL_NOTE = "95 % intervals over draws of labels and {:,} test images, for this one pretraining."


def curve(
    run: Positional[str],
    *,
    data: DataLike,
    test: DataLike | None = None,
    labels_per_class: str = "1,2,5,10,20,50,all",
    head: str = "linear",
    group_by: str = "",
    draws: int = 5,
    finetune_steps: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Plot accuracy against labels per class: this run, training from scratch, and the untrained network.

    Example: headway curve runs/photos --data labeled --labels-per-class 1,5,20,all --out curves/photos

    Args:
        run: A run folder that ``headway pretrain`` wrote, a weights file, or timm:NAME (timm fetches its weights).
        data: Labeled images: a folder with one folder per class, tars with .cls, or a CSV with file,label.
        test: Images to test on; none: a stratified fifth of the labeled images is held out.
        labels_per_class: Labels per class, separated by commas; "all" is all there are.
        head: The head of this run: knn, linear, attentive or mlp (frozen backbone), finetune (all weights are trained),
            last-N (the last N blocks are trained) or lora. The untrained network gets a linear head.
        group_by: Keeps images of one animal, patient or camera on one side of the split and of every fold: a column of
            the table, or a regular expression on names, whose first parentheses are the group.
        draws: Draws of labels at each number; with two or three the intervals are wide.
        finetune_steps: Steps of one training on labels (from scratch: twice as many); 0: 50 epochs, 150 steps at least,
            1,500 at most.
        out: Folder to write: curve.csv, curve.png, report.json and finished results; none: only the table is printed.
        resume: Continue a curve, also with more numbers of labels or draws.
        seed: Seed of the split, the draws and the training.

    Returns:
        rows (labels_per_class, labels, draws, name, accuracy, low, high), gains (labels_per_class, points, low, high:
        over training from scratch), steps (pretraining: of the run, null where it has no record; on_labels: of each
        method at each number of labels), unequal (a sentence where other programs slowed down the pretraining; else
        null), transductive (test images that were in the unlabeled data; null: unknown), out.
    """
    requested = _parse_counts(labels_per_class)
    check_at_least(1, draws=draws)
    check_at_least(0, finetune_steps=finetune_steps)
    if resume and out is None:
        raise HeadwayError("--resume continues the curve in --out; give it as well")
    if out is not None:
        check_out_folder(Path(out), resume)
    backbone, _ = load_run(run)
    check_transfer(backbone, find_head(head))
    size = input_size(backbone)
    source = open_source(data, labeled=True, group_by=group_by, backbone=backbone)
    test_source = open_test_source(test, group_by=group_by, backbone=backbone)
    with progress_bar("decoding") as progress:
        split = load_labeled_split(source, test_source, size, for_crops=True, seed=seed, progress=progress)
    print_skipped(split.skipped)
    if len(split.test_labels) < 2:
        raise HeadwayError("too few images are left to test on; label more, or give --test")
    num_seen = count_seen_in_pretraining(Path(run), split.test_hashes)
    counts = _clip_counts(requested, int(split.labels.bincount().max()))
    cache = (
        None
        if out is None
        else ResultCache(Path(out), _resume_conditions(backbone, split, head, finetune_steps, seed), resume)
    )
    label_curve = LabelCurve(
        backbone, Evaluator(split, processes=0 if is_command() else 1), head=head, counts=counts, draws=draws,
        seed=seed, finetune_steps=finetune_steps, get_or_compute=cache.get_or_compute if cache else in_memory_cache(),
    )  # fmt: skip
    print_note(
        f"{len(split.labels):,} labeled images, {len(split.test_labels):,} to test on; {label_curve.num_results()} "
        f"results, at most {label_curve.num_training_steps():,} steps of training on labels"
    )
    if cache:
        cache.begin()
    with progress_bar("training on labels") as progress:
        points = label_curve.points(progress)
    pretraining = pretraining_steps(Path(run))
    sides = [{"title": "the pretraining", **pretraining}] if pretraining else []
    steps = {"pretraining": pretraining, "on_labels": label_curve.steps()}
    result = {
        **_to_result(points), "steps": steps, "unequal": slowed_sentence(sides), "transductive": num_seen,
        "test_images": len(split.test_labels), "head": head, "run": str(run), "out": None if out is None else str(out),
    }  # fmt: skip
    if out is not None:
        _write_outputs(Path(out), points, result, len(split.classes))
    return result


def print_result(result: dict[str, Any]) -> None:
    """Print the table."""
    title = f"accuracy in percent against labels per class ({result['head']} head)"
    table = Table("per class", "labels", *METHODS, "gain", title=title)
    row_of = {(row["labels_per_class"], row["name"]): row for row in result["rows"]}
    for gain in result["gains"]:
        rows = [row_of[gain["labels_per_class"], name] for name in METHODS]
        numbers = [f"{row['accuracy']:.1f}\n{row['low']:.1f} to {row['high']:.1f}" for row in rows]
        difference = f"{gain['points']:+.1f}\n{gain['low']:.1f} to {gain['high']:.1f}"
        table.add_row(str(gain["labels_per_class"]), f"{rows[0]['labels']:,}", *numbers, difference)
    print_table(table)
    print_line(INTERVAL_NOTE.format(result["test_images"]) + " Gain: over training from scratch, paired.")
    pretraining = result["steps"]["pretraining"]
    named = [{"name": "of this run", **pretraining}] if pretraining else []
    print_line(steps_sentence(named, result["steps"]["on_labels"]))
    if result["unequal"]:
        print_line(result["unequal"])
    if remark := transductive_note(result["transductive"], result["test_images"]):
        print_line(remark)
    if result["out"]:
        print_line(f"In {result['out']}: curve.csv, curve.png, report.json.")


def _parse_counts(text: str) -> list[LabelsPerClass]:
    """Labels per class, ascending, "all" (None) last. Raises HeadwayError for anything else."""
    parts = {part.strip() for part in text.split(",") if part.strip()}
    numbers = parts - {"all"}
    if not parts or not all(part.isdecimal() and int(part) > 0 for part in numbers):
        raise HeadwayError(f"--labels-per-class takes numbers from 1 and 'all', separated by commas, got '{text}'")
    return [*sorted(set(map(int, numbers))), *([None] if "all" in parts else [])]


def _clip_counts(counts: Sequence[LabelsPerClass], largest_class: int) -> list[LabelsPerClass]:
    """Replace counts that no class reaches by None, all labels."""
    possible: list[LabelsPerClass] = [count for count in counts if count is not None and count < largest_class]
    return possible if len(possible) == len(counts) else [*possible, None]


def _resume_conditions(
    backbone: nn.Module, split: LabeledSplit, head: str, finetune_steps: int, seed: int
) -> dict[str, Any]:
    """Everything that must be unchanged when a curve is resumed."""
    return {
        "run": weights_sha256(backbone), "labels": split.contents_hash(), "head": head,
        "finetune_steps": finetune_steps, "seed": seed, "group_by": split.groups_hash(), "folds": DEFAULT_FOLDS,
    }  # fmt: skip


def _to_result(points: Sequence[CurvePoint]) -> dict[str, Any]:
    rows = [
        {"labels_per_class": point.labels_per_class or "all", "labels": point.num_labels, "draws": point.num_draws,
         "name": name, "accuracy": point.accuracy[name].mean, "low": point.accuracy[name].low,
         "high": point.accuracy[name].high}
        for point in points for name in METHODS
    ]  # fmt: skip
    gains = [
        {"labels_per_class": point.labels_per_class or "all", "points": point.gain.mean, "low": point.gain.low,
         "high": point.gain.high}
        for point in points
    ]  # fmt: skip
    return {"rows": rows, "gains": gains}


def _write_outputs(folder: Path, points: Sequence[CurvePoint], result: dict[str, Any], num_classes: int) -> None:
    """Write the table as CSV, the chart as PNG and the result as JSON."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(result["rows"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(result["rows"])
    write_text(folder / "curve.csv", text.getvalue())
    xs = [point.num_labels / num_classes for point in points]
    lines = [Line(name, xs, *zip(*(point.accuracy[name] for point in points), strict=True)) for name in METHODS]
    ticks = [(x, str(point.labels_per_class or f"all ({x:.0f})")) for x, point in zip(xs, points, strict=True)]
    chart_text = ChartText(
        "Accuracy against labels", "labels per class", "test accuracy, %", INTERVAL_NOTE.format(result["test_images"])
    )
    write_bytes(folder / "curve.png", draw_chart(chart_text, lines, ticks))
    write_json(folder / "report.json", result)
