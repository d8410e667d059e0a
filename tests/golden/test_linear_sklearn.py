"""The linear probe with class weights and for multilabel data, against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from headway.metrics import logistic_regression
from headway.metrics.class_weights import class_weights
from headway.metrics.linear_probe import fit_linear, fit_probe
from headway.metrics.multilabel import multilabel_metrics
from tests.golden.test_metrics_sklearn import blobs


def sklearn_and_ours(classifier, x, y, num_classes, **options):
    scaled = StandardScaler().fit_transform(x.numpy())
    theirs = classifier.fit(scaled, y.numpy()).predict_proba(scaled)
    logits = fit_linear(x, y, num_classes, 0.1, **options).logits(x)
    return theirs, (logits.softmax(1) if y.dim() == 1 else logits.sigmoid()).numpy()


def test_balanced_classes_equal_scikit_learn():
    x, y = blobs(300, 12, 5)
    y = torch.where(y == 4, 0, y)  # twice as many of class 0
    np.testing.assert_allclose(class_weights(y), compute_class_weight("balanced", classes=np.arange(4), y=y.numpy()))
    options = {"C": 0.1, "tol": 1e-9, "max_iter": 20000, "class_weight": "balanced"}
    theirs, ours = sklearn_and_ours(LogisticRegression(**options), x.double(), y, 4, balance_classes=True)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("balance_classes", [False, True])
def test_multilabel_equals_one_against_the_rest(balance_classes):
    x, y = blobs(240, 10, 4)
    targets = torch.nn.functional.one_hot(y, 4).double()
    targets[::3, 0] = 1
    targets[::7] = 0
    options = {"C": 0.1, "tol": 1e-9, "max_iter": 20000, "class_weight": "balanced" if balance_classes else None}
    theirs, ours = sklearn_and_ours(
        OneVsRestClassifier(LogisticRegression(**options)), x.double(), targets, 4, balance_classes=balance_classes
    )
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_many_rows_start_on_a_subsample_and_reach_the_same_minimum(bfloat16, monkeypatch):
    x, y = blobs(400, 8, 3)
    whole = fit_linear(x.double(), y, 3, 0.1)
    monkeypatch.setattr(logistic_regression, "MIN_ROWS_TO_SUBSAMPLE", 400)
    monkeypatch.setattr(logistic_regression, "MANY_ROWS_TOLERANCE", 0.0)
    monkeypatch.setattr(logistic_regression, "has_fast_bfloat16", lambda x: bfloat16)
    subsampled = fit_linear(x.double(), y, 3, 0.1)
    torch.testing.assert_close(subsampled.logits(x.double()), whole.logits(x.double()), atol=1e-4, rtol=0)


def test_a_probe_is_calibrated():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 4
    x = torch.randn(200, 30, generator=g) + 0.6 * torch.randn(4, 30, generator=g)[y]
    found = fit_probe(x, y, 4)
    assert 0.3 < found.temperature < 3 and found.inverse_l2 > 0
    assert fit_probe(x[:4], y[:4], 4).temperature == 1.0  # one label per class: nothing can be held out


def test_means_over_classes_equal_scikit_learn():
    g = torch.Generator().manual_seed(0)
    probs, targets = torch.rand(60, 3, generator=g), (torch.rand(60, 3, generator=g) < 0.3).float()
    ours = multilabel_metrics(probs, targets)
    precision = average_precision_score(targets.numpy(), probs.numpy(), average="macro")
    assert ours["mean_average_precision"] == pytest.approx(100 * precision)
    assert ours["f1"] == pytest.approx(100 * f1_score(targets.numpy(), probs.numpy() >= 0.5, average="macro"))
    targets[:, 1] = 0  # a class that no test image has is left out
    ours = multilabel_metrics(probs, targets)
    precision = average_precision_score(targets[:, ::2].numpy(), probs[:, ::2].numpy(), average="macro")
    assert ours["mean_average_precision"] == pytest.approx(100 * precision)


def test_a_single_label_is_not_averaged_as_two_classes():
    probs = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.1], [0.7, 0.4]])
    targets = torch.tensor([[1, 0], [1, 0], [1, 0], [0, 0.0]])
    assert multilabel_metrics(probs, targets)["f1"] == pytest.approx(
        100 * 2 * 2 / (2 * 2 + 1 + 1)
    )  # 2 true positives, 1 miss, 1 false positive
