"""Trains a method on some labels, by the function that ``headway transfer`` ships, and tests it on the test images."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from headway.backbones.extract import extract_features
from headway.data.dataset.subset import Images, subset
from headway.downstream.classifier import Classifier
from headway.downstream.finetuning.model_selection import Selection, held_out_accuracy
from headway.downstream.labeled_split import LabeledSplit
from headway.downstream.transfer import DEFAULT_FOLDS, TrainedClassifier, train_classifier
from headway.evaluation.methods import Method
from headway.protocol import Backbone


class Score(NamedTuple):
    """The result of a method on one draw of labels.

    Attributes:
        correct: N', bool: whether each test image was classified correctly.
        fold_accuracy: Accuracy on held-out training labels, in [0, 1]; None where it was not asked for, or no image can
            be held out.
    """

    correct: Tensor
    fold_accuracy: float | None


@dataclass(eq=False)
class Evaluator:
    """Trains and tests methods on the same images.

    Features of a frozen backbone are computed once for each image: draws and folds overlap.

    Args:
        split: Images to learn from and to test on.
        folds: Folds of the labels that select how a head is trained by steps, as of ``headway transfer``.
        processes: As in ``FineTuneConfig``, for every training; None: as the method's recipe has it.
    """

    split: LabeledSplit
    folds: int = DEFAULT_FOLDS
    processes: int | None = None
    _features: "WeakKeyDictionary[nn.Module, _FeatureCache]" = field(default_factory=WeakKeyDictionary, init=False)

    def score(self, method: Method, indices: Tensor, seed: int, seed_offset: int = 0) -> Score:
        """Train a method on the labels of ``indices``, and test it.

        Args:
            method: The method; where it belongs to a selection group, its accuracy on folds is computed as well.
            indices: n, int64: the training images that it learns from.
            seed: Of the training.
            seed_offset: Which of the method's backbones is taken.
        """
        classifier, selection = self.train(method, indices, seed, seed_offset)
        fold_accuracy = float("nan")
        if selection:
            fold_accuracy = selection.accuracy
        elif method.selection_group and self.folds:
            backbone = method.backbone(seed_offset, seed)
            data = self.split.training_set(backbone.image_size).subset(indices)
            features = data.with_features(self._cache(backbone).at(backbone, indices))
            fold_accuracy = held_out_accuracy(method.head, features, self.folds, seed)
        return Score(self.correct(classifier), None if fold_accuracy != fold_accuracy else fold_accuracy)

    def train(
        self, method: Method, indices: Tensor, seed: int, seed_offset: int = 0, selection: Selection | None = None
    ) -> TrainedClassifier:
        """Train a method on the labels of ``indices``.

        Args:
            method: The method.
            indices: n, int64: the training images that it learns from.
            seed: Of the training.
            seed_offset: Which of the method's backbones is taken.
            selection: What folds have selected before, to be used again; None: they select now.
        """
        backbone, head = method.backbone(seed_offset, seed), method.head
        if head.recipe and self.processes is not None:
            head = replace(head, recipe=replace(head.recipe, processes=self.processes))
        data = self.split.training_set(backbone.image_size).subset(indices)
        features = self._cache(backbone).at(backbone, indices) if head.fit or head.from_probe else None  # n D
        return train_classifier(
            backbone, data, head, seed=seed, folds=self.folds, features=features, selection=selection
        )

    def correct(self, classifier: Classifier) -> Tensor:
        """N', bool: whether a classifier classifies each test image correctly."""
        backbone = classifier.backbone
        predicted = (
            classifier.predict_features(self._cache(backbone).of_test_images(backbone))
            if backbone in self._features else classifier.predict_proba(self.split.test_images)
        )  # N' K  # fmt: skip
        return predicted.argmax(1) == self.split.test_labels

    def test_features(self, backbone: Backbone) -> Tensor:
        """N' D: the features of the test images."""
        return self._cache(backbone).of_test_images(backbone)

    def _cache(self, backbone: Backbone) -> "_FeatureCache":
        if backbone not in self._features:
            size = backbone.image_size
            images = self.split.training_set(size).view_images
            self._features[backbone] = _FeatureCache(images, self.split.test_images, size)
        return self._features[backbone]


class _FeatureCache:
    """The features of the labeled images by one backbone, each computed when it is first needed.

    The backbone is an argument of each call, since a cache that held it would keep it in memory.

    Args:
        images: The images to learn from.
        test_images: The images to test on.
        size: Side of the view in pixels.
    """

    def __init__(self, images: Images, test_images: Images, size: int):
        self.images, self.test_images, self.size = images, test_images, size
        self._computed, self._row = torch.empty(0), torch.full((len(images),), -1)  # n D, and each image's row in it
        self._of_test_images: Tensor | None = None

    def at(self, backbone: Backbone, indices: Tensor) -> Tensor:
        """N D, the features of the training images with these indices."""
        missing = indices[self._row[indices] < 0]
        if len(missing):
            new = extract_features(backbone, subset(self.images, missing), self.size)
            self._row[missing] = len(self._computed) + torch.arange(len(missing))
            self._computed = torch.cat([self._computed, new]) if len(self._computed) else new
        return self._computed[self._row[indices]]

    def of_test_images(self, backbone: Backbone) -> Tensor:
        """N' D."""
        if self._of_test_images is None:
            self._of_test_images = extract_features(backbone, self.test_images, self.size)
        return self._of_test_images
