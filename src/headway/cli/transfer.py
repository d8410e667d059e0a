"""``headway transfer``: change the output layer."""

from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from tyro.conf import Positional

from headway.cli.screen import counting, name_skipped, note
from headway.data.open import open_source
from headway.data.source import Source
from headway.data.store import natural_size
from headway.downstream.classifier import refuse_existing
from headway.downstream.labelled import gather_labelled
from headway.downstream.swap import Swap, load_run, view_size
from headway.downstream.transfer import transfer as change_head
from headway.errors import HeadwayError
from headway.measure.metrics import accuracy, wilson
from headway.train.job import stored_side
from headway.train.log import Bar
from headway.train.pool import seen_in_pretraining, transductive

DETAIL = 1.5
"""Stored side of pictures that crops are cut from / side of the view."""


def transfer(
    run: Positional[str],
    *,
    data: str | Path | Source,
    out: str | Path,
    head: Literal["knn", "linear", "finetune"] = "linear",
    test: str | Path | Source | None = None,
    per_class: int | None = None,
    group_by: str = "",
    seed: int = 0,
) -> dict[str, Any]:
    """Change the output layer: cut the pretext head of a run, join one for your classes, train and test it.

    Example: headway transfer runs/photos --data labelled --head linear --out models/photos

    Args:
        run: A run folder that ``headway pretrain`` wrote.
        data: Labelled pictures: a folder with one folder a class, tars with .cls, or a CSV with file,label.
        out: The classifier's folder to write; it must not exist.
        head: knn (nothing is trained), linear (the backbone stays as it is), or finetune (everything moves).
        test: Pictures to test on; none: a stratified fifth of the labelled ones is set aside and never trained on.
        per_class: Labels a class to use; none: all.
        group_by: What keeps pictures of one animal, patient or camera on one side of the split: a column of the table,
            or a regular expression on names, whose first parentheses are the group.
        seed: Of the split, the draw of labels and the training.

    Returns:
        head, accuracy, low, high (per cent; the interval is over test pictures), labels, test_images, model,
        transductive (test pictures that were in the unlabelled pool; null: not known).
    """
    model = refuse_existing(Path(out))
    backbone, cut = load_run(Path(run))
    size = view_size(backbone)
    source = open_source(data, labelled=True, group_by=group_by, like=backbone)
    held = open_source(test, labelled=True, like=backbone) if test is not None else None
    with counting("decoding") as progress:
        side = stored_side(natural_size(source)[0], size, DETAIL) if head == "finetune" else size
        pictures = gather_labelled(
            source, held, size, side=side, per_class_count=per_class, seed=seed, progress=progress
        )
    name_skipped(pictures.skipped)
    if not len(pictures.test_labels):
        raise HeadwayError("no pictures are left to test on; label more, or give --test")
    if pictures.aside:
        count = len(pictures.test_labels)
        note(f"{count:,} labelled pictures (a stratified fifth, by --seed {seed}) are set aside to test on")
    seen = seen_in_pretraining(Path(run), pictures.test_hashes)
    if remark := transductive(seen, len(pictures.test_labels)):
        note(remark)
    with Bar(f"training {head}") as bar:
        sinks = [bar] if head == "finetune" else []
        classifier = change_head(
            backbone, pictures.images, pictures.labels, pictures.classes, size, head=head, seed=seed, sinks=sinks
        )
    note(str(Swap(classifier.backbone, classifier.head, cut)))
    right = classifier.probabilities(pictures.test_images).argmax(1) == pictures.test_labels
    low, high = wilson(int(right.sum()), len(right))
    classifier.save(model)
    return {
        "head": head, "accuracy": round(accuracy(right), 2), "low": round(low, 2), "high": round(high, 2),
        "labels": len(pictures.labels), "test_images": len(right), "model": str(model),
        "transductive": seen,
    }  # fmt: skip


def show(answer: dict[str, Any]) -> None:
    """Print the answer as two lines."""
    print = Console(soft_wrap=True, highlight=False, markup=False).print
    print(
        f"{answer['head']}: {answer['accuracy']:.1f} % right (95 %: {answer['low']:.1f} to {answer['high']:.1f}) on "
        f"{answer['test_images']} test pictures, after {answer['labels']} labels; "
        f"the classifier is in {answer['model']}"
    )
    if remark := transductive(answer["transductive"], answer["test_images"]):
        print(remark)
    print(f"next: headway predict {answer['model']} --data PICTURES --out labels.csv")
