"""A finished recogniser in one folder: backbone, output layer, class names, size. It predicts as it did in process."""

from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from headway.backbones.weights import load_backbone, save_backbone
from headway.data.picked import Pictures
from headway.downstream.features import look
from headway.downstream.heads import NearestNeighbours as NearestNeighbours
from headway.downstream.heads import head_from, read
from headway.errors import HeadwayError
from headway.files import read_json, write_json, write_whole
from headway.measure.calibration import probabilities

SCHEMA = 2
RECORD, HEAD, BACKBONE = "classifier.json", "head.safetensors", "model.safetensors"


class Classifier(NamedTuple):
    """From pictures to class probabilities.

    Attributes:
        backbone: Any ``protocol.Backbone``.
        head: B D (or whatever features it reads) -> B K, logits.
        classes: The names of the K classes.
        size: Side in pixels of the view that the backbone sees.
        kind: How the head was made: knn, linear, attentive, mlp, finetune or lora.
        temperature: Logits are divided by it, so that probabilities mean what they say.
        several: Whether a picture may have several labels (or none), each with a probability of its own.
        aside: ``Labelled.mark`` of the pictures that were set aside to test on; empty where others were given.
    """

    backbone: nn.Module
    head: nn.Module
    classes: tuple[str, ...]
    size: int
    kind: str
    temperature: float = 1.0
    several: bool = False
    aside: str = ""

    def probabilities(self, images: Pictures) -> Tensor:
        """N C S S, as ``data.decode.fit`` makes them at ``size`` -> N K; rows sum to one unless ``several``."""
        self.head.eval()
        return look(
            self.backbone,
            lambda features: probabilities(read(self.head, features), self.temperature, self.several),
            images,
            self.size,
        )

    def save(self, folder: Path) -> None:
        """Write the folder. Raises HeadwayError where it exists or cannot be written."""
        refuse_existing(folder)

        def write(temporary: Path) -> None:
            temporary.mkdir(parents=True)
            save_backbone(self.backbone, temporary / BACKBONE)
            save_file(
                {name: t.detach().cpu().contiguous() for name, t in self.head.state_dict().items()}, temporary / HEAD
            )
            record = {
                "schema": SCHEMA, "kind": self.kind, "classes": list(self.classes), "size": self.size,
                "temperature": self.temperature, "several": self.several, "aside": self.aside,
            }  # fmt: skip
            write_json(temporary / RECORD, record)

        write_whole(folder, write)


def refuse_existing(out: Path) -> Path:
    """``out``, where it is free to be written. Raises HeadwayError where something is there."""
    if out.exists():
        raise HeadwayError(f"{out} exists and is left as it is; choose another --out")
    return out


def load_classifier(folder: Path) -> Classifier:
    """Read what ``Classifier.save`` wrote. Raises HeadwayError where it is missing or damaged."""
    if not (folder / RECORD).is_file():
        hint = "it is a run: make a classifier of it with headway transfer" if (folder / "run.json").exists() else (
            "give the folder that headway transfer wrote")  # fmt: skip
        raise HeadwayError(f"no classifier in '{folder}'; {hint}")
    record = read_json(folder / RECORD)
    try:
        classes, kind = tuple(record["classes"]), str(record["kind"])
        head = head_from(kind, load_file(folder / HEAD), len(classes))
        size, several = int(record["size"]), bool(record.get("several", False))
        temperature = float(record.get("temperature", 1.0))  # schema 1 knew of neither
        aside = str(record.get("aside", ""))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise HeadwayError(
            f"the classifier in '{folder}' is damaged: {error}; make it again with headway transfer"
        ) from error
    return Classifier(load_backbone(folder / BACKBONE), head, classes, size, kind, temperature, several, aside)
