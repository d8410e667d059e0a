"""Weighted k nearest neighbors: how well features separate classes, without any training on labels.

Wu et al., "Unsupervised feature learning via non-parametric instance discrimination", 2018
(https://arxiv.org/abs/1805.01978), with the settings of Caron et al., "Emerging properties in self-supervised vision
transformers", 2021 (https://arxiv.org/abs/2104.14294):

    score(class c) = sum over the k nearest i with label c of exp(cosine(query, i) / temperature)
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.metrics.intervals import accuracy
from headway.utils.threads import torch_threads, unstalled_threads

MAX_SIMILARITIES = 1 << 24
"""Similarities in memory at a time: queries come in chunks of MAX_SIMILARITIES / B rows (64 MiB in float32)."""


def knn_scores(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, num_classes: int, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Votes of the nearest neighbors, scaled so that each query's sum to one.

    Args:
        bank: B D, features of labeled images, of any length; they are normalized here.
        bank_labels: B, int64 in 0..K-1.
        queries: Q D.
        num_classes: K.
        k: Number of neighbors that vote; the whole bank where it is smaller.
        temperature: The smaller it is, the more the nearest neighbors dominate.

    Returns:
        Q K, floating point, rows that sum to one.

    Raises:
        ValueError: The bank is empty, has not one label per row, or ``k`` or ``temperature`` is not positive.
    """
    if len(bank) == 0 or len(bank) != len(bank_labels):
        raise ValueError(
            f"a bank needs at least one row and one label per row, got {len(bank)} and {len(bank_labels)} labels"
        )
    if k < 1 or temperature <= 0:
        raise ValueError(f"k and temperature must be positive, got {k} and {temperature}")
    bank, queries = F.normalize(bank, dim=1), F.normalize(queries, dim=1)
    # In an exported program the number of queries is unknown, so it is not split.
    chunks = (queries,) if torch.compiler.is_exporting() else queries.split(max(1, MAX_SIMILARITIES // len(bank)))
    votes = []
    for chunk in chunks:  # q D
        nearest, index = (chunk @ bank.T).topk(min(k, len(bank)), dim=1)  # q k, twice
        shares = (nearest / temperature).softmax(dim=1)  # q k: exp(s / temperature), scaled without overflow
        empty = shares.new_zeros(shares.shape[0], num_classes)  # q K
        votes.append(empty.scatter_add_(1, bank_labels[index], shares))
    return torch.cat(votes)  # Q K


def knn_accuracy(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor, num_classes: int, k: int = 20
) -> float:
    """Per cent of queries whose label wins the vote. Arguments as in ``knn_scores``; query_labels: Q, int64."""
    with torch_threads(unstalled_threads()):
        return accuracy(knn_scores(bank, bank_labels, queries, num_classes, k).argmax(1) == query_labels)
