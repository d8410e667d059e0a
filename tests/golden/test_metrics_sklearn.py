"""Metrics against scikit-learn, and against slow, obvious loops."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from headway.metrics.intervals import balanced_accuracy
from headway.metrics.knn import knn_accuracy, knn_scores
from headway.metrics.linear_probe import fit_linear
from headway.metrics.representation import alignment, effective_rank, feature_std, uniformity


def blobs(count: int, dim: int, num_classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of unequal scales and correlated coordinates, off center."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % num_classes
    centers = torch.randn(num_classes, dim, generator=g)
    x = (torch.randn(count, dim, generator=g) + centers[labels]) @ torch.randn(dim, dim, generator=g)
    return x * torch.logspace(-2, 2, dim) + 3, labels


@pytest.mark.parametrize("k", [1, 20, 500])
def test_knn_equals_scikit_learn(k):
    x, y = blobs(200, 6, 5)
    bank, bank_labels, queries = x[:150].double(), y[:150], x[150:].double()
    k_there = min(k, 150)
    theirs = KNeighborsClassifier(
        k_there, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(bank.numpy(), bank_labels.numpy())
    ours = knn_scores(bank, bank_labels, queries, 5, k=k)
    np.testing.assert_allclose(ours.numpy(), theirs.predict_proba(queries.numpy()), atol=1e-10)
    accuracy = 100 * theirs.score(queries.numpy(), y[150:].numpy())
    assert knn_accuracy(bank, bank_labels, queries, y[150:], 5, k=k) == pytest.approx(accuracy)


def test_knn_equals_a_loop():
    x, y = blobs(60, 4, 3)
    bank, labels, queries = x[:50].double(), y[:50], x[50:].double()
    expected = torch.zeros(10, 3, dtype=torch.float64)
    for q, query in enumerate(queries):
        cosines = [float(query @ row / (query.norm() * row.norm())) for row in bank]
        for i in sorted(range(50), key=lambda i: -cosines[i])[:7]:
            expected[q, labels[i]] += np.exp(cosines[i] / 0.1)
    expected /= expected.sum(1, keepdim=True)
    torch.testing.assert_close(knn_scores(bank, labels, queries, 3, k=7, temperature=0.1), expected)


@pytest.mark.parametrize(("count", "dim", "num_classes"), [(300, 20, 4), (40, 60, 3), (120, 10, 2)])
@pytest.mark.parametrize("inverse_l2", [0.003, 1.0])
def test_linear_probe_equals_scikit_learn(count, dim, num_classes, inverse_l2):
    x, y = blobs(count, dim, num_classes)
    scaler = StandardScaler().fit(x.double().numpy())
    theirs = LogisticRegression(C=inverse_l2, tol=1e-9, max_iter=20000)
    theirs.fit(scaler.transform(x.double().numpy()), y.numpy())
    expected = theirs.predict_proba(scaler.transform(x.double().numpy()))
    ours = fit_linear(x.double(), y, num_classes, inverse_l2)
    probabilities = ours.logits(x.double()).softmax(1)
    np.testing.assert_allclose(probabilities.numpy(), expected, atol=2e-5)
    weight = (ours.weight * torch.from_numpy(scaler.scale_)).numpy()  # K D, on standardized features
    there = theirs.coef_ if num_classes > 2 else np.concatenate([-theirs.coef_, theirs.coef_]) / 2
    np.testing.assert_allclose(weight, there, atol=2e-5)
    rows = np.arange(count)
    loss, loss_there = -np.log(probabilities.numpy()[rows, y]).mean(), -np.log(expected[rows, y]).mean()
    assert loss == pytest.approx(loss_there, abs=1e-6)


def test_balanced_accuracy_equals_scikit_learn():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 4])
    predicted = torch.tensor([0, 0, 0, 1, 1, 2, 4])
    expected = (3 / 4 + 1 / 2 + 1) / 3
    assert balanced_accuracy(predicted, labels) == pytest.approx(100 * expected)
    there = balanced_accuracy_score(labels[:6], predicted[:6].clamp(max=1))
    assert balanced_accuracy(predicted[:6].clamp(max=1), labels[:6]) == pytest.approx(100 * there)


def test_representation_metrics_equal_numpy():
    x, _ = blobs(30, 7, 3)
    y = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    a, b = x.double().numpy(), y.double().numpy()
    sigma = np.sqrt(np.maximum(np.linalg.eigvalsh(a.T @ a), 0))
    p = sigma / sigma.sum()
    assert effective_rank(x) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-6)
    unit, other = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (a, b))
    assert feature_std(x) == pytest.approx(unit.std(0, ddof=1).mean() * np.sqrt(7))
    assert alignment(x, y) == pytest.approx(np.mean([((u - v) ** 2).sum() for u, v in zip(unit, other, strict=True)]))
    pairs = [((unit[i] - unit[j]) ** 2).sum() for i in range(30) for j in range(i)]
    assert uniformity(x) == pytest.approx(np.log(np.mean(np.exp(-2 * np.array(pairs)))))
