"""What the labels of images mean: one class per image, or several. A new target is one entry of ``TARGETS``.

A target encodes labels in one of two ways, which splits, class weights, calibration and the linear probe understand:

    exclusive:    N, int64 in 0..K-1: one of K classes; p = softmax(z / T)
    independent:  N K of 0 and 1: each class by itself;  p = sigmoid(z / T)

with the logits z and the temperature T. A target of a user's own is given as ``my_package.my_file:TARGET``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.data.sources.base import sorted_classes
from headway.errors import HeadwayError, unknown_name_error
from headway.metrics.calibration import probabilities
from headway.metrics.intervals import balanced_accuracy
from headway.metrics.multilabel import multilabel_metrics
from headway.utils.user_object import load_object

LABEL_SEPARATOR = ";"
"""Separates the labels of an image that has several; alone, it says that the image has none of them."""


class Target(ABC):
    """How labels are read, learned, predicted, judged and written."""

    name: str
    """By which the command line and saved classifiers know it."""
    independent: bool
    """Whether each class has a probability of its own, and labels are encoded N K."""

    def names(self, text: str) -> Sequence[str]:
        """The names in one label, as a folder's name or a table has it."""
        return (text,)

    def classes(self, texts: Sequence[str]) -> tuple[str, ...]:
        """The names of the K outputs, from the different labels of the images."""
        return tuple(texts)

    @abstractmethod
    def encode(self, texts: Sequence[str], classes: tuple[str, ...]) -> Tensor:
        """Labels as they are learned.

        Args:
            texts: N labels.
            classes: The K outputs.

        Returns:
            N, int64 in 0..K-1; or N K of 0 and 1, float32, where classes are ``independent``.
        """

    def loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """The loss of each image, B, or where classes are independent of each class as well, B K.

        Args:
            logits: B K.
            labels: B or B K, as encoded.
            smoothing: Label smoothing in [0, 1): the share that is spread evenly.
        """
        if not self.independent:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")  # B
        labels = labels.to(logits)  # B K
        smoothed = labels + smoothing * (0.5 - labels)  # B K
        return F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")  # B K

    def probabilities(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        """N K -> N K, in [0, 1]."""
        return probabilities(logits, temperature, self.independent)

    @abstractmethod
    def predict(self, row: Sequence[float], classes: tuple[str, ...]) -> tuple[list[str], float]:
        """The predicted names of one image, and their confidence in [0, 1].

        Args:
            row: Its K probabilities.
            classes: The K outputs.
        """

    def correct(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        """N, bool: whether the prediction is that of the label.

        Args:
            probabilities: N K.
            labels: N or N K, as encoded.
        """
        if self.independent:
            return ((probabilities >= 0.5) == (labels > 0)).all(1)
        return probabilities.argmax(1) == labels

    def metrics(self, probabilities: Tensor, labels: Tensor) -> dict[str, float]:
        """Test metrics besides accuracy and calibration, by name.

        Args:
            probabilities: N K.
            labels: N or N K, as encoded.
        """
        return {}

    def write(self, names: Sequence[str]) -> str:
        """Predicted names as one label of a table."""
        return LABEL_SEPARATOR.join(names)


class SingleLabel(Target):
    """One class per image."""

    name, independent = "single", False

    def encode(self, texts: Sequence[str], classes: tuple[str, ...]) -> Tensor:
        """N, int64."""
        index = {name: i for i, name in enumerate(classes)}
        return torch.tensor([index[text] for text in texts], dtype=torch.int64)

    def predict(self, row: Sequence[float], classes: tuple[str, ...]) -> tuple[list[str], float]:
        """The most probable class, and its probability."""
        best = max(range(len(row)), key=row.__getitem__)
        return [classes[best]], row[best]

    def metrics(self, probabilities: Tensor, labels: Tensor) -> dict[str, float]:
        """balanced_accuracy in percent."""
        return {"balanced_accuracy": balanced_accuracy(probabilities.argmax(1), labels)}


class MultiLabel(Target):
    """Any number of labels per image, separated by ";". Each class has the threshold 1/2."""

    name, independent = "multilabel", True

    def names(self, text: str) -> Sequence[str]:
        """The names between separators."""
        return [name.strip() for name in text.split(LABEL_SEPARATOR) if name.strip()]

    def classes(self, texts: Sequence[str]) -> tuple[str, ...]:
        """All names, sorted."""
        return sorted_classes([name for text in texts for name in self.names(text)])

    def encode(self, texts: Sequence[str], classes: tuple[str, ...]) -> Tensor:
        """N K of 0 and 1."""
        index = {name: i for i, name in enumerate(classes)}
        labels = torch.zeros(len(texts), len(classes))
        for row, text in enumerate(texts):
            labels[row, [index[name] for name in self.names(text)]] = 1.0
        return labels  # N K

    def predict(self, row: Sequence[float], classes: tuple[str, ...]) -> tuple[list[str], float]:
        """The classes with a probability of 1/2 or more, and the lowest confidence of all classes."""
        names = [name for name, p in zip(classes, row, strict=True) if p >= 0.5]
        return names, min(max(p, 1 - p) for p in row)

    def metrics(self, probabilities: Tensor, labels: Tensor) -> dict[str, float]:
        """mean_average_precision and f1 in percent."""
        return multilabel_metrics(probabilities, labels)


SINGLE, MULTILABEL = SingleLabel(), MultiLabel()
TARGETS: dict[str, Target] = {target.name: target for target in (SINGLE, MULTILABEL)}
"""By name."""


def find_target(name: str) -> Target:
    """The target of this name: one of ``TARGETS``, or a user's own as ``my_package.my_file:TARGET``.

    Raises:
        HeadwayError: There is none; the error names those that are known.
    """
    if name in TARGETS:
        return TARGETS[name]
    if ":" not in name:
        raise unknown_name_error("target", name, TARGETS, hint="(or give your own as my_package.my_file:TARGET)")
    target: Target = load_object("target", name, Target)
    target.name = name  # so that a saved classifier finds it again
    return target


def recorded_target(name: str, given: str | Target) -> Target:
    """The target that a saved classifier names: one of ``TARGETS``, or the given one of a user's own.

    Raises:
        HeadwayError: The name is in a record alone, which is no reason to import anything.
    """
    if name in TARGETS:
        return TARGETS[name]
    target = find_target(given) if isinstance(given, str) and given else given
    if not isinstance(target, Target) or target.name != name:
        raise HeadwayError(
            "own-object",
            f"the labels of this classifier mean what '{name}' says, which is code that this version does not have; if "
            f"you trust it, give --target {name} (predict, export), or target= to headway.load_classifier",
        )
    return target


def encode_labels(target: Target, texts: Sequence[str], given: Tensor, classes: tuple[str, ...]) -> Tensor:
    """The encoded labels of images, N or N K; images without a label get a row that means nothing.

    Args:
        target: What the labels mean.
        texts: The different labels.
        given: N, int64: the index of each image's label in ``texts``; -1: it has none.
        classes: The K outputs.
    """
    used = sorted(set(given[given >= 0].tolist()))
    codes = target.encode([texts[i] for i in used], classes)  # T or T K
    shape, kind = ((len(used), len(classes)), torch.float32) if target.independent else ((len(used),), torch.int64)
    if codes.shape != shape or codes.dtype != kind:
        raise HeadwayError(
            "config-invalid",
            f"target {target.name} encodes {len(used)} labels of {len(classes)} classes as {codes.dtype} "
            f"{tuple(codes.shape)}; it must be {kind} {shape}",
        )
    rows = torch.full((len(texts) + 1,), len(used))  # the last row, also of index -1, is of images without a label
    rows[used] = torch.arange(len(used))
    return torch.cat([codes, torch.zeros_like(codes[:1])])[rows[given]]


def present_names(target: Target, texts: Sequence[str], given: Tensor) -> set[str]:
    """The names that some image has; arguments as for ``encode_labels``."""
    indices: Iterable[int] = given[given >= 0].unique().tolist()
    return {name for index in indices for name in target.names(texts[index])}
