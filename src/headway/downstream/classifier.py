"""A trained classifier and its folder: backbone, output layer, class names and input size.

A classifier that is loaded from its folder predicts exactly what it predicted before it was saved.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from headway.backbones.extract import apply_batched, forward_batched
from headway.backbones.weights import cpu_state_dict, load_backbone, save_backbone
from headway.data.dataset.decode_stream import decode_every_image
from headway.data.dataset.subset import Images, ImageSubset
from headway.data.open import open_source
from headway.downstream.heads.layers import apply_head
from headway.downstream.heads.registry import find_head
from headway.downstream.targets import SINGLE, Target, recorded_target
from headway.errors import HeadwayError
from headway.protocol import Backbone, Features
from headway.utils.files import atomic_write, read_json, refuse_existing, write_json

SCHEMA = 1
CLASSIFIER_FILE, HEAD_FILE, BACKBONE_FILE = "classifier.json", "head.safetensors", "model.safetensors"
RANGE_TOLERANCE = 1e-3
"""How far floats may leave [0, 1], by rounding."""
UNSURE = "don't know"
"""The label of an image whose confidence is too low."""


class Classifier(NamedTuple):
    """From images to class probabilities.

    Attributes:
        backbone: The network below the output layer.
        head: B D (or the features that the head asks for) -> B K, logits.
        classes: The names of the K classes.
        size: Side in pixels of the square view that the backbone sees.
        kind: How the head was made: knn, linear, attentive, mlp, finetune or lora.
        temperature: Logits are divided by it, so that the probabilities are calibrated.
        target: What the labels mean: one per image (``SINGLE``), or several or none, each class then having a
            probability of its own (``MULTILABEL``).
        test_set_hash: ``LabeledSplit.test_set_hash`` of the images that were split off for testing; empty where a test
            set was given.
    """

    backbone: Backbone
    head: nn.Module
    classes: tuple[str, ...]
    size: int
    kind: str
    temperature: float = 1.0
    target: Target = SINGLE
    test_set_hash: str = ""

    def predict(self, images: object, min_confidence: float = 0.0) -> list[str]:
        """The label of each image, as ``headway predict`` writes it.

        Args:
            images: As for ``predict_proba``.
            min_confidence: Where the confidence is below this probability, the label is "don't know".

        Returns:
            N labels; where an image may have several, they are separated by ";", and none is an empty text.
        """
        rows = self.predict_proba(images).tolist()  # N K
        return [self.target.write(self.labels_of(row, min_confidence)[0]) for row in rows]

    def predict_proba(self, images: object) -> Tensor:
        """Class probabilities of images.

        Args:
            images: What ``open_source`` opens: a folder, a table, tars; or a list of paths, of Pillow images, of arrays
                (H W C, uint8) or of tensors (C H W); or an array N C H W (uint8, or floats in [0, 1]). They are decoded
                and resized as ``headway predict`` does. A tensor N C H W (uint8, or floats in [0, 1]) is taken as
                decoded already: in the channels of the backbone, and resized as a whole.

        Returns:
            N K, float32; each row sums to one, unless an image may have several labels.

        Raises:
            HeadwayError: The images are of another kind, or one of them cannot be read.
        """
        if isinstance(images, (Tensor, ImageSubset)):
            return self._predict_stored(images)
        source = open_source(images, backbone=self.backbone)
        if not len(source):
            raise HeadwayError("no-images", "there are no images to predict")
        chunks = decode_every_image(source, self.size, "leave it out, or use headway.predict, which skips it")
        return torch.cat([self._predict_stored(chunk) for chunk in chunks])  # N K

    def _predict_stored(self, images: Images) -> Tensor:
        """Class probabilities, N K, of images N C H W in the backbone's pixel format."""
        channels = self.backbone.input_spec.channels
        if len(images.shape) != 4 or images.shape[1] != channels or not len(images):
            raise HeadwayError(
                "image-format", f"a tensor of images must be N x {channels} x H x W, got {tuple(images.shape)}"
            )
        if isinstance(images, Tensor) and images.is_floating_point():
            low, high = (float(value) for value in images.aminmax())
            if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):  # NaN is refused as well
                raise HeadwayError(
                    "image-format", f"a tensor of floats must lie in [0, 1], got {low:g} to {high:g}; divide it by 255?"
                )
        self.head.eval()

        def predict(features: Features) -> Tensor:
            return self.target.probabilities(apply_head(self.head, features), self.temperature)

        return forward_batched(self.backbone, predict, images, self.size)

    def predict_features(self, features: Tensor) -> Tensor:
        """Class probabilities, N K, of pooled features, N D; the same bits as ``predict_proba`` of the images."""
        self.head.eval()
        return apply_batched(lambda rows: self.target.probabilities(self.head(rows), self.temperature), features)

    def labels_of(self, row: Sequence[float], min_confidence: float = 0.0) -> tuple[list[str], float]:
        """The labels of one image, and their confidence in [0, 1].

        Args:
            row: Its K probabilities.
            min_confidence: Where the confidence is below it, the label is "don't know".
        """
        labels, confidence = self.target.predict(row, self.classes)
        return ([UNSURE] if confidence < min_confidence else labels), confidence

    def save(self, folder: str | Path) -> None:
        """Write the folder. Raises HeadwayError where it exists or cannot be written."""
        folder = refuse_existing(Path(folder))

        def write(temporary: Path) -> None:
            temporary.mkdir(parents=True)
            save_backbone(self.backbone, temporary / BACKBONE_FILE)
            save_file(cpu_state_dict(self.head), temporary / HEAD_FILE)
            record = {
                "schema": SCHEMA, "kind": self.kind, "classes": list(self.classes), "size": self.size,
                "temperature": self.temperature, "target": self.target.name, "test_set_hash": self.test_set_hash,
            }  # fmt: skip
            write_json(temporary / CLASSIFIER_FILE, record)

        atomic_write(folder, write)


def load_classifier(folder: str | Path, target: str | Target = "") -> Classifier:
    """Read what ``Classifier.save``, or ``headway transfer``, wrote.

    Args:
        folder: The classifier's folder.
        target: What its labels mean, where that is a target of your own (``my_package.my_file:TARGET``). A record may
            come from elsewhere, so no module is imported that it alone names.

    Raises:
        HeadwayError: It is missing or damaged, or its target is neither one of ``TARGETS`` nor the given one.
    """
    folder = Path(folder)
    if not (folder / CLASSIFIER_FILE).is_file():
        hint = "it is a run: make a classifier of it with headway transfer" if (folder / "run.json").exists() else (
            "give the folder that headway transfer wrote")  # fmt: skip
        raise HeadwayError("classifier-not-found", f"no classifier in '{folder}'; {hint}")
    record = read_json(folder / CLASSIFIER_FILE)
    try:
        classes, kind = tuple(record["classes"]), str(record["kind"])
        backbone = load_backbone(folder / BACKBONE_FILE)
        head = find_head(kind).restore(load_file(folder / HEAD_FILE), backbone.embed_dim, len(classes))
        size, temperature = int(record["size"]), float(record["temperature"])
        target, test_set_hash = recorded_target(str(record["target"]), target), str(record["test_set_hash"])
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise HeadwayError(
            "classifier-damaged",
            f"the classifier in '{folder}' is damaged: {error}; make it again with headway transfer",
        ) from error
    return Classifier(backbone, head, classes, size, kind, temperature, target, test_set_hash)
