"""Analysis of attention maps: rollout, distance, entropy, and the importance of each attention head."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from headway.attention_viz.attention_hooks import ablate_attention_head, attention_layers, attention_maps
from headway.metrics.intervals import Interval, accuracy, paired_interval
from headway.protocol import Backbone
from headway.utils.progress import Progress

IMAGES_PER_PASS = 8
"""Small, because the weights of all layers are in memory at once."""


class AttentionStatistics(NamedTuple):
    """Statistics of each attention head, averaged over images and over all tokens that attend.

    Attributes:
        distance: Layers by attention heads: mean attention distance in pixels.
        entropy: Layers by attention heads: entropy of the weights in bits.
    """

    distance: list[list[float]]
    entropy: list[list[float]]


class AttentionHeadImportance(NamedTuple):
    """Loss of accuracy in the downstream task where one attention head is ablated.

    Attributes:
        accuracy: Per cent of held-out images that the whole network classifies correctly.
        accuracy_drop: Layers by attention heads: points of accuracy lost, with a 95 % interval over images; below 0
            where the network is better without the attention head.
        images: Number of held-out images.
    """

    accuracy: float
    accuracy_drop: list[list[Interval]]
    images: int


def patch_attention(maps: Tensor, token: int | None, num_prefix_tokens: int) -> Tensor:
    """Attention to the patches, of one token or of the mean of all patches: ... T T -> ... N.

    Args:
        maps: Weights, or a rollout.
        token: Index of the token that attends, prefix tokens included; None: the mean over all patches.
        num_prefix_tokens: P.
    """
    row = maps[..., num_prefix_tokens:, :].mean(-2) if token is None else maps[..., token, :]  # ... T
    return row[..., num_prefix_tokens:]  # ... N


def attention_rollout(weights: Sequence[Tensor]) -> Tensor:
    """Attention through all layers: how much each input token contributes to each output token.

    Attention heads are averaged and mixed half and half with the identity (the residual), and layers are multiplied.
    Abnar and Zuidema, "Quantifying attention flow in transformers", 2020 (https://arxiv.org/abs/2005.00928).

    Args:
        weights: One B h T T per layer, first layer first.

    Returns:
        B T T, rows sum to one.
    """
    rollout = torch.eye(weights[0].shape[-1]).to(weights[0])  # T T
    for layer in weights:
        rollout = (layer.mean(1) + torch.eye(layer.shape[-1]).to(layer)) / 2 @ rollout  # B T T
    return rollout


def mean_attention_distance(weights: Tensor, grid: tuple[int, int], patch_size: int) -> Tensor:
    """Mean distance of a patch from what it attends to, in pixels of the view.

    Dosovitskiy et al., "An image is worth 16x16 words", 2021 (https://arxiv.org/abs/2010.11929), figure 7. Prefix
    tokens are left out on both sides.

    Args:
        weights: B h T T.
        grid: Rows and columns of patches.
        patch_size: Side of a patch in pixels.

    Returns:
        h, averaged over images and patches.
    """
    count = math.prod(grid)
    positions = torch.cartesian_prod(*(torch.arange(n).to(weights) * patch_size for n in grid)).view(count, 2)  # N 2
    distances = (positions[:, None] - positions[None]).norm(dim=-1)  # N N
    patches = weights[..., -count:, -count:]  # B h N N
    shares = patches / patches.sum(-1, keepdim=True).clamp_min(1e-12)  # B h N N
    return (shares * distances).sum(-1).mean((0, 2))  # h


def attention_entropy(weights: Tensor) -> Tensor:
    """Entropy of the weights in bits, from 0 (one token gets all) to log2 T (uniform): B h T T -> h, averaged."""
    return torch.special.entr(weights).sum(-1).mean((0, 2)) / math.log(2)  # h


def attention_statistics(backbone: Backbone, images: Tensor) -> AttentionStatistics:
    """Distance and entropy of every attention head over images, N C H W in [0, 1]; raises as ``attention_maps``."""
    mean = torch.zeros(0)
    for part in images.split(IMAGES_PER_PASS):
        maps = attention_maps(backbone, part)
        rows = [
            (mean_attention_distance(w, maps.grid, backbone.patch_size), attention_entropy(w)) for w in maps.weights
        ]
        share = torch.stack([torch.stack(pair) for pair in rows]).double() * (len(part) / len(images))  # L 2 h
        mean = share if not len(mean) else mean + share
    return AttentionStatistics(mean[:, 0].tolist(), mean[:, 1].tolist())


def attention_head_importance(
    backbone: Backbone, correct_fn: Callable[[], Tensor], progress: Progress | None = None,
    groups: np.ndarray | None = None,
) -> AttentionHeadImportance:  # fmt: skip
    """The importance of each attention head for the downstream task, by ablating one after the other.

    Args:
        backbone: A ViT of this package or of timm.
        correct_fn: Returns which held-out images (N, bool) the network in its current state classifies correctly.
        progress: Called with the number of attention heads done and their total.
        groups: N, equal for held-out images of one group, as for ``paired_interval``.
    """
    layers = attention_layers(backbone)
    heads = [(layer, head) for layer in layers for head in range(layer.num_heads)]
    correct = correct_fn()  # N
    drops = []
    for done, (layer, head) in enumerate(heads, 1):
        with ablate_attention_head(layer, head):
            lost = correct.double() - correct_fn().double()  # N, each in {-1, 0, 1}
        drops.append(paired_interval(lost[None].numpy(), groups=groups))
        if progress:
            progress(done, len(heads))
    ordered = iter(drops)
    return AttentionHeadImportance(
        accuracy(correct), [[next(ordered) for _ in range(layer.num_heads)] for layer in layers], len(correct)
    )
