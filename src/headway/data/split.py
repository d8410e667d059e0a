"""Which labelled pictures train and which test. Every choice is a function of the labels and a seed, nothing else."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from headway.data.order import place_to_index
from headway.draws import hashed


def stratified_split(
    labels: Tensor, fraction: float = 0.2, seed: int = 0, groups: Sequence[object] | Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Set pictures aside, the same share of every class, whole groups together.

    Groups are dealt in shuffled order, rarest class first, to the test side while that brings a class nearer to its
    share; never one without which a class would have nothing left to train on. So every class has pictures on both
    sides where its groups allow it, and a class of one picture is trained on.

    Args:
        labels: N, int64.
        fraction: The share to set aside, in (0, 1).
        seed: Of the draw.
        groups: N, pictures of equal group stay together; none: each stands for itself.

    Returns:
        Indices to train on and indices to test on, both sorted, int64.

    Raises:
        ValueError: A fraction out of range, or not one group a picture.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be in (0, 1), got {fraction}")
    classes = labels.tolist()
    keys = (
        groups.tolist() if isinstance(groups, Tensor) else list(groups) if groups is not None else range(len(classes))
    )
    if len(keys) != len(classes):
        raise ValueError(f"{len(keys)} groups for {len(classes)} labels")
    contents: dict[object, Counter[int]] = defaultdict(Counter)
    for key, label in zip(keys, classes, strict=True):
        contents[key][label] += 1
    names = list(contents)
    shuffled = [names[place] for place in _shuffle(torch.arange(len(names)), seed, "split").tolist()]
    holding: dict[int, list[object]] = defaultdict(list)  # the groups in which a class occurs, shuffled
    for key in shuffled:
        for label in contents[key]:
            holding[label].append(key)
    total, aside, test = Counter(classes), Counter[int](), set[object]()
    for label in sorted(total, key=lambda one: (total[one], one)):
        target = max(1, round(fraction * total[label]))
        for key in holding[label]:
            group = contents[key]
            nearer = abs(aside[label] + group[label] - target) < abs(aside[label] - target)
            if key not in test and nearer and _spared(group, total, aside):
                test.add(key)
                aside += group
        spare = [key for key in holding[label] if _spared(contents[key], total, aside)]
        if not aside[label] and spare:  # every group is far larger than the share: the smallest will do
            key = min(spare, key=lambda one: contents[one][label])
            test.add(key)
            aside += contents[key]
    held = torch.tensor([key in test for key in keys], dtype=torch.bool)  # N
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()


def _spared(group: Counter[int], total: Counter[int], aside: Counter[int]) -> bool:
    """Whether every class in the group has pictures left to train on without it."""
    return all(total[label] - aside[label] > count for label, count in group.items())


def per_class(labels: Tensor, n: int, seed: int = 0) -> Tensor:
    """Draw n pictures of every class (all where there are fewer): sorted indices, int64.

    With the same seed a smaller draw is part of a larger one. Raises ValueError where n is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be 1 or more, got {n}")
    drawn = [members[:n] for members in _by_class(labels, seed, "draw")]
    return torch.cat([torch.empty(0, dtype=torch.int64), *drawn]).sort().values


