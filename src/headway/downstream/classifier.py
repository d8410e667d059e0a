"""A trained classifier and its folder: backbone, output layer, class names and input size.

A classifier that is loaded from its folder predicts exactly what it predicted before it was saved.
"""

from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from headway.backbones.weights import cpu_state_dict, load_backbone, save_backbone
from headway.data.dataset.subset import Images
from headway.downstream.features.extract import forward_batched
from headway.downstream.heads import apply_head, head_from_state_dict
from headway.errors import HeadwayError
from headway.metrics.calibration import probabilities
from headway.protocol import Features
from headway.utils.files import atomic_write, read_json, refuse_existing, write_json

SCHEMA = 1
CLASSIFIER_FILE, HEAD_FILE, BACKBONE_FILE = "classifier.json", "head.safetensors", "model.safetensors"


class Classifier(NamedTuple):
    """From images to class probabilities.

    Attributes:
        backbone: Any ``protocol.Backbone``.
        head: B D (or the features that the head asks for) -> B K, logits.
        classes: The names of the K classes.
        size: Side in pixels of the square view that the backbone sees.
        kind: How the head was made: knn, linear, attentive, mlp, finetune or lora.
        temperature: Logits are divided by it, so that the probabilities are calibrated.
        multilabel: Whether an image may have several labels, or none; each class then has a probability of its own.
        test_set_hash: ``LabeledSplit.test_set_hash`` of the images that were split off for testing; empty where a test
            set was given.
    """

    backbone: nn.Module
    head: nn.Module
    classes: tuple[str, ...]
    size: int
    kind: str
    temperature: float = 1.0
    multilabel: bool = False
    test_set_hash: str = ""

    def predict_proba(self, images: Images) -> Tensor:
        """Class probabilities of images.

        Args:
            images: N C S S, as ``center_crop_resize`` makes them at ``size``.

        Returns:
            N K; each row sums to one, unless the classifier is ``multilabel``.
        """
        self.head.eval()

        def predict(features: Features) -> Tensor:
            return probabilities(apply_head(self.head, features), self.temperature, self.multilabel)

        return forward_batched(self.backbone, predict, images, self.size)

    def save(self, folder: Path) -> None:
        """Write the folder. Raises HeadwayError where it exists or cannot be written."""
        refuse_existing(folder)

        def write(temporary: Path) -> None:
            temporary.mkdir(parents=True)
            save_backbone(self.backbone, temporary / BACKBONE_FILE)
            save_file(cpu_state_dict(self.head), temporary / HEAD_FILE)
            record = {
                "schema": SCHEMA, "kind": self.kind, "classes": list(self.classes), "size": self.size,
                "temperature": self.temperature, "multilabel": self.multilabel, "test_set_hash": self.test_set_hash,
            }  # fmt: skip
            write_json(temporary / CLASSIFIER_FILE, record)

        atomic_write(folder, write)


def load_classifier(folder: Path) -> Classifier:
    """Read what ``Classifier.save`` wrote. Raises HeadwayError where it is missing or damaged."""
    if not (folder / CLASSIFIER_FILE).is_file():
        hint = "it is a run: make a classifier of it with headway transfer" if (folder / "run.json").exists() else (
            "give the folder that headway transfer wrote")  # fmt: skip
        raise HeadwayError(f"no classifier in '{folder}'; {hint}")
    record = read_json(folder / CLASSIFIER_FILE)
    try:
        classes, kind = tuple(record["classes"]), str(record["kind"])
        head = head_from_state_dict(kind, load_file(folder / HEAD_FILE), len(classes))
        size, temperature = int(record["size"]), float(record["temperature"])
        multilabel, test_set_hash = bool(record["multilabel"]), str(record["test_set_hash"])
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise HeadwayError(
            f"the classifier in '{folder}' is damaged: {error}; make it again with headway transfer"
        ) from error
    backbone = load_backbone(folder / BACKBONE_FILE)
    return Classifier(backbone, head, classes, size, kind, temperature, multilabel, test_set_hash)
