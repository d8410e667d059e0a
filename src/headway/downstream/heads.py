"""Output layers for the main task. A head says in ``reads`` which features it wants; else it gets ``pooled``."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.draws import seeded
from headway.measure.knn import knn_scores
from headway.nn.attention import MultiHeadAttention
from headway.protocol import Features


class NearestNeighbours(nn.Module):
    """The output layer of k-NN: the training pictures' features (N D) and labels (N)."""

    def __init__(self, bank: Tensor, labels: Tensor, classes: int):
        super().__init__()
        self.classes = classes
        self.bank: Tensor
        self.labels: Tensor
        self.register_buffer("bank", bank)
        self.register_buffer("labels", labels)

    def forward(self, features: Tensor) -> Tensor:
        """B D -> B K, log of the share of votes."""
        return knn_scores(self.bank, self.labels, features, self.classes).clamp_min(1e-6).log()


class MlpHead(nn.Module):
    """One hidden layer: norm, linear, GELU, linear.

    Args:
        width: D.
        classes: K.
        hidden: M.
    """

    def __init__(self, width: int, classes: int, hidden: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen, self.output = nn.Linear(width, hidden), nn.Linear(hidden, classes)
        nn.init.trunc_normal_(self.output.weight, std=0.01)

    def forward(self, features: Tensor) -> Tensor:
        """B D -> B K."""
        return self.output(F.gelu(self.widen(self.norm(features))))


class AttentivePooling(nn.Module):
    """One learned query looks at the patch tokens through several attention heads, and what it sees is classified.

    In place of the mean over patches, which weighs the background as much as the object. Chen et al., "Context
    autoencoder for self-supervised representation learning", 2022 (https://arxiv.org/abs/2202.03026), probe so.

    Args:
        width: D.
        classes: K.
    """

    reads = "patches"

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, width))
        self.norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, attention_heads_of(width), key_width=width)
        self.output = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.query, std=0.02)
        nn.init.trunc_normal_(self.output.weight, std=0.01)

    def forward(self, patches: Tensor) -> Tensor:
        """B N D -> B K."""
        query = self.query.expand(patches.shape[0], -1, -1)  # B 1 D
        return self.output(self.attention(query, self.norm(patches))[:, 0])


def attention_heads_of(width: int) -> int:
    """How many attention heads of width 64, or the next more that divides D."""
    return next(heads for heads in range(max(width // 64, 1), 0, -1) if width % heads == 0)


def read(head: nn.Module, features: Features) -> Tensor:
    """What a head makes of features: B K."""
    logits: Tensor = head(getattr(features, getattr(head, "reads", "pooled")))
    return logits


FRESH = ("attentive", "mlp")
"""Heads that begin by chance; others that are trained by steps begin as a linear probe."""


def fresh_head(kind: str, width: int, classes: int, seed: int) -> nn.Module:
    """A head with fresh weights, initialised by its own seed: attentive, mlp, or linear for every other kind."""
    with seeded(seed):
        if kind == "attentive":
            return AttentivePooling(width, classes)
        if kind == "mlp":
            return MlpHead(width, classes, hidden=2 * width)
        return nn.Linear(width, classes)


def head_from(kind: str, weights: dict[str, Tensor], classes: int) -> nn.Module:
    """The head of this kind that has these weights. Raises KeyError or RuntimeError where they don't fit."""
    if kind == "knn":
        return NearestNeighbours(weights["bank"], weights["labels"], classes)
    if kind == "attentive":
        head: nn.Module = AttentivePooling(weights["query"].shape[1], classes)
    elif kind == "mlp":
        hidden, width = weights["widen.weight"].shape
        head = MlpHead(width, classes, hidden)
    else:
        head = nn.Linear(weights["weight"].shape[1], classes)
    head.load_state_dict(weights)
    return head.eval()