def folds(labels: Tensor, k: int, seed: int = 0, groups: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut the pictures into k parts with the classes spread evenly; each part is held out once.

    Unlike scikit-learn's StratifiedKFold it takes classes of fewer than k pictures; empty parts are left out, and so is
    one that would leave nothing to train on.

    Args:
        labels: N, int64.
        k: Parts.
        seed: Of the draw.
        groups: N, int64: pictures of equal group are never parted; none: each stands for itself.

    Yields:
        Indices to train on and indices held out, both sorted, int64.

    Raises:
        ValueError: k below 2, or not one group a picture.
    """
    if k < 2:
        raise ValueError(f"k must be 2 or more, got {k}")
    if groups is not None and len(groups) != len(labels):
        raise ValueError(f"{len(groups)} groups for {len(labels)} labels")
    part = _parts(labels, k, seed, groups)
    for number in range(k):
        train, held = torch.nonzero(part != number).flatten(), torch.nonzero(part == number).flatten()
        if len(train) and len(held):
            yield train, held


def _parts(labels: Tensor, k: int, seed: int, groups: Tensor | None) -> Tensor:
    """N, 0..k-1: in which part each picture is.

    Groups of several go first, the largest ahead, each to the part that has least of its classes; the other pictures
    then level each class. Of equals the part that has fewest pictures takes it, so that none stays empty.
    """
    order = torch.cat([torch.empty(0, dtype=torch.int64), *_by_class(labels, seed, "folds")])  # N, class after class
    part, total = torch.full((len(labels),), -1), labels.bincount()
    has = torch.zeros(len(total), k, dtype=torch.int64)  # pictures of each class in each part
    for group in _several(groups, order) if groups is not None else ():
        classes = labels[group]
        crowd = (has[classes] / total[classes, None]).sum(0).tolist()  # k
        chosen = min(range(k), key=lambda number: (crowd[number], int(has[:, number].sum())))
        part[group] = chosen
        has[:, chosen] += classes.bincount(minlength=len(total))
    for label in labels.unique().tolist():
        singles = order[(labels[order] == label) & (part[order] < 0)]
        if count := len(singles):
            turn = has.sum(0).argsort(stable=True).argsort()  # k, whose turn it is among equals
            places = (has[label, :, None] + torch.arange(count)) * k + turn[:, None]  # k count, the lowest first
            part[singles] = places.flatten().argsort()[:count] // count
            has[label] += part[singles].bincount(minlength=k)
    return part


def _several(groups: Tensor, order: Tensor) -> list[Tensor]:
    """The members of each group of two or more, the largest first; among equals as ``order`` has them."""
    numbers, counts = groups[order].unique(return_inverse=True, return_counts=True)[1:]  # N, G
    found: dict[int, list[int]] = {}
    for place, number in zip(order.tolist(), numbers.tolist(), strict=True):
        if counts[number] > 1:
            found.setdefault(number, []).append(place)
    return sorted(map(torch.tensor, found.values()), key=len, reverse=True)


def some_folds(
    labels: Tensor, k: int, enough: int, seed: int = 0, groups: Tensor | None = None
) -> list[tuple[Tensor, Tensor]]:
    """As many ``folds`` as it takes to hold out ``enough`` pictures (or all k); none where no class has a second one.

    Args:
        labels: N, int64.
        k: Parts.
        enough: Pictures held out that are enough for what is chosen by them.
        seed: Of the draw.
        groups: N, int64: pictures of equal group are never parted, and count as one where a second one is asked for.
    """
    parts, held_out = list[tuple[Tensor, Tensor]](), 0
    keys = torch.arange(len(labels)) if groups is None else groups
    alone = torch.unique(torch.stack([labels.to(keys), keys], 1), dim=0)[:, 0]  # the class of each group that has it
    if int(alone.bincount(minlength=1).max()) < 2:
        return parts
    for train, held in folds(labels, k, seed, groups):
        parts.append((train, held))
        if (held_out := held_out + len(held)) >= enough:
            break
    return parts


def strata(labels: Tensor) -> Tensor:
    """N, int64: by what pictures are to be spread evenly: their label, or of several (N K of 0 and 1) the rarest.

    A picture that has none of the K labels is of stratum K.
    """
    if labels.dim() == 1:
        return labels
    frequency = labels.sum(0)  # K
    return torch.where(labels.any(1), torch.where(labels > 0, frequency, torch.inf).argmin(1), labels.shape[1])  # N


def _by_class(labels: Tensor, seed: int, purpose: str) -> list[Tensor]:
    """The indices of each class, shuffled."""
    present = labels.unique().tolist()
    return [_shuffle(torch.nonzero(labels == label).flatten(), seed, purpose, label) for label in present]


def _shuffle(indices: Tensor, *key: object) -> Tensor:
    if not len(indices):
        return indices
    return indices[place_to_index(torch.arange(len(indices)), len(indices), hashed(*key))]
