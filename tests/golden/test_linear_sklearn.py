"""The linear probe with weighted classes and with several labels a picture, against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from headway.downstream.results import several_labels
from headway.measure import logistic
from headway.measure.balance import class_weights
from headway.measure.linear import fit_linear, fit_probe
from tests.golden.test_measure_sklearn import blobs


def there_and_here(classifier, x, y, classes, **choices):
    scaled = StandardScaler().fit_transform(x.numpy())
    theirs = classifier.fit(scaled, y.numpy()).predict_proba(scaled)
    logits = fit_linear(x, y, classes, 0.1, **choices).logits(x)
    return theirs, (logits.softmax(1) if y.dim() == 1 else logits.sigmoid()).numpy()


def test_balanced_classes_equal_scikit_learn():
    x, y = blobs(300, 12, 5)
    y = torch.where(y == 4, 0, y)  # twice as many of class 0
    np.testing.assert_allclose(class_weights(y), compute_class_weight("balanced", classes=np.arange(4), y=y.numpy()))
    options = {"C": 0.1, "tol": 1e-9, "max_iter": 20000, "class_weight": "balanced"}
    theirs, ours = there_and_here(LogisticRegression(**options), x.double(), y, 4, balance=True)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("balance", [False, True])
def test_several_labels_equal_one_against_the_rest(balance):
    x, y = blobs(240, 10, 4)
    has = torch.nn.functional.one_hot(y, 4).double()
    has[::3, 0] = 1
    has[::7] = 0
    options = {"C": 0.1, "tol": 1e-9, "max_iter": 20000, "class_weight": "balanced" if balance else None}
    theirs, ours = there_and_here(
        OneVsRestClassifier(LogisticRegression(**options)), x.double(), has, 4, balance=balance
    )
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("half", [False, True])
def test_many_pictures_begin_on_some_of_them_and_end_where_all_do(half, monkeypatch):
    x, y = blobs(400, 8, 3)
    whole = fit_linear(x.double(), y, 3, 0.1)
    monkeypatch.setattr(logistic, "MANY", 400)
    monkeypatch.setattr(logistic, "ENDED", 0.0)
    monkeypatch.setattr(logistic, "fast_in_half", lambda x: half)
    begun = fit_linear(x.double(), y, 3, 0.1)
    torch.testing.assert_close(begun.logits(x.double()), whole.logits(x.double()), atol=1e-4, rtol=0)


def test_a_probe_knows_how_sure_to_be():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 4
    x = torch.randn(200, 30, generator=g) + 0.6 * torch.randn(4, 30, generator=g)[y]
    found = fit_probe(x, y, 4)
    assert 0.3 < found.temperature < 3 and found.strength > 0
    assert fit_probe(x[:4], y[:4], 4).temperature == 1.0  # one label a class: nothing to learn it from


def test_means_over_classes_equal_scikit_learn():
    g = torch.Generator().manual_seed(0)
    said, has = torch.rand(60, 3, generator=g), (torch.rand(60, 3, generator=g) < 0.3).float()
    ours = several_labels(said, has)
    precision = average_precision_score(has.numpy(), said.numpy(), average="macro")
    assert ours["mean_average_precision"] == pytest.approx(100 * precision)
    assert ours["f1"] == pytest.approx(100 * f1_score(has.numpy(), said.numpy() >= 0.5, average="macro"))
    has[:, 1] = 0  # a class that no test picture has is left out
    ours = several_labels(said, has)
    precision = average_precision_score(has[:, ::2].numpy(), said[:, ::2].numpy(), average="macro")
    assert ours["mean_average_precision"] == pytest.approx(100 * precision)


def test_one_label_that_occurs_is_no_pair_of_classes():
    said = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.1], [0.7, 0.4]])
    has = torch.tensor([[1, 0], [1, 0], [1, 0], [0, 0.0]])
    assert several_labels(said, has)["f1"] == pytest.approx(100 * 2 * 2 / (2 * 2 + 1 + 1))  # 2 found, 1 missed, 1 wrong
