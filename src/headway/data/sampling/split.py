"""Splits of labeled images into training and test sets. They depend on labels, groups and a seed only."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from headway.data.sampling.shuffle import shuffled_index
from headway.utils.hashing import stable_hash


def stratified_split(
    labels: Tensor, fraction: float = 0.2, seed: int = 0, groups: Sequence[object] | Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Split images into a training set and a test set, with the same fraction of every class and with whole groups.

    The classes are processed from the rarest on. A class's groups go to the test set, in shuffled order, while that
    brings the class nearer to its fraction. A group stays in the training set if a class would have no training image
    without it. So every class has images on both sides if its groups allow it; a class of one image is trained on.

    Args:
        labels: N, int64.
        fraction: The fraction of test images, in (0, 1).
        seed: Seed of the split.
        groups: N, images of equal group stay together; None: each image is a group.

    Returns:
        The training indices and the test indices, both sorted, int64.

    Raises:
        ValueError: ``fraction`` is out of range, or the number of groups is not N.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be in (0, 1), got {fraction}")
    classes = labels.tolist()
    keys = range(len(classes)) if groups is None else groups.tolist() if isinstance(groups, Tensor) else groups
    if len(keys) != len(classes):
        raise ValueError(f"{len(keys)} groups for {len(classes)} labels")
    contents: dict[object, Counter[int]] = defaultdict(Counter)
    for key, label in zip(keys, classes, strict=True):
        contents[key][label] += 1
    names = list(contents)
    groups_of_class: dict[int, list[object]] = defaultdict(list)  # the groups that contain a class, shuffled
    for index in _shuffle(torch.arange(len(names)), seed, "split").tolist():
        for label in contents[names[index]]:
            groups_of_class[label].append(names[index])
    total, num_test, test = Counter(classes), Counter[int](), set[object]()
    for label in sorted(total, key=lambda label: (total[label], label)):
        target = max(1, round(fraction * total[label]))
        for key in groups_of_class[label]:
            group = contents[key]
            nearer = abs(num_test[label] + group[label] - target) < abs(num_test[label] - target)
            if key not in test and nearer and _leaves_training_images(group, total, num_test):
                test.add(key)
                num_test += group
        spare = [key for key in groups_of_class[label] if _leaves_training_images(contents[key], total, num_test)]
        if not num_test[label] and spare:  # every group is far larger than the fraction: take the smallest
            key = min(spare, key=lambda key: contents[key][label])
            test.add(key)
            num_test += contents[key]
    is_test = torch.tensor([key in test for key in keys], dtype=torch.bool)  # N
    return torch.nonzero(~is_test).flatten(), torch.nonzero(is_test).flatten()


def _leaves_training_images(group: Counter[int], total: Counter[int], num_test: Counter[int]) -> bool:
    """Whether every class of the group keeps training images without it."""
    return all(total[label] - num_test[label] > count for label, count in group.items())


def sample_per_class(labels: Tensor, n: int, seed: int = 0) -> Tensor:
    """Draw n images of every class (all of a class with fewer): sorted indices, int64.

    With the same seed, a smaller draw is a subset of a larger one. Raises ValueError if n is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be 1 or more, got {n}")
    drawn = [members[:n] for members in _by_class(labels, seed, "draw")]
    return torch.cat([torch.empty(0, dtype=torch.int64), *drawn]).sort().values


