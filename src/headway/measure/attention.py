"""What a vision transformer attends to: rollout, distance, entropy, and what each attention head is worth."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from headway.measure.listen import attentions_of, heads_of, look, silenced
from headway.measure.metrics import Interval, accuracy, paired_interval

TOGETHER = 8
"""Pictures in a pass: the weights of all layers are in memory at once."""


class Profile(NamedTuple):
    """What kind of looking each attention head does, averaged over pictures and over all tokens that look.

    Attributes:
        distance: Layers by attention heads: mean attention distance in pixels.
        entropy: Layers by attention heads: of the weights, in bits.
    """

    distance: list[list[float]]
    entropy: list[list[float]]


class Importance(NamedTuple):
    """What the main task loses where an attention head is silenced.

    Attributes:
        accuracy: Per cent of held-out pictures recognised by the whole network.
        loss: Layers by attention heads: points of accuracy lost, with a 95 % interval over pictures; below 0 where the
            network recognises more without it.
        pictures: How many were held out.
    """

    accuracy: float
    loss: list[list[Interval]]
    pictures: int


def seen_from(maps: Tensor, token: int | None, prefix: int) -> Tensor:
    """What one token attends to, or what all patches attend to on average: ... T T -> ... N, patches alone.

    Args:
        maps: Weights, or a rollout.
        token: Which one looks, prefix tokens counted; None: the mean over all patches.
        prefix: P.
    """
    row = maps[..., prefix:, :].mean(-2) if token is None else maps[..., token, :]  # ... T
    return row[..., prefix:]  # ... N


def rollout(weights: Sequence[Tensor]) -> Tensor:
    """Attention through all layers: which tokens of the input each token of the output has looked at.

    Attention heads are averaged, half of each token stays what it was (the residual), and layers are multiplied. Abnar
    and Zuidema, "Quantifying attention flow in transformers", 2020 (https://arxiv.org/abs/2005.00928).

    Args:
        weights: One B h T T a layer, first layer first.

    Returns:
        B T T, rows sum to one.
    """
    whole = torch.eye(weights[0].shape[-1]).to(weights[0])  # T T
    for layer in weights:
        whole = (layer.mean(1) + torch.eye(layer.shape[-1]).to(layer)) / 2 @ whole  # B T T
    return whole


def distance(weights: Tensor, grid: tuple[int, int], patch_size: int) -> Tensor:
    """Mean attention distance: how far from a patch lies what it attends to, in pixels of the view.

    Dosovitskiy et al., "An image is worth 16x16 words", 2021 (https://arxiv.org/abs/2010.11929), figure 7. Patches
    alone look and are looked at.

    Args:
        weights: B h T T.
        grid: Rows and columns of patches.
        patch_size: Pixels a side of a patch.

    Returns:
        h, averaged over pictures and patches.
    """
    count = math.prod(grid)
    places = torch.cartesian_prod(*(torch.arange(n).to(weights) * patch_size for n in grid)).view(count, 2)  # N 2
    apart = (places[:, None] - places[None]).norm(dim=-1)  # N N
    among = weights[..., -count:, -count:]  # B h N N
    shares = among / among.sum(-1, keepdim=True).clamp_min(1e-12)  # B h N N
    return (shares * apart).sum(-1).mean((0, 2))  # h


def entropy(weights: Tensor) -> Tensor:
    """Of the weights in bits, from 0 (one token is looked at) to log2 T (all alike): B h T T -> h, averaged."""
    return torch.special.entr(weights).sum(-1).mean((0, 2)) / math.log(2)  # h


def profile(backbone: Any, images: Tensor) -> Profile:
    """Distance and entropy of every attention head over pictures, N C H W in [0, 1]; raises as ``look`` does."""
    sums = torch.zeros(0)
    for part in images.split(TOGETHER):
        seen = look(backbone, part)
        rows = [(distance(w, seen.grid, backbone.patch_size), entropy(w)) for w in seen.weights]
        now = torch.stack([torch.stack(pair) for pair in rows]).double() * (len(part) / len(images))  # L 2 h
        sums = now if not len(sums) else sums + now
    return Profile(sums[:, 0].tolist(), sums[:, 1].tolist())


def importance(
    backbone: nn.Module, recognise: Callable[[], Tensor], progress: Callable[[int, int], None] | None = None,
    groups: np.ndarray | None = None,
) -> Importance:  # fmt: skip
    """What each attention head is worth to the main task, by silencing one after the other.

    Args:
        backbone: A ViT, of ours or of timm.
        recognise: Which held-out pictures are recognised, N bool, by the network as it is when this is called.
        progress: Told how many attention heads of how many are done.
        groups: N, equal where held-out pictures belong together, as for ``paired_interval``.
    """
    attentions = attentions_of(backbone)
    places = [(attention, head) for attention in attentions for head in range(heads_of(attention))]
    whole = recognise()  # N
    losses = []
    for done, (attention, head) in enumerate(places, 1):
        with silenced(attention, head):
            lost = whole.double() - recognise().double()  # N, each in {-1, 0, 1}
        losses.append(paired_interval(lost[None].numpy(), groups=groups))
        if progress:
            progress(done, len(places))
    ordered = iter(losses)
    return Importance(accuracy(whole), [[next(ordered) for _ in range(heads_of(a))] for a in attentions], len(whole))
