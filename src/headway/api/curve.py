"""``curve``: accuracy against labels per class, for a run, training from scratch and the untrained network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.api.result import Result
from headway.utils.checks import check_at_least
from headway.utils.command import is_command
from headway.utils.notes import note, note_skipped
from headway.utils.progress import ProgressCallback, stage_progress

if TYPE_CHECKING:
    from headway.data.sources.base import DataLike


@dataclass(frozen=True, repr=False)
class CurveResult(Result):
    """The curve."""

    rows: list[dict[str, Any]]
    """Of each number of labels and method: labels_per_class, labels, draws, name, accuracy, low, high."""
    gains: list[dict[str, Any]]
    """Of each number of labels: labels_per_class, points, low, high, over training from scratch."""
    steps: dict[str, Any]
    """pretraining: of the run (None where it has no record); on_labels: of each method at each number of labels."""
    unequal: str | None
    """A sentence where other programs slowed down the pretraining; else None."""
    transductive: int | None
    """Test images that were in the unlabeled data; None: unknown."""
    test_images: int
    """Images that were tested on."""
    head: str
    """The head of the run."""
    run: str
    """The run."""
    out: str | None
    """The folder; None: nothing was written."""


def curve(
    run: str,
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
    progress: ProgressCallback | None = None,
) -> CurveResult:
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
        out: Folder to write: curve.csv, curve.svg, report.json and finished results; none: only the table is printed.
        resume: Continue a curve, also with more numbers of labels or draws.
        seed: Seed of the split, the draws and the training.
        progress: Called with the progress of each stage; none: silent.
    """
    from headway.data.open import open_source, open_test_source
    from headway.downstream.head_swap import load_run
    from headway.downstream.heads.registry import find_head
    from headway.downstream.labeled_split import load_labeled_split
    from headway.downstream.transfer import check_transfer
    from headway.errors import HeadwayError
    from headway.evaluation.curve import LabelCurve, clip_counts, parse_counts, resume_conditions
    from headway.evaluation.evaluator import Evaluator
    from headway.evaluation.result_cache import ResultCache, check_out_folder, in_memory_cache
    from headway.reports.curve_files import curve_to_dict, write_curve_files
    from headway.reports.steps import pretraining_steps, slowed_sentence
    from headway.train.run_dir.seen_images import count_seen_in_pretraining

    requested = parse_counts(labels_per_class)
    check_at_least(1, draws=draws)
    check_at_least(0, finetune_steps=finetune_steps)
    if resume and out is None:
        raise HeadwayError("options-conflict", "--resume continues the curve in --out; give it as well")
    if out is not None:
        check_out_folder(Path(out), resume)
    backbone, _ = load_run(run)
    check_transfer(backbone, find_head(head))
    source = open_source(data, labeled=True, group_by=group_by, backbone=backbone)
    test_source = open_test_source(test, group_by=group_by, backbone=backbone)
    report = stage_progress(progress, "decoding")
    split = load_labeled_split(source, test_source, backbone.image_size, for_crops=True, seed=seed, progress=report)
    note_skipped(split.skipped)
    if len(split.test_labels) < 2:
        raise HeadwayError("too-few-images", "too few images are left to test on; label more, or give --test")
    num_seen = count_seen_in_pretraining(Path(run), split.test_hashes)
    get_or_compute = in_memory_cache()
    if out is not None:
        cache = ResultCache(Path(out), resume_conditions(backbone, split, head, finetune_steps, seed), resume)
        get_or_compute = cache.get_or_compute
    counts = clip_counts(requested, int(split.labels.bincount().max()))
    label_curve = LabelCurve(
        backbone, Evaluator(split, processes=0 if is_command() else 1), head=head, counts=counts, draws=draws,
        seed=seed, finetune_steps=finetune_steps, get_or_compute=get_or_compute,
    )  # fmt: skip
    note(
        f"{len(split.labels):,} labeled images, {len(split.test_labels):,} to test on; {label_curve.num_results()} "
        f"results, at most {label_curve.num_training_steps():,} steps of training on labels"
    )
    if out is not None:
        cache.begin()
    points = label_curve.points(stage_progress(progress, "training on labels"))
    pretraining = pretraining_steps(Path(run))
    sides = [{"title": "the pretraining", **pretraining}] if pretraining else []
    result = CurveResult(
        **curve_to_dict(points), steps={"pretraining": pretraining, "on_labels": label_curve.steps()},
        unequal=slowed_sentence(sides), transductive=num_seen, test_images=len(split.test_labels), head=head,
        run=str(run), out=None if out is None else str(out),
    )  # fmt: skip
    if out is not None:
        write_curve_files(Path(out), points, result.to_dict(), len(split.classes))
    return result
