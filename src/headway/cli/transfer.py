"""``headway transfer``: trains a new output layer, and on request the backbone, on labeled images."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from headway.cli import is_command
from headway.cli.console import print_line, print_note, print_skipped, progress_bar
from headway.data.open import open_source, open_test_source
from headway.data.sources.base import DataLike
from headway.downstream.evaluate import evaluate
from headway.downstream.head_swap import HeadSwap, input_size, load_run
from headway.downstream.heads.recipes import FINE_TUNE
from headway.downstream.heads.registry import find_head
from headway.downstream.labeled_split import load_labeled_split
from headway.downstream.transfer import TransferObservers, check_transfer, train_classifier
from headway.errors import HeadwayError, unknown_name_error
from headway.train.config import check_workers
from headway.train.log.events import ProgressBar
from headway.train.run_dir.seen_images import count_seen_in_pretraining, transductive_note
from headway.utils.files import refuse_existing


def transfer(
    run: Positional[str],
    *,
    data: DataLike,
    out: str | Path,
    head: str = "linear",
    test: DataLike | None = None,
    labels_per_class: int | None = None,
    group_by: str = "",
    labels: str | Path | None = None,
    multilabel: bool = False,
    class_weights: Literal["none", "balanced"] = "none",
    folds: int = 3,
    epochs: int | None = None,
    blocks: int = 0,
    layer_decay: float = FINE_TUNE.layer_decay,
    lora_rank: int = FINE_TUNE.lora_rank,
    processes: int = 0,
    threads: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
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
        class_weights: balanced: rare classes weigh as much in the loss as frequent ones.
        folds: Folds of the training images that select regularization, stopping and temperature (a linear probe selects
            its penalty and temperature on five); 0: no selection but that penalty.
        epochs: Epochs over the labeled images, of heads that are trained by steps; none: the recipe's.
        blocks: Fine-tune only this many of the last blocks; 0: all of them.
        layer_decay: Factor on the learning rate from a block to the one before it, of head finetune.
        lora_rank: Rank of the low-rank updates, of head lora.
        processes: Processes on this machine that share each step, each on one thread (Linux); 0: as many as are fastest
            at the moment, which is measured (in a call from Python: 1).
        threads: Torch's threads in one process; 0: measured.
        seed: Seed of the split, the draw of labels and the training.

    Returns:
        head, accuracy, low, high (percent; the interval is over test images), labels, test_images, balanced_accuracy
        (multilabel: mean_average_precision, f1), calibration_error (points), temperature, model,
        transductive (test images that were in the unlabeled data; null: unknown).
    """
    model = refuse_existing(Path(out))
    check_workers(processes, threads)
    if head != "finetune" and (blocks or layer_decay != FINE_TUNE.layer_decay):
        raise HeadwayError(f"--blocks and --layer-decay are for head finetune, got head {head}")
    if head != "lora" and lora_rank != FINE_TUNE.lora_rank:
        raise HeadwayError(f"--lora-rank is for head lora, got head {head}")
    if class_weights not in ("none", "balanced"):
        raise unknown_name_error("class_weights", str(class_weights), ("none", "balanced"))
    kind, balance_classes = find_head(head), class_weights == "balanced"
    if kind.recipe:
        recipe = replace(
            kind.recipe, task=replace(kind.recipe.task, balance_classes=balance_classes), lora_rank=lora_rank,
            trainable_blocks=blocks or kind.recipe.trainable_blocks, threads=threads,
            processes=processes or (0 if is_command() else 1),
        )  # fmt: skip
        if head == "finetune":
            recipe = replace(recipe, layer_decay=layer_decay)
        if epochs is not None:
            if epochs < 1:
                raise HeadwayError(f"--epochs must be 1 or more, got {epochs}")
            recipe = replace(recipe, epochs=epochs, min_steps=1)
        kind = replace(kind, recipe=recipe)
    backbone, removed = load_run(run)
    size = input_size(backbone)
    source = open_source(data, labeled=True, labels=labels, group_by=group_by, backbone=backbone)
    test_source = open_test_source(test, group_by=group_by, backbone=backbone)
    check_transfer(backbone, kind, multilabel=multilabel, balance_classes=balance_classes, folds=folds)
    with progress_bar("decoding") as progress:
        split = load_labeled_split(
            source, test_source, size, for_crops=kind.recipe is not None, labels_per_class=labels_per_class,
            multilabel=multilabel, seed=seed, progress=progress,
        )  # fmt: skip
    print_skipped(split.skipped)
    if not len(split.test_labels):
        raise HeadwayError("no images are left to test on; label more, or give --test")
    if split.test_from_split:
        count = len(split.test_labels)
        print_note(f"{count:,} labeled images (a stratified fifth, by --seed {seed}) are held out for testing")
    num_seen = count_seen_in_pretraining(Path(run), split.test_hashes)
    if not multilabel and any(";" in name for name in split.classes):
        print_note("some class names contain ';'; if these are several labels each, add --multilabel")
    with progress_bar("model selection on folds") as progress, ProgressBar(f"training {head}") as bar:
        classifier, _ = train_classifier(
            backbone, split.training_set(size), kind, seed=seed, folds=folds, balance_classes=balance_classes,
            observers=TransferObservers([bar] if kind.recipe else [], progress, print_note),
        )  # fmt: skip
    print_note(str(HeadSwap(classifier.backbone, classifier.head, removed)))
    scores = evaluate(classifier, split.test_images, split.test_labels, split.interval_groups())
    classifier._replace(test_set_hash=split.test_set_hash()).save(model)
    return {
        "head": head, **scores, "labels": len(split.labels), "test_images": len(split.test_labels),
        "temperature": round(classifier.temperature, 4), "model": str(model), "transductive": num_seen,
    }  # fmt: skip


def print_result(result: dict[str, Any]) -> None:
    """Print the result in a few lines."""
    multilabel = "f1" in result
    print_line(
        f"{result['head']}: accuracy {result['accuracy']:.1f} % (95 %: {result['low']:.1f} to {result['high']:.1f}) on "
        f"{result['test_images']} test images, trained on {result['labels']} labels"
        f"{' (correct: exactly the labels of the image)' if multilabel else ''}; "
        f"the classifier is in {result['model']}"
    )
    means = (
        f"mean average precision {result['mean_average_precision']:.1f} %, F1 {result['f1']:.1f} %" if multilabel
        else f"balanced accuracy: {result['balanced_accuracy']:.1f} %"
    )  # fmt: skip
    print_line(f"{means}; expected calibration error {result['calibration_error']:.1f} points")
    if remark := transductive_note(result["transductive"], result["test_images"]):
        print_line(remark)
    print_line(f"next: headway predict {result['model']} --data IMAGES --out labels.csv")
