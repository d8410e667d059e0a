"""The images of a comparison: those to pretrain on, without any that is in the test set, and the labeled ones."""

from typing import NamedTuple

import torch
from torch import Tensor

from headway.data.dataset.image_store import build_store
from headway.data.dataset.subset import Images, subset
from headway.data.sources.base import Remarks, Source, SubsetSource, with_pixel_format
from headway.data.sources.in_memory import ArraySource
from headway.downstream.labeled_split import LabeledSplit, load_labeled_split
from headway.errors import HeadwayError
from headway.utils.progress import Progress

MAX_TEST_IMAGES = 5000
"""Test images at most, evenly spaced: beyond them, seeds and label draws limit the precision of the gain."""


class ComparisonData(NamedTuple):
    """The images of a comparison.

    Attributes:
        unlabeled: The images of pretraining.
        images: The same as stored, N C H W.
        hashes: N, int64, their content hashes.
        split: The labeled images, to learn from and to test on.
        fingerprint: Of all images that were given to pretrain on.
        num_excluded: How many of them were left out, since they are in the test set.
        skipped: (name, reason) of images that could not be read.
    """

    unlabeled: Source
    images: Images
    hashes: Tensor
    split: LabeledSplit
    fingerprint: str
    num_excluded: int
    skipped: Remarks

    def __str__(self) -> str:
        """The numbers of images in a sentence."""
        split = self.split
        return (
            f"{len(self.images):,} images to pretrain on ({self.num_excluded:,} that are in the test set left out), "
            f"{len(split.labels):,} labeled, {len(split.test_labels):,} to test on, {len(split.classes)} classes"
        )


def load_comparison_data(
    source: Source,
    labeled: Source,
    test: Source | None,
    *,
    size: int,
    storage_side: int,
    seed: int,
    shuffle_labels: bool,
    progress: tuple[Progress, Progress],
) -> ComparisonData:
    """Decode all images. The labeled ones are brought to the pixel format of the unlabeled ones.

    Args:
        source: Images to pretrain on.
        labeled: Labeled images.
        test: Images to test on; None: a part of the labeled ones.
        size: Side of the view in pixels.
        storage_side: Side at which the images to pretrain on are stored.
        seed: Of the split.
        shuffle_labels: Whether all labels are permuted at random.
        progress: Called with the number of decoded images and of all of them: of the unlabeled, and of the labeled.

    Raises:
        HeadwayError: Too few images are left.
    """
    store = build_store(source, storage_side, progress=progress[0])
    split = load_labeled_split(
        with_pixel_format(labeled, store.pixel_format),
        None if test is None else with_pixel_format(test, store.pixel_format),
        size, for_crops=True, seed=seed, progress=progress[1],
    )  # fmt: skip
    skipped = [*store.skipped, *split.skipped]
    indices = (~torch.isin(store.content_hashes, split.test_hashes)).nonzero().flatten()  # n
    num_excluded = len(store.images) - len(indices)
    split = _limit_test_set(split, seed, shuffle_labels)
    images = subset(store.images, indices)  # no copy: the images may be memory-mapped
    if len(images) < 2 or len(split.test_labels) < 2:
        raise HeadwayError(
            "too-few-images",
            f"{len(images)} images to pretrain on (without {num_excluded} that are in the test set) and "
            f"{len(split.test_labels)} to test on are too few; give more, or another --test",
        )
    unlabeled = SubsetSource(ArraySource(store.images, pixel_format=store.pixel_format), indices.tolist())
    hashes = store.content_hashes[indices]
    return ComparisonData(unlabeled, images, hashes, split, store.fingerprint, num_excluded, skipped)


def _limit_test_set(split: LabeledSplit, seed: int, shuffle: bool) -> LabeledSplit:
    """At most ``MAX_TEST_IMAGES`` test images; with ``shuffle`` all labels are permuted at random."""
    split = split.subsample_test(MAX_TEST_IMAGES)
    if not shuffle:
        return split
    generator = torch.Generator().manual_seed(seed)
    labels, test_labels = (x[torch.randperm(len(x), generator=generator)] for x in (split.labels, split.test_labels))
    return split._replace(labels=labels, test_labels=test_labels)
