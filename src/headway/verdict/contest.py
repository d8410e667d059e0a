"""Who is compared on which pictures, and the contenders that nobody trains: linear probes on frozen features."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from headway.data.split import per_class
from headway.downstream.tune import scaled_head
from headway.verdict.trial import PIXEL, UNTRAINED, features_of, raw_pixels

LINEAR = "pretrained linear"
"""The row of the linear probe on pretrained features."""


class Contest(NamedTuple):
    """Everything that a comparison on labels needs.

    Attributes:
        pretrained: The backbone of the run.
        untrained: The same architecture with fresh weights.
        images: N C S S, pictures whose labels may be drawn; stored with pixels to spare for crops.
        labels: N, int64.
        test_images: N' C S S.
        test_labels: N', int64.
        classes: K names.
        size: Side of the view in pixels.
        groups: N, int64: pictures of equal group are never parted by a fold; none: each stands for itself.
        test_groups: N', equal where test pictures belong together, as for ``paired_interval``; none: no two do.
    """

    pretrained: nn.Module
    untrained: nn.Module
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    size: int
    groups: Tensor | None = None
    test_groups: np.ndarray | None = None

    def together(self, chosen: Tensor) -> Tensor | None:
        """The groups of chosen pictures."""
        return None if self.groups is None else self.groups[chosen]


class Frozen(NamedTuple):
    """Linear probes on features that nobody trains further, over several draws of labels.

    Attributes:
        right: draws N' for raw pixels, untrained and pretrained linear: whether each test picture was named rightly.
        heads: The calibrated probe on pretrained features of each draw.
        tests: N' D for each of them: what the test pictures are described by.
    """

    right: dict[str, Tensor]
    heads: list[nn.Linear]
    tests: dict[str, Tensor]


def probe_frozen(
    contest: Contest,
    *,
    per_class_count: int,
    draws: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Frozen:
    """Fit a linear probe to raw pixels, untrained and pretrained features on each draw of labels.

    Args:
        contest: Backbones and pictures.
        per_class_count: Labels a class in each draw.
        draws: How many draws.
        seed: Of the draws.
        progress: Told how many draws of how many are done.
    """
    c = contest
    describe: dict[str, Callable[[Tensor], Tensor]] = {
        PIXEL: raw_pixels,
        UNTRAINED: features_of(c.untrained, c.size),
        LINEAR: features_of(c.pretrained, c.size),
    }
    tests = {name: features(c.test_images) for name, features in describe.items()}
    right: dict[str, list[Tensor]] = {name: [] for name in describe}
    heads = []
    for draw in range(draws):
        chosen = per_class(c.labels, per_class_count, seed=seed + draw)
        for name, features in describe.items():
            found, groups = features(c.images[chosen]), c.together(chosen)  # n D
            head = scaled_head(found, c.labels[chosen], len(c.classes), seed, groups=groups)
            right[name].append(right_of(head, tests[name], c.test_labels))
        heads.append(head)  # of the last name, LINEAR
        if progress:
            progress(draw + 1, draws)
    return Frozen({name: torch.stack(rows) for name, rows in right.items()}, heads, tests)


def right_of(head: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
    """N, bool: whether the head names each of N D features rightly."""
    with torch.no_grad():
        return head(features).argmax(1) == labels  # n
