"""Metrics of predictions of several labels per image."""

import numpy as np
from torch import Tensor


def multilabel_metrics(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Mean average precision, and mean F1 at a threshold of 0.5, over the classes that some image has, in percent.

    Args:
        probabilities: N K.
        labels: N K of 0 and 1.
    """
    from sklearn.metrics import average_precision_score, f1_score  # imported late: it takes a second

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
