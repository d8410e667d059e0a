"""Clusters and label-free ranks against slow, obvious references, scikit-learn and SciPy."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from scipy.stats import rankdata
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from headway.metrics.clustering import clustering_scores, kmeans, matched_accuracy
from headway.metrics.representation import (
    ALPHA_REQ_FIRST,
    alpha_req,
    covariance_eigenvalues,
    effective_rank,
    lidar,
    spearman,
)


def some(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def partitions(seed, count=40, num_classes=4):
    return torch.randint(num_classes, (2, count), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(5))
def test_clustering_scores_against_loops(seed):
    clusters, labels = partitions(seed)
    n, found = len(labels), clustering_scores(clusters, labels)
    best = max(
        sum(int(match[c] == y) for c, y in zip(clusters.tolist(), labels.tolist(), strict=True))
        for match in itertools.permutations(range(4))
    )
    assert found.accuracy == pytest.approx(100 * best / n)

    information, entropies = 0.0, [0.0, 0.0]
    for a in range(4):
        for axis, part in enumerate((clusters, labels)):
            p = float((part == a).double().mean())
            entropies[axis] -= p * math.log(p) if p else 0
        for b in range(4):
            both = float(((clusters == a) & (labels == b)).double().mean())
            independent = float((clusters == a).double().mean() * (labels == b).double().mean())
            information += both * math.log(both / independent) if both else 0
    assert found.nmi == pytest.approx(information / (sum(entropies) / 2))

    same, in_clusters, in_labels, pairs = 0, 0, 0, 0
    for i, j in itertools.combinations(range(n), 2):
        first, second = bool(clusters[i] == clusters[j]), bool(labels[i] == labels[j])
        same, in_clusters, in_labels, pairs = (
            same + (first and second),
            in_clusters + first,
            in_labels + second,
            pairs + 1,
        )
    expected = in_clusters * in_labels / pairs
    assert found.ari == pytest.approx((same - expected) / ((in_clusters + in_labels) / 2 - expected))
    assert found.nmi == normalized_mutual_info_score(labels, clusters)
    assert found.ari == adjusted_rand_score(labels, clusters)


def test_clusters_are_matched_whatever_their_numbers_and_their_count():
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    assert clustering_scores(torch.tensor([5, 5, 0, 0, 1, 1]), labels) == (1.0, 1.0, 100.0)
    assert matched_accuracy(torch.zeros(6, dtype=torch.int64), labels) == pytest.approx(100 / 3)
    assert matched_accuracy(torch.arange(6), labels) == pytest.approx(50)


def test_kmeans_finds_separated_clusters():
    centers, labels = 5 * torch.eye(6)[:4].double(), torch.arange(80) % 4
    features = centers[labels] + 0.3 * some(80, 6)
    assert clustering_scores(kmeans(features, 4), labels).accuracy == 100
    assert torch.equal(kmeans(features, 4), kmeans(7 * features, 4)), "only directions count"
    with pytest.raises(ValueError, match="cannot make 81 clusters"):
        kmeans(features, 81)


def slow_lidar(views, delta):
    n, v, d = views.shape
    middle = sum(views[i, a] for i in range(n) for a in range(v)) / (n * v)
    between, within = np.zeros((d, d)), np.zeros((d, d))
    for i in range(n):
        mean = sum(views[i, a] for a in range(v)) / v
        between += np.outer(mean - middle, mean - middle) / n
        for a in range(v):
            within += np.outer(views[i, a] - mean, views[i, a] - mean) / (n * v)
    values = eigh(between, within + delta * np.eye(d), eigvals_only=True)  # those of S_w^-1 S_b
    probs = np.clip(values, 0, None) / np.clip(values, 0, None).sum()
    return math.exp(-sum(p * math.log(p) for p in probs if p > 0))


@pytest.mark.parametrize("delta", [1e-4, 0.3])
def test_lidar_against_loops(delta):
    views = some(30, 1, 6) * torch.tensor([3.0, 2, 1, 1, 0.5, 0.1]) + 0.4 * some(30, 3, 6, seed=1)
    assert lidar(views, delta) == pytest.approx(slow_lidar(views.numpy(), delta))


def test_lidar_does_not_count_what_views_disagree_on():
    """Two directions tell images apart; six more are noise, which RankMe counts as features."""
    signal = torch.cat([some(400, 1, 2).expand(-1, 8, -1), torch.zeros(400, 8, 6)], 2)
    noise = torch.cat([torch.zeros(400, 8, 2), some(400, 8, 6, seed=1)], 2)
    views = signal + noise + 0.05 * some(400, 8, 8, seed=2)
    assert lidar(views) < 2.5 < 7 < effective_rank(views[:, 0])
    with pytest.raises(ValueError, match="N V D"):
        lidar(views[:, 0])


def test_the_spectrum_is_that_of_the_covariance():
    features = some(50, 7) @ some(7, 7, seed=1) + 3
    np.testing.assert_allclose(covariance_eigenvalues(features), np.linalg.eigvalsh(np.cov(features.numpy().T))[::-1])


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_alpha_req_finds_a_power_law_and_equals_weighted_least_squares(alpha):
    basis = torch.linalg.qr(some(400, 60) - some(400, 60).mean(0))[0]  # orthonormal, centered
    scale = torch.arange(1, 61, dtype=torch.float64) ** (-alpha / 2)
    assert alpha_req(basis * scale) == pytest.approx(alpha)
    rough = basis * scale * (1 + 0.3 * torch.rand(60, generator=torch.Generator().manual_seed(0)))
    values, j = covariance_eigenvalues(rough).numpy(), np.arange(ALPHA_REQ_FIRST, 51)
    slope = np.polyfit(np.log(j), np.log(values[ALPHA_REQ_FIRST - 1 : 50]), 1, w=j**-0.5)[
        0
    ]  # polyfit squares its weights
    assert alpha_req(rough) == pytest.approx(-slope)
    assert alpha_req(torch.ones(20, 8)) == math.inf


def test_spearman_is_the_correlation_of_ranks_or_none():
    a, b = some(9).tolist(), some(9, seed=1).tolist()
    assert spearman(a, b) == pytest.approx(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
    assert spearman([1, 2], [2, 1]) is None and spearman([1, 1, 1], [1, 2, 3]) is None
