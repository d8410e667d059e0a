"""The images of the demo: labeled images whose labels are hidden from pretraining, and the few labels that it draws."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from headway.data.dataset.image_store import ImageStore, build_store, split_groups
from headway.data.dataset.subset import Images, subsample_evenly, subset
from headway.data.sampling.split import stratified_split
from headway.data.sources.base import Source, SubsetSource
from headway.data.sources.in_memory import ArraySource
from headway.downstream.labeled_split import LabeledSplit, decode_at_view_size
from headway.errors import HeadwayError
from headway.evaluation.methods import draw_labels
from headway.utils.progress import Progress

MAX_TEST_IMAGES = 2000
"""Test images at most, evenly spaced."""


class DemoData(NamedTuple):
    """Decoded images and their split.

    Attributes:
        source: Where they come from.
        store: The images, as stored for pretraining.
        labels: N, int64, the label of each.
        train: n, int64, the images that are pretrained on without labels.
        test: n', int64, the images that are tested on.
        size: Side of the view in pixels.
    """

    source: Source
    store: ImageStore
    labels: Tensor
    train: Tensor
    test: Tensor
    size: int

    @property
    def unlabeled(self) -> Source:
        """The images to pretrain on."""
        return SubsetSource(ArraySource(self.store.images, pixel_format=self.store.pixel_format), self.train.tolist())

    def describe(self, kind: str) -> str:
        """The numbers of images in a sentence; ``kind`` says what they are."""
        return (
            f"{len(self.labels):,} {kind} of {len(self.store.classes)} classes: "
            f"{len(self.train):,} to pretrain on without labels, {len(self.test):,} to test on"
        )

    def draws(self, labels_per_class: int, count: int, seed: int) -> list[Tensor]:
        """So many draws of labels: indices into ``train``."""
        return [draw_labels(self.labels[self.train], labels_per_class, seed, draw) for draw in range(count)]

    def labeled(self, draws: Sequence[Tensor]) -> tuple[LabeledSplit, list[Tensor]]:
        """The images of these draws and the test images, and the draws as indices into the former.

        Only these images are decoded to the size of the view, where they are stored larger.
        """
        drawn = torch.cat(list(draws)).unique()  # n
        rows, groups = self.train[drawn], split_groups(self.store)
        larger = self.store.images.shape[-1] > self.size

        def at_view_size(indices: Tensor) -> Images:
            return (
                decode_at_view_size(self.source, self.store, indices, self.size) if larger
                else subset(self.store.images, indices)
            )  # fmt: skip

        split = LabeledSplit(
            subset(self.store.images, rows), self.labels[rows], at_view_size(self.test), self.labels[self.test],
            self.store.classes, True, [], self.store.content_hashes[self.test], groups[rows], groups[self.test],
            at_view_size(rows) if larger else None,
        )  # fmt: skip
        return split, [torch.searchsorted(drawn, draw) for draw in draws]


def load_demo_data(
    source: Source, *, size: int, storage_side: int, seed: int, shuffle_labels: bool, progress: Progress
) -> DemoData:
    """Decode labeled images and split them.

    Args:
        source: The images.
        size: Side of the view in pixels.
        storage_side: Side at which they are stored.
        seed: Of the split.
        shuffle_labels: Whether the labels are permuted at random.
        progress: Called with the number of decoded images and of all of them.

    Raises:
        HeadwayError: Images without labels, or too few of them.
    """
    store = build_store(source, storage_side, progress=progress)
    if store.labels is None:
        raise HeadwayError(
            "labels-missing", "the demo needs labeled images: one folder per class, tars with .cls, or file,label"
        )
    labels = store.labels
    if shuffle_labels:
        labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    if (labels < 0).any():
        raise HeadwayError(
            "labels-missing",
            f"{int((labels < 0).sum())} of {len(labels)} images have no label; the demo needs labels for all of them",
        )
    train, test = stratified_split(labels, seed=seed, groups=split_groups(store))
    if min(len(train), len(test)) < 2 or len(store.classes) < 2:
        raise HeadwayError(
            "too-few-images",
            f"{len(labels)} images of {len(store.classes)} classes are too few to train and to test on",
        )
    return DemoData(source, store, labels, train, subsample_evenly(test, MAX_TEST_IMAGES), size)
