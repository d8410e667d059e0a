"""Labelled pictures made ready: which are for training, which for testing, and how many labels are used."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from headway.data.source import Source
from headway.data.split import per_class, stratified_split
from headway.data.store import Store, build_store, groups_of
from headway.errors import HeadwayError

Progress = Callable[[int, int], None]


class Labelled(NamedTuple):
    """Pictures with labels, and pictures held back to test on.

    Attributes:
        images: N C S S, as stored, to train on.
        labels: N, int64 in 0..K-1.
        test_images: N' C S S, never trained on.
        test_labels: N', int64.
        classes: K names.
        aside: True where the test pictures were set aside from the labelled ones.
        skipped: (name, reason) of pictures that could not be read.
        test_hashes: N', int64, the content of each test picture, as ``Store.hashes``.
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    aside: bool
    skipped: list[tuple[str, str]]
    test_hashes: Tensor


def gather_labelled(
    source: Source,
    test: Source | None,
    size: int,
    *,
    side: int = 0,
    per_class_count: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Labelled:
    """Decode labelled pictures and split them.

    Args:
        source: Labelled pictures.
        test: Pictures to test on; none: a stratified fifth of ``source`` is set aside.
        size: Side of the view in pixels; the pictures to test on are stored at it, as prediction decodes them.
        side: Stored side of those to train on, larger where crops are cut from them; 0: the same.
        per_class_count: Labels a class to use, drawn by ``seed``; none: all.
        seed: Of the split and the draw.
        progress: Told how many pictures of how many are decoded.

    Raises:
        HeadwayError: One class only, a class of the test set that nobody trains on, or too few pictures to split.
    """
    store = build_store(source, side or size, progress=progress)
    labels, classes = _labels(store), store.classes
    known = (labels >= 0).nonzero().flatten()
    if test is None:
        groups = groups_of(store)[known]
        train, held = (known[part] for part in stratified_split(labels[known], seed=seed, groups=groups))
        test_images, test_labels, skipped = store.images[held], labels[held], store.skipped
        hashes = store.hashes[held]
        if side not in (0, size):  # as prediction decodes them, not shrunk from a larger store
            test_images = build_store(source, size, indices=[store.kept[i] for i in held.tolist()]).images
            if len(test_images) < len(held):
                raise HeadwayError("pictures that could be read a moment ago cannot be read any more; try again")
    else:
        other = build_store(test, size, progress=progress)
        strange = sorted(set(other.classes) - set(classes))
        if strange:
            raise HeadwayError(f"test pictures are of classes that no training picture has: {', '.join(strange[:5])}")
        seen = torch.isin(other.hashes, store.hashes)  # a picture that is trained on tests nothing
        tested = ((_labels(other) >= 0) & ~seen).nonzero().flatten()
        left_out = [
            (name, "is among the training pictures") for name, was in zip(other.names, seen, strict=True) if was
        ]
        places = torch.tensor([classes.index(name) for name in other.classes])
        train, test_images, test_labels = known, other.images[tested], places[_labels(other)[tested]]
        skipped, hashes = [*store.skipped, *other.skipped, *left_out], other.hashes[tested]
    if per_class_count is not None:
        if per_class_count < 1:
            raise HeadwayError(f"--per-class must be at least 1, got {per_class_count}")
        train = train[per_class(labels[train], per_class_count, seed=seed)]
    aside = test is None
    return Labelled(store.images[train], labels[train], test_images, test_labels, classes, aside, skipped, hashes)


def _labels(store: Store) -> Tensor:
    if store.labels is None:
        raise HeadwayError(
            "the pictures have no labels; put them into one folder a class, or give a table with file,label"
        )
    if len(store.labels[store.labels >= 0].unique()) < 2:
        only = store.classes[int(store.labels.max())]
        raise HeadwayError(
            f"all {len(store.labels)} readable pictures are of the one class '{only}'; at least two are needed"
        )
    return store.labels
