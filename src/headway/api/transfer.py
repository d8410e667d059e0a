"""``transfer``: trains a new output layer, and on request the backbone, on labeled images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from headway.api.result import INTERNAL, OPTIONAL, Result
from headway.api.training import training_sinks
from headway.utils.command import is_command
from headway.utils.notes import note, note_skipped
from headway.utils.progress import ProgressCallback, stage_progress

if TYPE_CHECKING:
    from headway.data.sources.base import DataLike
    from headway.downstream.classifier import Classifier


@dataclass(frozen=True, repr=False)
class TransferResult(Result):
    """A classifier and how good it is."""

    head: str
    """The kind of output layer."""
    accuracy: float
    """In percent, on the test images."""
    low: float
    """Lower end of the 95 % interval over test images."""
    high: float
    """Upper end."""
    calibration_error: float
    """Expected calibration error in points."""
    labels: int
    """Labeled images that were used."""
    test_images: int
    """Images that it was tested on."""
    temperature: float
    """The logits are divided by it."""
    model: str
    """The classifier's folder."""
    transductive: int | None
    """Test images that were in the unlabeled data; None: unknown."""
    balanced_accuracy: float | None = field(default=None, metadata=OPTIONAL)
    """Mean over classes, in percent; of one label per image."""
    mean_average_precision: float | None = field(default=None, metadata=OPTIONAL)
    """In percent; of several labels per image."""
    f1: float | None = field(default=None, metadata=OPTIONAL)
    """In percent; of several labels per image."""
    target_metrics: dict[str, float] | None = field(default=None, metadata=OPTIONAL)
    """Metrics of a target of your own."""
    classifier: Classifier | None = field(default=None, compare=False, metadata=INTERNAL)
    """The classifier."""


