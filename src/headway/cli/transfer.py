"""``headway transfer``: change the output layer."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from tyro.conf import Positional

from headway.cli.screen import counting, name_skipped, note
from headway.data.open import open_source, open_test
from headway.data.source import Source
from headway.data.store import natural_size
from headway.downstream.classifier import refuse_existing
from headway.downstream.labelled import gather_labelled
from headway.downstream.results import judge
from headway.downstream.swap import Swap, load_run, view_size
from headway.downstream.transfer import check
from headway.downstream.transfer import transfer as change_head
from headway.downstream.tune import FINE_TUNE, RECIPES, FineTune
from headway.errors import HeadwayError
from headway.train.job import DETAIL, stored_side
from headway.train.log import Bar
from headway.train.pool import seen_in_pretraining, transductive


def transfer(
    run: Positional[str],
    *,
    data: str | Path | Source,
    out: str | Path,
    head: Literal["knn", "linear", "attentive", "mlp", "finetune", "lora"] = "linear",
    test: str | Path | Source | None = None,
    per_class: int | None = None,
    group_by: str = "",
    labels: str | Path | None = None,
    several: bool = False,
    balance: bool = False,
    folds: int = 3,
    epochs: int | None = None,
    blocks: int = 0,
    layer_decay: float = FINE_TUNE.layer_decay,
    rank: int = FINE_TUNE.rank,
    seed: int = 0,
) -> dict[str, Any]:
    """Change the output layer: cut the pretext head of a run, join one for your classes, train and test it.

    Example: headway transfer runs/photos --data labelled --head linear --out models/photos

    Args:
        run: A run folder that ``headway pretrain`` wrote, a file of weights, or timm:NAME (timm fetches its weights).
        data: Labelled pictures: a folder with one folder a class, tars with .cls, or a CSV with file,label.
        out: The classifier's folder to write; it must not exist.
        head: knn (nothing is trained), linear, attentive or mlp (the backbone stays as it is), finetune (everything
            moves), or lora (low-rank changes of the backbone's attention).
        test: Pictures to test on; none: a stratified fifth of the labelled ones is set aside and never trained on.
        per_class: Labels a class to use; none: all.
        group_by: What keeps pictures of one animal, patient or camera on one side of the split and of every fold: a
            column of the table, or a regular expression on names, whose first parentheses are the group.
        labels: A CSV with file,label that labels the pictures of ``data`` by name.
        several: A picture may have several labels, written "cat;dog" (";" alone: none of them).
        balance: Rare classes count as much as frequent ones.
        folds: Parts of the training pictures on which regularisation, the moment to stop and how sure to be are chosen
            (a linear probe chooses its penalty and how sure to be on five); 0: nothing is chosen but that penalty.
        epochs: Passes over the labelled pictures, of heads that are trained by steps; none: the recipe's.
        blocks: Fine-tune only so many of the last blocks; 0: all of them.
        layer_decay: Fine-tuning's factor on the learning rate from a block to the one before it.
        rank: Of lora's changes.
        seed: Of the split, the draw of labels and the training.

    Returns:
        head, accuracy, low, high (per cent; the interval is over test pictures), labels, test_images, balanced_accuracy
        (several: mean_average_precision, f1), calibration_error (points), temperature, model,
        transductive (test pictures that were in the unlabelled pool; null: not known).
    """
    model = refuse_existing(Path(out))
    if head != "finetune" and (blocks or layer_decay != FINE_TUNE.layer_decay):
        raise HeadwayError(f"--blocks and --layer-decay are for head finetune, got head {head}")
    if head != "lora" and rank != FINE_TUNE.rank:
        raise HeadwayError(f"--rank is for head lora, got head {head}")
    backbone, cut = load_run(run)
    size = view_size(backbone)
    source = open_source(data, labelled=True, labels=labels, group_by=group_by, like=backbone)
    held = open_test(test, group_by=group_by, like=backbone)
    choices = RECIPES.get(head, FineTune())
    choices = replace(choices, task=replace(choices.task, balance=balance), rank=rank, blocks=blocks)
    if head == "finetune":
        choices = replace(choices, layer_decay=layer_decay)
    if epochs is not None:
        if epochs < 1:
            raise HeadwayError(f"--epochs must be 1 or more, got {epochs}")
        choices = replace(choices, epochs=epochs, least=1)
    check(backbone, head, choices, several, folds)
    with counting("decoding") as progress:
        side = stored_side(natural_size(source)[0], size, DETAIL) if head in RECIPES else size
        pictures = gather_labelled(
            source, held, size, side=side, per_class_count=per_class, several=several, seed=seed, progress=progress
        )
    name_skipped(pictures.skipped)
    if not len(pictures.test_labels):
        raise HeadwayError("no pictures are left to test on; label more, or give --test")
    if pictures.aside:
        count = len(pictures.test_labels)
        note(f"{count:,} labelled pictures (a stratified fifth, by --seed {seed}) are set aside to test on")
    seen = seen_in_pretraining(Path(run), pictures.test_hashes)
    if not several and any(";" in name for name in pictures.classes):
        note("some class names hold ';'; if these are several labels each, add --several")
    with counting("choosing on folds") as progress, Bar(f"training {head}") as bar:
        classifier = change_head(
            backbone, pictures.images, pictures.labels, pictures.classes, size, head=head, seed=seed,
            fine_tune=choices, folds=folds, groups=pictures.groups, sinks=[bar] if head in RECIPES else [],
            progress=progress, say=note,
        )  # fmt: skip
    note(str(Swap(classifier.backbone, classifier.head, cut)))
    verdict = judge(classifier, pictures.test_images, pictures.test_labels, pictures.tested_together())
    classifier._replace(aside=pictures.mark()).save(model)
    return {
        "head": head, **verdict, "labels": len(pictures.labels), "test_images": len(pictures.test_labels),
        "temperature": round(classifier.temperature, 4), "model": str(model),
        "transductive": seen,
    }  # fmt: skip


def show(answer: dict[str, Any]) -> None:
    """Print the answer as a few lines."""
    print = Console(soft_wrap=True, highlight=False, markup=False).print
    several = "f1" in answer
    print(
        f"{answer['head']}: {answer['accuracy']:.1f} % right (95 %: {answer['low']:.1f} to {answer['high']:.1f}) on "
        f"{answer['test_images']} test pictures, after {answer['labels']} labels"
        f"{' (right: every label of the picture, and no other)' if several else ''}; "
        f"the classifier is in {answer['model']}"
    )
    means = (
        f"mean average precision {answer['mean_average_precision']:.1f} %, F1 {answer['f1']:.1f} %" if several
        else f"classes counted alike: {answer['balanced_accuracy']:.1f} %"
    )  # fmt: skip
    print(f"{means}; probabilities are {answer['calibration_error']:.1f} points off what they say, on average")
    if remark := transductive(answer["transductive"], answer["test_images"]):
        print(remark)
    print(f"next: headway predict {answer['model']} --data PICTURES --out labels.csv")
