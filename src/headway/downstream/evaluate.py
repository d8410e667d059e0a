"""Test metrics of a classifier, on images that it was not trained on."""

import numpy as np
from torch import Tensor

from headway.data.dataset.subset import Images
from headway.downstream.classifier import Classifier
from headway.metrics.calibration import calibration_error
from headway.metrics.intervals import accuracy, accuracy_interval


def evaluate(
    classifier: Classifier, images: Images, labels: Tensor, groups: np.ndarray | None = None
) -> dict[str, float]:
    """Compute the test metrics of a classifier.

    Args:
        classifier: The classifier to test.
        images: N C S S.
        labels: N or N K, as the classifier's target encodes them.
        groups: N, equal for images that are not independent of one another; None: all are independent.

    Returns:
        accuracy, low, high: accuracy in percent and its 95 % interval (of a multilabel classifier: the share of images
        whose labels are all predicted, and no others); calibration_error in points; and the target's own metrics.
    """
    probs = classifier.predict_proba(images)  # N K
    target = classifier.target
    correct = target.correct(probs, labels)  # N
    low, high = accuracy_interval(correct, groups)
    metrics = {"accuracy": accuracy(correct), "low": low, "high": high, **target.metrics(probs, labels)}
    metrics["calibration_error"] = calibration_error(probs, labels)
    return {name: round(value, 2) for name, value in metrics.items()}
