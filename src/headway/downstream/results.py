"""How good a classifier is on pictures that it was not trained on."""

import numpy as np
from sklearn.metrics import average_precision_score, f1_score
from torch import Tensor

from headway.data.picked import Pictures
from headway.downstream.classifier import Classifier
from headway.measure.calibration import calibration_error
from headway.measure.metrics import accuracy, accuracy_interval, balanced_accuracy


def judge(
    classifier: Classifier, images: Pictures, labels: Tensor, groups: np.ndarray | None = None
) -> dict[str, float]:
    """Test.

    Args:
        classifier: What is tested.
        images: N C S S.
        labels: N, int64; or N K of 0 and 1.
        groups: N, equal where pictures belong together and are one piece of evidence; none: no two do.

    Returns:
        accuracy, low, high: per cent of pictures named rightly and its 95 % interval (with several labels a picture: of
        pictures whose every label was told, and no other); calibration_error in points; balanced_accuracy, or
        mean_average_precision and f1 (means over the classes that occur) in per cent.
    """
    said = classifier.probabilities(images)  # N K
    if classifier.several:
        right = ((said >= 0.5) == (labels > 0)).all(1)  # N
        further = several_labels(said, labels)
    else:
        named = said.argmax(1)  # N
        right, further = named == labels, {"balanced_accuracy": balanced_accuracy(named, labels)}
    low, high = accuracy_interval(right, groups)
    numbers = {"accuracy": accuracy(right), "low": low, "high": high, **further}
    return {
        name: round(value, 2)
        for name, value in {**numbers, "calibration_error": calibration_error(said, labels)}.items()
    }


def several_labels(said: Tensor, labels: Tensor) -> dict[str, float]:
    """Means over the classes that some picture has, in per cent, of average precision and of F1 at probability 1/2.

    Args:
        said: N K, probabilities.
        labels: N K of 0 and 1.
    """
    truth, scores = labels.cpu().numpy() > 0, said.cpu().numpy()
    occurs = truth.any(0)  # K
    if not occurs.any():
        return {"mean_average_precision": 0.0, "f1": 0.0}
    truth, scores = truth[:, occurs], scores[:, occurs]
    pairs = zip(truth.T, scores.T >= 0.5, strict=True)  # class by class: one column alone sklearn takes for two classes
    return {
        "mean_average_precision": 100.0 * float(np.mean(average_precision_score(truth, scores, average=None))),
        "f1": 100.0 * float(np.mean([f1_score(*pair, zero_division=0.0) for pair in pairs])),
    }
