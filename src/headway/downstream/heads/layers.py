"""Output layers of classifiers.

A head names the field of ``Features`` that it reads in ``input_features``; a head without that attribute reads
``pooled``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.metrics.knn import knn_scores
from headway.nn.attention import MultiHeadAttention
from headway.protocol import Features


class NearestNeighborHead(nn.Module):
    """The output layer of k-NN: the training images' features (N D) and labels (N)."""

    def __init__(self, bank: Tensor, labels: Tensor, num_classes: int):
        super().__init__()
        self.num_classes = num_classes
        self.bank = nn.Buffer(bank)
        self.labels = nn.Buffer(labels)

    def forward(self, features: Tensor) -> Tensor:
        """B D -> B K, the logarithm of the share of votes."""
        return knn_scores(self.bank, self.labels, features, self.num_classes).clamp_min(1e-6).log()


class MlpHead(nn.Module):
    """One hidden layer of twice the width: norm, linear, GELU, linear.

    Args:
        embed_dim: D.
        num_classes: K.
    """

    def __init__(self, embed_dim: int, num_classes: int):
        super().__init__()
        self.norm = nn.LayerNorm(embed_dim)
        hidden_dim = 2 * embed_dim
        self.fc1, self.fc2 = nn.Linear(embed_dim, hidden_dim), nn.Linear(hidden_dim, num_classes)
        nn.init.trunc_normal_(self.fc2.weight, std=0.01)

    def forward(self, features: Tensor) -> Tensor:
        """B D -> B K."""
        return self.fc2(F.gelu(self.fc1(self.norm(features))))


class AttentivePooling(nn.Module):
    """Attention from one learned query to the patch tokens, in several heads, and a linear classifier of its output.

    It takes the place of the mean over patches, which weighs the background as much as the object. This is the
    attentive probe of Chen et al., "Context autoencoder for self-supervised representation learning", 2022
    (https://arxiv.org/abs/2202.03026).

    Args:
        embed_dim: D.
        num_classes: K.
    """

    input_features = "patches"

    def __init__(self, embed_dim: int, num_classes: int):
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, embed_dim))
        self.norm = nn.LayerNorm(embed_dim)
        self.attention = MultiHeadAttention(embed_dim, num_heads_for(embed_dim), key_dim=embed_dim)
        self.output = nn.Linear(embed_dim, num_classes)
        nn.init.trunc_normal_(self.query, std=0.02)
        nn.init.trunc_normal_(self.output.weight, std=0.01)

    def forward(self, patches: Tensor) -> Tensor:
        """B N D -> B K."""
        query = self.query.expand(patches.shape[0], -1, -1)  # B 1 D
        return self.output(self.attention(query, self.norm(patches))[:, 0])


def num_heads_for(embed_dim: int) -> int:
    """The number of attention heads: D / 64, or the next smaller number that divides D."""
    return next(heads for heads in range(max(embed_dim // 64, 1), 0, -1) if embed_dim % heads == 0)


def apply_head(head: nn.Module, features: Features) -> Tensor:
    """The logits of a head: B K."""
    return head(getattr(features, getattr(head, "input_features", "pooled")))
