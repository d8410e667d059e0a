"""Test metrics of a classifier, on images that it was not trained on."""

import numpy as np
from sklearn.metrics import average_precision_score, f1_score
from torch import Tensor

from headway.data.dataset.subset import Images
from headway.downstream.classifier import Classifier
from headway.metrics.calibration import calibration_error
from headway.metrics.intervals import accuracy, accuracy_interval, balanced_accuracy


def evaluate(
    classifier: Classifier, images: Images, labels: Tensor, groups: np.ndarray | None = None
) -> dict[str, float]:
    """Compute the test metrics of a classifier.

    Args:
        classifier: The classifier to test.
        images: N C S S.
        labels: N, int64; or N K of 0 and 1, where an image may have several labels.
        groups: N, equal for images that are not independent of one another; None: all are independent.

    Returns:
        accuracy, low, high: accuracy in percent and its 95 % interval (of a multilabel classifier: the share of images
        whose labels are all predicted, and no others); calibration_error in points; balanced_accuracy, or of a
        multilabel classifier mean_average_precision and f1 (means over the classes that occur), in percent.
    """
    probs = classifier.predict_proba(images)  # N K
    if classifier.multilabel:
        correct = ((probs >= 0.5) == (labels > 0)).all(1)  # N
        further = multilabel_metrics(probs, labels)
    else:
        predicted = probs.argmax(1)  # N
        correct, further = predicted == labels, {"balanced_accuracy": balanced_accuracy(predicted, labels)}
    low, high = accuracy_interval(correct, groups)
    metrics = {"accuracy": accuracy(correct), "low": low, "high": high, **further}
    metrics["calibration_error"] = calibration_error(probs, labels)
    return {name: round(value, 2) for name, value in metrics.items()}


def multilabel_metrics(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Mean average precision, and mean F1 at a threshold of 0.5, over the classes that some image has, in percent.

    Args:
        probabilities: N K.
        labels: N K of 0 and 1.
    """
    targets, scores = labels.cpu().numpy() > 0, probabilities.cpu().numpy()
    occurs = targets.any(0)  # K
    if not occurs.any():
        return {"mean_average_precision": 0.0, "f1": 0.0}
    targets, scores = targets[:, occurs], scores[:, occurs]
    # class by class: sklearn takes a single column for two classes
    f1 = [f1_score(*pair, zero_division=0.0) for pair in zip(targets.T, scores.T >= 0.5, strict=True)]
    return {
        "mean_average_precision": 100.0 * float(np.mean(average_precision_score(targets, scores, average=None))),
        "f1": 100.0 * float(np.mean(f1)),
    }
