"""Held-out pictures, and which of them a network recognises: by its own output layer, or by its nearest neighbours."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headway.data.open import open_source, open_test
from headway.downstream.features import extract
from headway.downstream.labelled import Labelled, gather_labelled
from headway.downstream.network import Network
from headway.errors import HeadwayError
from headway.measure.knn import knn_scores
from headway.train.planning import spread

MOST = 1000
"""Labelled pictures to vote and held-out pictures to recognise, at most."""


def held_out(
    network: Network,
    data: Any,
    test: Any,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    *,
    labels: str | Path | None = None,
    group_by: str = "",
) -> Labelled:
    """Labelled pictures to vote and pictures held out, at most MOST each, spread evenly over all that there are.

    Args:
        network: Who will be judged; a classifier must know the classes.
        data: Labelled pictures, as ``open_source`` takes them.
        test: Held-out pictures; none: the stratified fifth that ``transfer`` sets aside with the same choices.
        seed: Of that split.
        progress: Told how many pictures of how many are decoded.
        labels: As for ``open_source``.
        group_by: The same.

    Raises:
        HeadwayError: No labels, unknown classes, fewer than two pictures held out, or others than those that
            ``transfer`` set aside when it made the classifier.
    """
    source = open_source(data, labelled=True, labels=labels, group_by=group_by, like=network.backbone)
    held = open_test(test, group_by=group_by, like=network.backbone)
    classifier = network.classifier
    several = classifier is not None and classifier.several
    pictures = gather_labelled(source, held, network.size, several=several, seed=seed, progress=progress)
    if len(pictures.test_labels) < 2:
        raise HeadwayError("fewer than two pictures are left to test on; label more, or give --test")
    if classifier is not None:
        strange = sorted(set(pictures.classes) - set(classifier.classes))
        if strange:
            raise HeadwayError(f"the classifier does not know the classes {', '.join(strange[:5])}; "
                               f"it knows {', '.join(classifier.classes[:10])}")  # fmt: skip
        if classifier.aside and test is None and classifier.aside != pictures.mark():
            raise HeadwayError(
                "these held-out pictures are not those that transfer set aside for this classifier: it may have been "
                "trained on some of them; give --data, --labels, --group-by and --seed as transfer had them, or --test"
            )
    return pictures._replace(
        images=spread(pictures.images, MOST), labels=spread(pictures.labels, MOST),
        test_images=spread(pictures.test_images, MOST), test_labels=spread(pictures.test_labels, MOST),
        test_groups=None if pictures.test_groups is None else spread(pictures.test_groups, MOST),
    )  # fmt: skip


def recogniser(network: Network, held: Labelled) -> Callable[[], Tensor]:
    """A function that says which held-out pictures (N, bool) the network recognises as it is when it is called.

    A classifier is asked itself; of a run, the 20 nearest neighbours vote, with features of the same network on both
    sides.
    """
    classifier = network.classifier
    if classifier is not None:
        known = torch.tensor([classifier.classes.index(name) for name in held.classes])
        whole = classifier._replace(size=network.size)
        if classifier.several:
            truth = torch.zeros(len(held.test_labels), len(classifier.classes))  # N K
            truth[:, known] = held.test_labels
            return lambda: ((whole.probabilities(held.test_images) >= 0.5) == (truth > 0)).all(1)
        return lambda: whole.probabilities(held.test_images).argmax(1) == known[held.test_labels]

    def neighbours() -> Tensor:
        bank, queries = (extract(network.backbone, part, network.size) for part in (held.images, held.test_images))
        return knn_scores(bank, held.labels, queries, len(held.classes)).argmax(1) == held.test_labels

    return neighbours


def recogniser_name(network: Network) -> str:
    """The same in words, as the beginning of a sentence."""
    if network.classifier is not None:
        return f"The model's own {network.classifier.kind} classifier recognises"
    return "k-NN (20 neighbours, features of the silenced network on both sides) recognises"
