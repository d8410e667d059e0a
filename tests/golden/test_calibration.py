"""Temperature and calibration error against scikit-learn and slow, obvious implementations."""

import math

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from headway.metrics.calibration import calibration_error, fit_temperature, log_loss, probabilities


def overconfident(count: int = 400, num_classes: int = 4, sharpness: float = 3.0, seed: int = 0):
    """Logits, and labels drawn from softmax(logits / sharpness): the right temperature is near ``sharpness``."""
    g = torch.Generator().manual_seed(seed)
    logits = sharpness * 1.5 * torch.randn(count, num_classes, generator=g, dtype=torch.float64)
    labels = (logits / sharpness).softmax(1).multinomial(1, generator=g)[:, 0]
    return logits, labels


def test_temperature_equals_scikit_learn():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 3
    x = (torch.randn(300, 5, generator=g) + torch.randn(3, 5, generator=g)[y]).double().numpy()
    there = LogisticRegression(C=100.0).fit(x[:40], y[:40].numpy())
    scaled = CalibratedClassifierCV(FrozenEstimator(there), method="temperature").fit(x[40:], y[40:].numpy())
    logits = torch.from_numpy(there.decision_function(x[40:]))
    ours = probabilities(logits, fit_temperature(logits, y[40:]))
    np.testing.assert_allclose(ours.numpy(), scaled.predict_proba(x[40:]), atol=1e-4)


@pytest.mark.parametrize("multilabel", [False, True])
def test_temperature_is_where_the_log_loss_is_lowest(multilabel):
    logits, labels = overconfident()
    if multilabel:
        g = torch.Generator().manual_seed(1)
        labels = (torch.rand(logits.shape, generator=g) < (logits / 3).sigmoid()).double()
    found = fit_temperature(logits, labels)
    assert 2.4 < found < 3.6
    losses = {t: slow_loss(logits, labels, t) for t in np.linspace(0.98 * found, 1.02 * found, 9)}
    assert min(losses, key=losses.__getitem__) == pytest.approx(found)
    assert log_loss(logits, labels, found) == pytest.approx(losses[min(losses, key=losses.__getitem__)])


def slow_loss(logits, labels, temperature):
    total = 0.0
    for i, row in enumerate(logits.tolist()):
        z = [value / temperature for value in row]
        if labels.dim() == 1:
            total -= z[labels[i]] - math.log(sum(math.exp(value) for value in z))
        else:
            p = [1 / (1 + math.exp(-value)) for value in z]
            total -= sum(math.log(p[k] if labels[i, k] else 1 - p[k]) for k in range(len(z))) / len(z)
    return total / len(logits)


def test_temperature_at_the_ends():
    logits, labels = overconfident()
    logits_of_labels = torch.nn.functional.one_hot(labels, 4).double()
    assert fit_temperature(logits_of_labels, labels) == pytest.approx(
        math.exp(-8)
    )  # all correct: T is as small as possible
    assert 0.1 < fit_temperature(logits_of_labels, labels, pseudo_count=1.0) < 1  # one unknown label keeps T larger
    assert fit_temperature(-logits_of_labels, labels) == pytest.approx(math.exp(8))  # all wrong: uniform probabilities
    assert fit_temperature(torch.ones(5, 4), labels[:5]) == 1.0
    assert fit_temperature(logits[:0], labels[:0]) == 1.0


def test_calibration_error_equals_a_loop():
    logits, labels = overconfident(150)
    probs = logits.softmax(1)
    total = 0.0
    for b in range(15):
        inside = [i for i in range(150) if b / 15 < float(probs[i].max()) <= (b + 1) / 15]
        if inside:
            accuracy = sum(int(probs[i].argmax()) == int(labels[i]) for i in inside) / len(inside)
            total += len(inside) / 150 * abs(accuracy - sum(float(probs[i].max()) for i in inside) / len(inside))
    assert calibration_error(probs, labels) == pytest.approx(100 * total)
    assert calibration_error((logits / 3).softmax(1), labels) < calibration_error(probs, labels)


def test_multilabel_calibration_error_equals_scikit_learn():
    g = torch.Generator().manual_seed(0)
    p = torch.rand(500, 1, generator=g, dtype=torch.float64)
    y = (torch.rand(500, 1, generator=g) < p**2).double()
    frequency, mean = calibration_curve(y[:, 0].numpy(), p[:, 0].numpy(), n_bins=10)
    sizes = np.histogram(p.numpy(), bins=np.linspace(0, 1, 11))[0]
    assert calibration_error(p, y, bins=10) == pytest.approx(100 * (sizes * np.abs(frequency - mean)).sum() / 500)
