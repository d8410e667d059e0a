"""Decode labeled images and split them: images to train on, images to test on, and how many labels are used."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from headway.backbones.input_size import STORAGE_SCALE, storage_side
from headway.data.dataset.image_store import ImageStore, build_store, median_short_side, split_groups
from headway.data.dataset.subset import Images, subsample_evenly, subset
from headway.data.sampling.split import sample_per_class, strata, stratified_split
from headway.data.sources.base import Remarks, Source
from headway.downstream.labeled_images import LabeledImages
from headway.downstream.targets import SINGLE, Target, encode_labels, present_names
from headway.errors import HeadwayError
from headway.utils.hashing import stable_hash
from headway.utils.notes import note
from headway.utils.progress import Progress


class LabeledSplit(NamedTuple):
    """Labeled images to train on, and images held out for testing. Images that were mapped to a file stay there.

    Attributes:
        images: N C H W, to train on: stored larger than the view, where crops are cut from them.
        labels: N or N K, as ``target`` encodes them.
        test_images: N' C S S at the size of the view, never trained on.
        test_labels: N' or N' K.
        classes: K names.
        test_from_split: Whether the test images were split off from the labeled ones; False where a test set was given.
        skipped: (name, reason) of images that could not be read.
        test_hashes: N', int64, the content hash of each test image, as in ``ImageStore.content_hashes``.
        groups: N, int64: no fold separates training images of equal group, as ``split_groups`` has them; None: every
            image is a group of its own.
        test_groups: N', int64: the groups of the test images, which are not independent of one another within a group;
            None: all are independent.
        at_view_size: N C S S, the images to train on, decoded to the view; None: ``images`` are.
        target: What the labels mean.
    """

    images: Images
    labels: Tensor
    test_images: Images
    test_labels: Tensor
    classes: tuple[str, ...]
    test_from_split: bool
    skipped: Remarks
    test_hashes: Tensor
    groups: Tensor | None = None
    test_groups: Tensor | None = None
    at_view_size: Images | None = None
    target: Target = SINGLE

    def training_set(self, size: int) -> LabeledImages:
        """The images to train on, for a network that sees them at ``size`` pixels per side."""
        return LabeledImages(self.images, self.labels, self.classes, size, self.groups, self.at_view_size, self.target)

    def interval_groups(self) -> np.ndarray | None:
        """N': the groups of the test images, for confidence intervals; None where all images are independent."""
        groups = self.test_groups
        return None if groups is None or len(groups.unique()) == len(groups) else groups.numpy()

    def subsample_test(self, max_images: int) -> "LabeledSplit":
        """At most so many of the test images, evenly spaced."""
        return self._replace(
            test_images=subsample_evenly(self.test_images, max_images),
            test_labels=subsample_evenly(self.test_labels, max_images),
            test_hashes=subsample_evenly(self.test_hashes, max_images),
            test_groups=None if self.test_groups is None else subsample_evenly(self.test_groups, max_images),
        )

    def contents_hash(self) -> int:
        """A hash of all labels and test images, by which a resumed command recognizes the split."""
        return stable_hash(*(x.tolist() for x in (self.labels, self.test_labels, self.test_hashes)))

    def groups_hash(self) -> int:
        """A hash of the groups of the training images."""
        assert self.groups is not None
        return stable_hash(*self.groups.tolist())

    def test_set_hash(self) -> str:
        """A hash of the images that were split off for testing; empty where a test set was given."""
        return f"{stable_hash(*self.test_hashes.sort().values.tolist()):x}" if self.test_from_split else ""


class _TestSet(NamedTuple):
    """The part of a ``LabeledSplit`` that is tested on, without the images that could not be used."""

    images: Images
    labels: Tensor
    hashes: Tensor
    groups: Tensor
    skipped: Remarks
    class_names: set[str]


