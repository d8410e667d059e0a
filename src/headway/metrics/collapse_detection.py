"""Detect representation collapse in the metrics that a run logs, and name the likely cause.

A collapsed network gives the same output for every image, and its loss can be lower than that of any healthy network.
Each detector reads one metric. A metric is known by the last part of its name (``metrics.training_metrics`` defines
each), so a task inside a combination is watched as it is when it runs by itself (``vicreg.coordinate_std``).
"""

import math
from collections.abc import Callable, Mapping, MutableMapping
from typing import NamedTuple

FILLED_STD, FILLED_RATIO = 0.95, 0.6
"""Targets whose standard deviation once exceeded the first, as behind a batch norm, filled the sphere. For them a drop
below the second, as a share of the maximum, is a sign already."""
TARGET_RATIO, FEATURE_RATIO = 0.5, 0.2
"""The same share for other targets, and for features. Features of a healthy run come to share a large common part
(those of SimCLR, BYOL and Barlow Twins on photographs do), which a linear probe subtracts, so their share is smaller.
"""
MIN_COORDINATE_STD = 0.05
"""Sign below this value, where the loss asks for 1."""
MAX_REDUNDANCY, REDUNDANCY_RISE = 0.4, 1.5
"""Sign where the correlation of different coordinates exceeds the first, and its minimum times the second."""
MIN_MARGINAL_ENTROPY, MIN_INFORMATION = 0.1, 0.01
"""In nats. Sign where the entropy of the mean assignment lies below the first: all images get one prototype. Also where
that entropy exceeds the mean entropy of an assignment by less than the second: assignments say nothing of the image."""
FEW_PROTOTYPES_ENTROPY, ONCE_INFORMATIVE = 1.0, 0.03
"""In nats. Below the first, one or two prototypes take all images. Above it, all prototypes have become alike, which is
a sign if assignments once carried more information than the second."""
MIN_EFFECTIVE_RANK, MIN_FEATURE_STD = 1.5, 0.02
"""Signs for the monitored features; the standard deviation must also have halved."""
PATIENCE, LONG_PATIENCE = 2, 5
"""Readings in a row that must show a sign. A young network may pass through some states for a while, hence the second.
"""
SIGNS_IN_A_ROW = ": signs in a row"
"""Suffix of the history's key that counts them."""
SOFT_TARGETS = "the targets are too soft: the teacher's temperature is too high for the student's"


class Reading(NamedTuple):
    """One metric at one step.

    Attributes:
        name: Full name of the metric.
        value: Its value now.
        extreme: The maximum of the run (for ``redundancy`` the minimum, for entropies the maximum information).
        others: The task's metrics at this step, by the last part of their names.
        history: Extremes of the run, by the metric's full name.
    """

    name: str
    value: float
    extreme: float
    others: Mapping[str, float]
    history: Mapping[str, float]

    @property
    def fall(self) -> str:
        """From the extreme to the value, in words."""
        return f"from {self.extreme:.2f} to {self.value:.2f}"

    @property
    def information(self) -> float:
        """What an assignment says of its image, in nats; ``value`` is a marginal entropy."""
        kind = self.name.rpartition(".")[2].replace("marginal", "assignment")
        return self.value - self.others.get(kind, 0.0)

    @property
    def filled(self) -> bool:
        """Whether these targets are projections that once filled the sphere."""
        return self.extreme > FILLED_STD and bool(self.others.keys() & {"cosine", "contrastive_top1"})


def _likely_cause(others: Mapping[str, float]) -> str:
    metric = next((metric for metric in CAUSES if metric in others), "")
    if metric == "marginal_entropy" and others[metric] - others.get("assignment_entropy", 0.0) < MIN_INFORMATION:
        return SOFT_TARGETS
    return CAUSES.get(metric, "the learning rate is too high")


def _balance_cause(others: Mapping[str, float]) -> str:
    """What should have given every prototype its share: Sinkhorn in SwAV and DINOv2, else centering."""
    if "target_entropy" in others:
        return "the balance over the batch (Sinkhorn) is missing"
    return "the centering is missing or too slow for this learning rate"


def _fell(reading: Reading) -> str:
    return f"{reading.name} fell {reading.fall}"


class Detector(NamedTuple):
    """One sign of collapse.

    Attributes:
        metric: Last part of the metric's name; the same name after ``patch_`` is read as well.
        predicate: Whether a reading shows the sign.
        message: What is wrong.
        patience: Readings in a row that must show it.
        cause: The likely cause, by the task's metrics.
    """

    metric: str
    predicate: Callable[[Reading], bool]
    message: Callable[[Reading], str]
    patience: int = PATIENCE
    cause: Callable[[Mapping[str, float]], str] = _likely_cause


