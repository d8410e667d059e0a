"""Held-out images, and which of them a network classifies correctly: by its own output layer, or by k-NN."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headway.attention_viz.model import AttentionModel
from headway.backbones.extract import extract_features
from headway.data.dataset.subset import subsample_evenly
from headway.data.open import open_source, open_test_source
from headway.downstream.labeled_split import LabeledSplit, load_labeled_split
from headway.downstream.targets import SINGLE
from headway.errors import HeadwayError
from headway.metrics.knn import knn_scores
from headway.utils.progress import Progress

MAX_IMAGES = 1000
"""Of labeled images for k-NN, and of held-out images."""


def load_held_out(
    model: AttentionModel,
    data: Any,
    test: Any,
    seed: int,
    progress: Progress,
    *,
    labels: str | Path | None,
    group_by: str,
) -> LabeledSplit:
    """Labeled images for k-NN and held-out images, each an even subsample of at most MAX_IMAGES.

    Args:
        model: The network to evaluate; a classifier must know the classes.
        data: Labeled images, as for ``open_source``.
        test: Held-out images; None: the stratified fifth that ``transfer`` sets aside with the same options.
        seed: Of that split.
        progress: Called with the number of images decoded and their total.
        labels: As for ``open_source``.
        group_by: As for ``open_source``.

    Raises:
        HeadwayError: There are no labels, unknown classes, or fewer than two held-out images; or these are not the
            images that ``transfer`` set aside when it made the classifier.
    """
    source = open_source(data, labeled=True, labels=labels, group_by=group_by, backbone=model.backbone)
    test_source = open_test_source(test, group_by=group_by, backbone=model.backbone)
    classifier = model.classifier
    target = SINGLE if classifier is None else classifier.target
    split = load_labeled_split(source, test_source, model.image_size, target=target, seed=seed, progress=progress)
    if len(split.test_labels) < 2:
        raise HeadwayError("too-few-images", "fewer than two images are left to test on; label more, or give --test")
    if classifier is not None:
        unknown = sorted(set(split.classes) - set(classifier.classes))
        if unknown:
            raise HeadwayError("class-unknown", f"the classifier does not know the classes {', '.join(unknown[:5])}; "
                               f"it knows {', '.join(classifier.classes[:10])}")  # fmt: skip
        if classifier.test_set_hash and test is None and classifier.test_set_hash != split.test_set_hash():
            raise HeadwayError(
                "test-set-differs",
                "these held-out images are not those that transfer set aside for this classifier: it may have "
                "been trained on some of them; give the same --data, --labels, --group-by and --seed as to transfer, "
                "or --test",
            )
    return split.subsample_test(MAX_IMAGES)._replace(
        images=subsample_evenly(split.images, MAX_IMAGES), labels=subsample_evenly(split.labels, MAX_IMAGES)
    )


def make_correctness_fn(model: AttentionModel, held_out: LabeledSplit) -> Callable[[], Tensor]:
    """A function that returns which held-out images (N, bool) the network in its current state classifies correctly.

    A classifier predicts by itself. For a run, the 20 nearest neighbors vote, with features of the same network for
    both sets.
    """
    classifier = model.classifier
    if classifier is not None:
        known = torch.tensor([classifier.classes.index(name) for name in held_out.classes])
        resized = classifier._replace(size=model.image_size)
        if classifier.target.independent:
            truth = torch.zeros(len(held_out.test_labels), len(classifier.classes))  # N K
            truth[:, known] = held_out.test_labels
        else:
            truth = known[held_out.test_labels]  # N
        return lambda: resized.target.correct(resized.predict_proba(held_out.test_images), truth)

    def knn() -> Tensor:
        bank, queries = (
            extract_features(model.backbone, part, model.image_size) for part in (held_out.images, held_out.test_images)
        )
        return knn_scores(bank, held_out.labels, queries, len(held_out.classes)).argmax(1) == held_out.test_labels

    return knn


def describe_predictor(model: AttentionModel) -> str:
    """What predicts, in words: the beginning of a sentence."""
    if model.classifier is not None:
        return f"Predictions by the model's own {model.classifier.kind} classifier"
    return "Predictions by k-NN (20 neighbors, features of the ablated network for both sets)"
