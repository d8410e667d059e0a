"""Weighted k nearest neighbours: how well do the features sort pictures, before anything is trained on labels?

Wu et al., "Unsupervised feature learning via non-parametric instance discrimination", 2018
(https://arxiv.org/abs/1805.01978), with the settings of Caron et al., "Emerging properties in self-supervised vision
transformers", 2021 (https://arxiv.org/abs/2104.14294):

    score(class c) = sum over the k nearest i with label c of exp(cosine(query, i) / temperature)
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.measure.metrics import accuracy

CELLS = 1 << 24
"""Similarities held at a time: queries are taken in pieces of CELLS / B rows (64 MiB in float32)."""


def knn_scores(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, classes: int, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Votes of the nearest neighbours, scaled so that each query's sum to one.

    Args:
        bank: B D, features of labelled pictures, of any length (they are normalised here).
        bank_labels: B, int64 in 0..K-1.
        queries: Q D.
        classes: K.
        k: How many neighbours vote; all of them where the bank holds fewer.
        temperature: The smaller, the more the nearest decide alone.

    Returns:
        Q K, floating point, rows that sum to one.

    Raises:
        ValueError: Where the bank is empty or has not one label a row, or ``k`` or ``temperature`` isn't positive.
    """
    if len(bank) == 0 or len(bank) != len(bank_labels):
        raise ValueError(
            f"a bank needs one label a row and a row at least, got {len(bank)} and {len(bank_labels)} labels"
        )
    if k < 1 or temperature <= 0:
        raise ValueError(f"k and temperature must be positive, got {k} and {temperature}")
    bank, queries = F.normalize(bank, dim=1), F.normalize(queries, dim=1)
    # A program that is written down (headway export) is for any number of queries: there is nothing to count yet.
    pieces = (queries,) if torch.compiler.is_exporting() else queries.split(max(1, CELLS // len(bank)))
    votes = [_votes(piece @ bank.T, bank_labels, classes, min(k, len(bank)), temperature) for piece in pieces]
    return torch.cat(votes)  # Q K


def _votes(similarity: Tensor, bank_labels: Tensor, classes: int, k: int, temperature: float) -> Tensor:
    nearest, index = similarity.topk(k, dim=1)  # Q k, twice
    shares = (nearest / temperature).softmax(dim=1)  # Q k: exp(s / temperature), scaled to sum to one without overflow
    votes = shares.new_zeros(shares.shape[0], classes)
    return votes.scatter_add_(1, bank_labels[index], shares)  # Q K


def knn_accuracy(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Per cent of queries whose label wins the vote. Arguments as for ``knn_scores``, and query_labels: Q, int64."""
    return accuracy(knn_scores(bank, bank_labels, queries, classes, k, temperature).argmax(1) == query_labels)