DETECTORS = (
    Detector("feature_std", lambda r: r.value < r.extreme * FEATURE_RATIO and not _distinguishes_images(r), _fell),
    Detector("target_std", lambda r: r.filled and r.value < r.extreme * FILLED_RATIO, _fell, LONG_PATIENCE),
    Detector("target_std", lambda r: not r.filled and r.value < r.extreme * TARGET_RATIO, _fell),
    Detector(
        "coordinate_std",
        lambda r: r.value < MIN_COORDINATE_STD,
        lambda r: f"{r.name} is {r.value:.3f}, and the loss asks for 1",
    ),
    Detector(
        "redundancy",
        lambda r: r.value > max(MAX_REDUNDANCY, REDUNDANCY_RISE * r.extreme),
        lambda r: f"{r.name} rose {r.fall}, so all coordinates carry the same signal",
    ),
    Detector(
        "marginal_entropy",
        lambda r: (
            r.value < MIN_MARGINAL_ENTROPY or (r.information < MIN_INFORMATION and r.value < FEW_PROTOTYPES_ENTROPY)
        ),
        lambda r: f"{r.name} is {r.value:.2f}, so every image gets the same prototype",
        cause=_balance_cause,
    ),
    Detector(
        "marginal_entropy",
        lambda r: r.information < MIN_INFORMATION and r.extreme > ONCE_INFORMATIVE,
        lambda r: (
            f"{r.name} is {r.value:.2f}, and so is the entropy of each assignment, so every image is assigned to all "
            "prototypes alike"
        ),
        LONG_PATIENCE,
        lambda others: SOFT_TARGETS,
    ),
    Detector(
        "effective_rank",
        lambda r: r.value < MIN_EFFECTIVE_RANK,
        lambda r: f"the effective rank of the features is {r.value:.2f}, so all point one way",
    ),
    Detector(
        "std",
        lambda r: r.value < min(MIN_FEATURE_STD, TARGET_RATIO * r.extreme),
        lambda r: f"the standard deviation of the features fell {r.fall}",
    ),
)
"""For each metric the first detector that fires counts."""
CAUSES = {
    "cosine": "the gradient is not stopped at the targets, or the predictor is missing or too weak",  # SimSiam, BYOL
    "sigreg": "the test for a Gaussian is missing or weighs too little",  # LeJEPA
    "coordinate_std": "the variance term is missing or weighs too little",  # VICReg
    "redundancy": "the redundancy term is missing or weighs too little",  # Barlow Twins
    "contrastive_top1": "the negatives are missing, or the temperature is far too high",  # SimCLR, MoCo v3
    "marginal_entropy": "the learning rate is too high, or the teacher follows too fast",  # SwAV, DINO, iBOT, DINOv2
    "target_std": "the teacher is not a slow average: its momentum or ema_horizon is too low, or the gradient is not "
    "stopped at it",  # I-JEPA, data2vec
}
"""What should have kept images apart, by a metric that the task logs; the first that is logged counts."""


def detect_collapse(metrics: Mapping[str, float], history: MutableMapping[str, float]) -> str | None:
    """What is wrong and its likely cause; None where no detector has fired often enough.

    Args:
        metrics: Metrics of a task, or of the features as ``train.loop.feature_monitor`` gives them.
        history: Of the readings before, empty at first: extremes of the run, and signs in a row. It is updated.
    """
    for name, value in metrics.items():
        prefix, _, kind = name.rpartition(".")
        others = {other.rpartition(".")[2]: v for other, v in metrics.items() if other.rpartition(".")[0] == prefix}
        metric, count = kind.removeprefix("patch_"), name + SIGNS_IN_A_ROW
        reading = _read(name, metric, value, others, history)
        fired = next((d for d in DETECTORS if d.metric == metric and d.predicate(reading)), None)
        if fired is None:
            history.pop(count, None)
            continue
        history[count] = history.get(count, 0) + 1
        if history[count] >= fired.patience:
            return f"{fired.message(reading)}; likely {fired.cause(others)}"
    return None


def has_pending_sign(history: Mapping[str, float]) -> bool:
    """Whether any metric showed a sign at its last reading, however many readings in a row."""
    return any(name.endswith(SIGNS_IN_A_ROW) for name in history)


def _read(
    name: str, metric: str, value: float, others: Mapping[str, float], history: MutableMapping[str, float]
) -> Reading:
    """The reading, with the extreme brought up to date where detectors use one."""
    reading = Reading(name, value, value, others, history)
    if metric == "redundancy":
        history[name] = min(value, history.get(name, value))
    elif metric in ("feature_std", "target_std", "std"):
        history[name] = max(value, history.get(name, 0.0))
    elif metric == "marginal_entropy":
        history[name] = max(reading.information, history.get(name, 0.0))
    return reading._replace(extreme=history.get(name, value))


def _distinguishes_images(reading: Reading) -> bool:
    """Whether other metrics of the task, computed from the same features, still tell images apart.

    Then the features only share a large common part, which projections, like a linear probe, subtract.
    """
    others, target = reading.others, reading.others.get("target_std", 0.0)
    widest = reading.history.get(reading.name.replace("feature_std", "target_std"), target)
    information = others.get("marginal_entropy", 0.0) - others.get("assignment_entropy", math.inf)
    decorrelated = others.get("coordinate_std", 0.0) > 2 * MIN_COORDINATE_STD
    return (
        target > FILLED_RATIO * widest
        or information > MIN_INFORMATION
        or decorrelated
        or others.get("redundancy", 1.0) < MAX_REDUNDANCY
    )