def transfer(
    run: str,
    *,
    data: DataLike,
    out: str | Path,
    head: str = "linear",
    test: DataLike | None = None,
    labels_per_class: int | None = None,
    group_by: str = "",
    labels: str | Path | None = None,
    multilabel: bool = False,
    target: str = "",
    class_weights: Literal["none", "balanced"] = "none",
    folds: int = 3,
    epochs: int | None = None,
    blocks: int = 0,
    layer_decay: float | None = None,
    lora_rank: int | None = None,
    processes: int = 0,
    threads: int = 0,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> TransferResult:
    """Remove the pretext head of a run, attach a head for your classes, train it and test it.

    Example: headway transfer runs/photos --data labeled --head linear --out models/photos

    Args:
        run: A run folder that ``headway pretrain`` wrote, a weights file, or timm:NAME (timm fetches its weights).
        data: Labeled images: a folder with one folder per class, tars with .cls, or a CSV with file,label.
        out: The classifier's folder to write; it must not exist.
        head: knn (no training), linear, attentive or mlp (frozen backbone), finetune (all weights are trained), last-N
            (the last N blocks are trained), or lora (low-rank updates of the backbone's attention layers).
        test: Images to test on; none: a stratified fifth of the labeled images is held out and never trained on.
        labels_per_class: Labels per class to use; none: all.
        group_by: Keeps images of one animal, patient or camera on one side of the split and of every fold: a column of
            the table, or a regular expression on names, whose first parentheses are the group.
        labels: A CSV with file,label that labels the images of ``data`` by name.
        multilabel: An image may have several labels, written "cat;dog" (";" alone: none of them).
        target: What the labels mean: single (one class per image, the default), multilabel, or your own as
            my_package.my_file:TARGET.
        class_weights: balanced: rare classes weigh as much in the loss as frequent ones.
        folds: Folds of the training images that select regularization, stopping and temperature (a linear probe selects
            its penalty and temperature on five); 0: no selection but that penalty.
        epochs: Epochs over the labeled images, of heads that are trained by steps; none: the recipe's.
        blocks: Fine-tune only this many of the last blocks; 0: all of them.
        layer_decay: Factor on the learning rate from a block to the one before it, of head finetune; none: 0.85.
        lora_rank: Rank of the low-rank updates, of head lora; none: 8.
        processes: Processes on this machine that share each step, each on one thread (Linux); 0: as many as are fastest
            at the moment, which is measured (in a call from Python: 1).
        threads: Torch's threads in one process; 0: measured.
        seed: Seed of the split, the draw of labels and the training.
        progress: Called with the progress of each stage; none: silent.
    """
    from headway.data.open import open_source, open_test_source
    from headway.downstream.evaluate import evaluate
    from headway.downstream.head_swap import HeadSwap, load_run
    from headway.downstream.heads.registry import head_with_options
    from headway.downstream.labeled_split import load_labeled_split
    from headway.downstream.targets import MULTILABEL, SINGLE, find_target
    from headway.downstream.transfer import TransferObservers, check_transfer, train_classifier
    from headway.errors import HeadwayError, unknown_name_error
    from headway.train.config import check_workers
    from headway.train.run_dir.seen_images import count_seen_in_pretraining
    from headway.utils.files import refuse_existing

    model = refuse_existing(Path(out))
    check_workers(processes, threads)
    if class_weights not in ("none", "balanced"):
        raise unknown_name_error("class_weights", str(class_weights), ("none", "balanced"))
    if multilabel and target not in ("", MULTILABEL.name):
        raise HeadwayError(
            "options-conflict", f"--multilabel is --target {MULTILABEL.name}, got --target {target} as well"
        )
    meaning = MULTILABEL if multilabel else find_target(target or SINGLE.name)
    balanced = class_weights == "balanced"
    kind = head_with_options(
        head, balance_classes=balanced, epochs=epochs, blocks=blocks, layer_decay=layer_decay, lora_rank=lora_rank,
        processes=processes or (0 if is_command() else 1), threads=threads,
    )  # fmt: skip
    backbone, removed = load_run(run)
    size = backbone.image_size
    source = open_source(data, labeled=True, labels=labels, group_by=group_by, backbone=backbone)
    test_source = open_test_source(test, group_by=group_by, backbone=backbone)
    check_transfer(backbone, kind, target=meaning, balance_classes=balanced, folds=folds)
    split = load_labeled_split(
        source, test_source, size, for_crops=kind.recipe is not None, labels_per_class=labels_per_class,
        target=meaning, seed=seed, progress=stage_progress(progress, "decoding"),
    )  # fmt: skip
    note_skipped(split.skipped)
    if not len(split.test_labels):
        raise HeadwayError("too-few-images", "no images are left to test on; label more, or give --test")
    if split.test_from_split:
        count = len(split.test_labels)
        note(f"{count:,} labeled images (a stratified fifth, by --seed {seed}) are held out for testing")
    num_seen = count_seen_in_pretraining(Path(run), split.test_hashes)
    if meaning is SINGLE and any(";" in name for name in split.classes):
        note("some class names contain ';'; if these are several labels each, add --multilabel")
    observers = TransferObservers(
        training_sinks(progress, f"training {head}"), stage_progress(progress, "model selection on folds"), note
    )
    classifier, _ = train_classifier(
        backbone, split.training_set(size), kind, seed=seed, folds=folds, balance_classes=balanced, observers=observers
    )
    note(str(HeadSwap(classifier.backbone, classifier.head, removed)))
    scores = evaluate(classifier, split.test_images, split.test_labels, split.interval_groups())
    classifier = classifier._replace(test_set_hash=split.test_set_hash())
    classifier.save(model)
    own = {name: scores.pop(name) for name in list(scores) if name not in TransferResult.__dataclass_fields__}
    return TransferResult(
        head=head, **scores, target_metrics=own or None, labels=len(split.labels), test_images=len(split.test_labels),
        temperature=round(classifier.temperature, 4), model=str(model), transductive=num_seen, classifier=classifier,
    )  # fmt: skip
