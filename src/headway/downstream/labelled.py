"""Labelled pictures made ready: which are for training, which for testing, and how many labels are used."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from headway.data.picked import Pictures, pick
from headway.data.source import Source, in_order
from headway.data.split import per_class, strata, stratified_split
from headway.data.store import Store, build_store, groups_of
from headway.draws import hashed
from headway.errors import HeadwayError

Progress = Callable[[int, int], None]
BETWEEN = ";"
"""Stands between the labels of a picture that has several; alone, it says that the picture has none of them."""


class Labelled(NamedTuple):
    """Pictures with labels, and pictures held back to test on. Pictures that were mapped to a file stay there.

    Attributes:
        images: N C S S, as stored, to train on.
        labels: N, int64 in 0..K-1; or N K of 0 and 1 (float32), where a picture may have several.
        test_images: N' C S S, never trained on.
        test_labels: N', int64; or N' K.
        classes: K names.
        aside: True where the test pictures were set aside from the labelled ones.
        skipped: (name, reason) of pictures that could not be read.
        test_hashes: N', int64, the content of each test picture, as ``Store.hashes``.
        groups: N, int64: pictures to train on that no fold may part, as ``groups_of`` has them; none: no two.
        test_groups: N', int64: the same of the test pictures, which are one piece of evidence then; none: no two.
    """

    images: Pictures
    labels: Tensor
    test_images: Pictures
    test_labels: Tensor
    classes: tuple[str, ...]
    aside: bool
    skipped: list[tuple[str, str]]
    test_hashes: Tensor
    groups: Tensor | None = None
    test_groups: Tensor | None = None

    def tested_together(self) -> np.ndarray | None:
        """N': equal where test pictures belong together; None where no two do."""
        groups = self.test_groups
        return None if groups is None or len(groups.unique()) == len(groups) else groups.numpy()

    def mark(self) -> str:
        """A hash of the pictures that were set aside; empty where others were given to test on."""
        return f"{hashed(*self.test_hashes.sort().values.tolist()):x}" if self.aside else ""


def gather_labelled(
    source: Source,
    test: Source | None,
    size: int,
    *,
    side: int = 0,
    per_class_count: int | None = None,
    several: bool = False,
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
        several: Whether a label is several names with ``BETWEEN`` between them.
        seed: Of the split and the draw.
        progress: Told how many pictures of how many are decoded.

    Raises:
        HeadwayError: One class only, a class of the test set that nobody trains on, or too few pictures to split.
    """
    store = build_store(source, side or size, progress=progress)
    labels, classes = _labels(store, several)  # N or N K, K
    known = (_given(store) >= 0).nonzero().flatten()
    groups = groups_of(store)
    if test is None:
        spread = strata(labels[known])
        train, held = (known[part] for part in stratified_split(spread, seed=seed, groups=groups[known]))
        test_images, test_labels, skipped = pick(store.images, held), labels[held], store.skipped
        hashes, together = store.hashes[held], groups[held]
        if side not in (0, size):  # as prediction decodes them, not shrunk from a larger store
            again = build_store(source, size, indices=[store.kept[i] for i in held.tolist()]).images
            if len(again) < len(held):
                raise HeadwayError("pictures that could be read a moment ago cannot be read any more; try again")
            test_images = pick(again, torch.arange(len(again)))
    else:
        other = build_store(test, size, progress=progress)
        there, names = _labels(other, several, least=1)
        occur, taught = _occurring(there[_given(other) >= 0]), _occurring(labels[known])
        strange = sorted({names[number] for number in occur} - {classes[number] for number in taught})
        if strange:
            raise HeadwayError(f"test pictures are of classes that no training picture has: {', '.join(strange[:5])}")
        seen = torch.isin(other.hashes, store.hashes)  # a picture that is trained on tests nothing
        tested = ((_given(other) >= 0) & ~seen).nonzero().flatten()
        left_out = [
            (name, "is among the training pictures") for name, was in zip(other.names, seen, strict=True) if was
        ]
        places = torch.tensor([classes.index(name) if name in classes else 0 for name in names])  # 0 where none is so
        train, test_images = known, pick(other.images, tested)
        if several:
            test_labels = labels.new_zeros(len(tested), len(classes)).index_add_(1, places, there[tested])
        else:
            test_labels = places[there[tested]]
        skipped, hashes = [*store.skipped, *other.skipped, *left_out], other.hashes[tested]
        together = groups_of(other)[tested]
    if per_class_count is not None:
        if per_class_count < 1:
            raise HeadwayError(f"--per-class must be at least 1, got {per_class_count}")
        train = train[per_class(strata(labels[train]), per_class_count, seed=seed)]
    images, aside = pick(store.images, train), test is None
    return Labelled(
        images, labels[train], test_images, test_labels, classes, aside, skipped, hashes, groups[train], together
    )


def _given(store: Store) -> Tensor:
    """N, int64: the number of the label as it was given, -1 where there is none."""
    if store.labels is None:
        raise HeadwayError(
            "the pictures have no labels; put them into one folder a class, or give a table with file,label"
        )
    return store.labels


def _occurring(labels: Tensor) -> list[int]:
    """The classes that some picture has: of N labels, or N K of 0 and 1."""
    found = labels.unique() if labels.dim() == 1 else labels.any(0).nonzero().flatten()
    return [int(number) for number in found]


def _labels(store: Store, several: bool, least: int = 2) -> tuple[Tensor, tuple[str, ...]]:
    """N, int64, and K names; or with several labels a picture N K of 0 and 1. ``least`` classes must occur."""
    given = _given(store)
    if not several:
        if len(given[given >= 0].unique()) < least:
            only = store.classes[int(given.max())]
            raise HeadwayError(
                f"all {len(given)} readable pictures are of the one class '{only}'; at least two are needed"
            )
        return given, store.classes
    sets = [[name.strip() for name in text.split(BETWEEN) if name.strip()] for text in store.classes]
    classes = in_order([name for names in sets for name in names])
    if len(classes) < least:
        raise HeadwayError(f"the pictures have {len(classes)} different labels; at least {least} are needed")
    place = {name: number for number, name in enumerate(classes)}
    has = torch.zeros(len(sets) + 1, len(classes))  # the last row, which -1 means, is of pictures without a label
    for row, names in enumerate(sets):
        has[row, [place[name] for name in names]] = 1.0
    return has[given], classes