def stratified_folds(
    labels: Tensor, k: int, seed: int = 0, groups: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Divide the images into k folds, with the classes spread evenly, and hold each fold out once.

    Unlike scikit-learn's StratifiedKFold, classes may have fewer than k images. Empty folds are omitted, and so is a
    fold without which there is no training image.

    Args:
        labels: N, int64.
        k: Number of folds.
        seed: Seed of the folds.
        groups: N, int64: images of equal group stay in one fold; None: each image is a group.

    Yields:
        The training indices and the held-out indices, both sorted, int64.

    Raises:
        ValueError: k is below 2, or the number of groups is not N.
    """
    if k < 2:
        raise ValueError(f"k must be 2 or more, got {k}")
    if groups is not None and len(groups) != len(labels):
        raise ValueError(f"{len(groups)} groups for {len(labels)} labels")
    fold = _assign_folds(labels, k, seed, groups)
    for number in range(k):
        train, held_out = torch.nonzero(fold != number).flatten(), torch.nonzero(fold == number).flatten()
        if len(train) and len(held_out):
            yield train, held_out


def _assign_folds(labels: Tensor, k: int, seed: int, groups: Tensor | None) -> Tensor:
    """N, 0..k-1: the fold of each image.

    Groups of several images are assigned first, in descending order of size, each to the fold with the fewest images of
    its classes. The other images then even out each class. Ties go to the fold with the fewest images, so that no fold
    stays empty.
    """
    order = torch.cat([torch.empty(0, dtype=torch.int64), *_by_class(labels, seed, "folds")])  # N, class after class
    fold, total = torch.full((len(labels),), -1), labels.bincount()
    counts = torch.zeros(len(total), k, dtype=torch.int64)  # images of each class in each fold
    for group in _multi_image_groups(groups, order) if groups is not None else ():
        classes = labels[group]
        load = (counts[classes] / total[classes, None]).sum(0).tolist()  # k
        chosen = min(range(k), key=lambda number: (load[number], int(counts[:, number].sum())))
        fold[group] = chosen
        counts[:, chosen] += classes.bincount(minlength=len(total))
    for label in labels.unique().tolist():
        singles = order[(labels[order] == label) & (fold[order] < 0)]
        if count := len(singles):
            tie_break = counts.sum(0).argsort(stable=True).argsort()  # k, the fold's rank among equals
            slots = (counts[label, :, None] + torch.arange(count)) * k + tie_break[:, None]  # k count, lowest first
            fold[singles] = slots.flatten().argsort()[:count] // count
            counts[label] += fold[singles].bincount(minlength=k)
    return fold


def _multi_image_groups(groups: Tensor, order: Tensor) -> list[Tensor]:
    """The members of each group of two or more, the largest group first; equal groups in the order of ``order``."""
    numbers, counts = groups[order].unique(return_inverse=True, return_counts=True)[1:]  # N, G
    found: dict[int, list[int]] = defaultdict(list)
    for index, number in zip(order.tolist(), numbers.tolist(), strict=True):
        if counts[number] > 1:
            found[number].append(index)
    return sorted(map(torch.tensor, found.values()), key=len, reverse=True)


def folds_until(
    labels: Tensor, k: int, min_held_out: int, seed: int = 0, groups: Tensor | None = None
) -> list[tuple[Tensor, Tensor]]:
    """The first of ``stratified_folds`` that together hold out ``min_held_out`` images, or all k.

    The list is empty if no class has two images (of different groups).

    Args:
        labels: N, int64.
        k: Number of folds.
        min_held_out: Number of held-out images that suffices.
        seed: Seed of the folds.
        groups: N, int64: images of equal group stay in one fold; None: each image is a group.
    """
    chosen, num_held_out = list[tuple[Tensor, Tensor]](), 0
    keys = torch.arange(len(labels)) if groups is None else groups
    class_of_group = torch.unique(torch.stack([labels.to(keys), keys], 1), dim=0)[:, 0]  # one entry per class and group
    if int(class_of_group.bincount(minlength=1).max()) < 2:
        return chosen
    for train, held_out in stratified_folds(labels, k, seed, groups):
        chosen.append((train, held_out))
        if (num_held_out := num_held_out + len(held_out)) >= min_held_out:
            break
    return chosen


def strata(labels: Tensor) -> Tensor:
    """N, int64: the strata for a split: the label, or of several labels (N K of 0 and 1) the rarest.

    An image with none of the K labels is in stratum K.
    """
    if labels.dim() == 1:
        return labels
    frequency = labels.sum(0)  # K
    return torch.where(labels.any(1), torch.where(labels > 0, frequency, torch.inf).argmin(1), labels.shape[1])  # N


def _by_class(labels: Tensor, seed: int, purpose: str) -> list[Tensor]:
    """The shuffled indices of each class."""
    present = labels.unique().tolist()
    return [_shuffle(torch.nonzero(labels == label).flatten(), seed, purpose, label) for label in present]


def _shuffle(indices: Tensor, *key: object) -> Tensor:
    if not len(indices):
        return indices
    return indices[shuffled_index(torch.arange(len(indices)), len(indices), stable_hash(*key))]