def load_labeled_split(
    source: Source,
    test: Source | None,
    size: int,
    *,
    for_crops: bool = False,
    labels_per_class: int | None = None,
    target: Target = SINGLE,
    seed: int = 0,
    progress: Progress | None = None,
) -> LabeledSplit:
    """Decode labeled images and split them.

    Args:
        source: Labeled images.
        test: Images to test on; None: a stratified fifth of ``source`` is split off.
        size: Side of the view in pixels; the test images are stored at it, since prediction decodes them so.
        for_crops: Whether the training images are stored larger than the view, where they have the pixels, since
            crops are cut from them.
        labels_per_class: How many labels of each class are used, drawn by ``seed``; None: all.
        target: What the labels mean.
        seed: Of the split and the draw.
        progress: Called with the number of decoded images and the number of all of them.

    Raises:
        HeadwayError: One class only, a class in the test set that no training image has, or too few images to split.
    """
    side = storage_side(median_short_side(source)[0], size, STORAGE_SCALE) if for_crops else size
    store = build_store(source, side, progress=progress)
    given = _required_labels(store)
    _check_several_classes(target, store, given)
    classes = target.classes(store.classes)  # K
    labels = encode_labels(target, store.classes, given, classes)  # N or N K
    labeled = (given >= 0).nonzero().flatten()
    _note_conflicts(store, given)
    groups, larger = split_groups(store), side > size
    if test is None:
        parts = stratified_split(strata(labels[labeled]), seed=seed, groups=groups[labeled])
        train, held_out = (labeled[part] for part in parts)
        images: Images = subset(store.images, held_out)
        if larger:  # prediction decodes to ``size``, and does not shrink a larger store
            images = decode_at_view_size(source, store, held_out, size)
        tested = _TestSet(images, labels[held_out], store.content_hashes[held_out], groups[held_out], [],
            present_names(target, store.classes, given[held_out]))  # fmt: skip
    else:
        train, other = labeled, build_store(test, size, progress=progress)
        tested = _given_test_set(other, store, target, classes)
    if labels_per_class is not None:
        if labels_per_class < 1:
            raise HeadwayError("value-out-of-range", f"--labels-per-class must be at least 1, got {labels_per_class}")
        train = train[sample_per_class(strata(labels[train]), labels_per_class, seed=seed)]
    untested = present_names(target, store.classes, given[train]) - tested.class_names
    if untested and len(tested.labels):
        named = ", ".join(sorted(untested)[:5])
        note(f"no test image is of {len(untested)} of the classes, whose accuracy is not measured: {named}")
    return LabeledSplit(
        subset(store.images, train), labels[train], tested.images, tested.labels, classes, test is None,
        [*store.skipped, *tested.skipped], tested.hashes, groups[train], tested.groups,
        decode_at_view_size(source, store, train, size) if larger else None, target,
    )  # fmt: skip


def decode_at_view_size(source: Source, store: ImageStore, indices: Tensor, size: int) -> Images:
    """Images of a larger store, by their indices in it, decoded again to the size of the view."""
    images = build_store(source, size, indices=[store.source_indices[i] for i in indices.tolist()]).images
    if len(images) < len(indices):
        raise HeadwayError(
            "unreadable-image", "images that could be read a moment ago cannot be read any more; try again"
        )
    return subset(images, torch.arange(len(images)))


def _given_test_set(store: ImageStore, train: ImageStore, target: Target, classes: tuple[str, ...]) -> _TestSet:
    """A test set that was given, without the images that are in the training set, and with the training set's labels.

    Raises:
        HeadwayError: A class that no training image has.
    """
    given = _required_labels(store)
    unknown = present_names(target, store.classes, given) - present_names(
        target, train.classes, _required_labels(train)
    )
    if unknown:
        raise HeadwayError(
            "class-unknown", f"test images are of classes that no training image has: {', '.join(sorted(unknown)[:5])}"
        )
    trained_on = torch.isin(store.content_hashes, train.content_hashes)
    skipped = [(name, "is among the training images") for name, was in zip(store.names, trained_on, strict=True) if was]
    tested = ((given >= 0) & ~trained_on).nonzero().flatten()
    return _TestSet(
        subset(store.images, tested), encode_labels(target, store.classes, given, classes)[tested],
        store.content_hashes[tested], split_groups(store)[tested], [*store.skipped, *skipped],
        present_names(target, store.classes, given[tested]),
    )  # fmt: skip


def _note_conflicts(store: ImageStore, given: Tensor) -> None:
    """Tell of images that are equal in every pixel and have different labels."""
    first: dict[int, int] = {}
    labels, conflicts = given.tolist(), []
    for index, content in enumerate(store.content_hashes.tolist()):
        if labels[index] >= 0 and labels[first.setdefault(content, index)] != labels[index]:
            conflicts.append((first[content], index))
    if conflicts:
        one, other = ((store.names[i], store.classes[labels[i]]) for i in conflicts[0])
        note(
            f"{len(conflicts):,} images are equal in every pixel to one with another label, "
            f"such as {one[0]!r} ({one[1]}) and {other[0]!r} ({other[1]}); headway check lists them"
        )


def _required_labels(store: ImageStore) -> Tensor:
    """N, int64: the index of each label as it was given, -1 for images without one."""
    if store.labels is None:
        raise HeadwayError(
            "labels-missing",
            "the images have no labels; put them into one folder per class, or give a table with file,label",
        )
    return store.labels


def _check_several_classes(target: Target, store: ImageStore, given: Tensor) -> None:
    """Raise HeadwayError where fewer than two classes occur."""
    names = present_names(target, store.classes, given)
    if len(names) < 2:
        found = f"of the one class '{names.pop()}'" if names else "without a label"
        raise HeadwayError(
            "one-class", f"all {len(given)} readable images are {found}; at least two classes are needed"
        )
