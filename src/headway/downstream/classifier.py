"""A finished recogniser in one folder: backbone, output layer, class names, size. It predicts as it did in process."""

from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from headway.backbones.weights import load_backbone, save_backbone
from headway.downstream.features import through
from headway.errors import HeadwayError
from headway.files import read_json, write_json, write_whole
from headway.measure.knn import knn_scores

SCHEMA = 1
RECORD, HEAD, BACKBONE = "classifier.json", "head.safetensors", "model.safetensors"


class NearestNeighbours(nn.Module):
    """The output layer of k-NN: the training pictures' features and labels."""

    def __init__(self, bank: Tensor, labels: Tensor, classes: int):
        super().__init__()
        self.classes = classes
        self.bank: Tensor
        self.labels: Tensor
        self.register_buffer("bank", bank)
        self.register_buffer("labels", labels)

    def forward(self, features: Tensor) -> Tensor:
        """B D -> B K, log of the share of votes."""
        return knn_scores(self.bank, self.labels, features, self.classes).clamp_min(1e-6).log()


class Classifier(NamedTuple):
    """From pictures to class probabilities.

    Attributes:
        backbone: Any ``protocol.Backbone``.
        head: B D -> B K, logits.
        classes: The names of the K classes.
        size: Side in pixels of the view that the backbone sees.
        kind: How the head was made: knn, linear or finetune.
    """

    backbone: nn.Module
    head: nn.Module
    classes: tuple[str, ...]
    size: int
    kind: str

    def probabilities(self, images: Tensor) -> Tensor:
        """N C S S, as ``data.decode.fit`` makes them at ``size`` -> N K, rows that sum to one."""
        self.head.eval()
        return through(self.backbone, lambda pooled: self.head(pooled).softmax(-1), images, self.size)

    def save(self, folder: Path) -> None:
        """Write the folder. Raises HeadwayError where it exists or cannot be written."""
        refuse_existing(folder)

        def write(temporary: Path) -> None:
            temporary.mkdir(parents=True)
            save_backbone(self.backbone, temporary / BACKBONE)
            save_file(
                {name: t.detach().cpu().contiguous() for name, t in self.head.state_dict().items()}, temporary / HEAD
            )
            record = {"schema": SCHEMA, "kind": self.kind, "classes": list(self.classes), "size": self.size}
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
        weights = load_file(folder / HEAD)
        classes = tuple(record["classes"])
        if record["kind"] == "knn":
            head: nn.Module = NearestNeighbours(weights["bank"], weights["labels"], len(classes))
        else:
            head = nn.Linear(*reversed(weights["weight"].shape))
            head.load_state_dict(weights)
        size, kind = int(record["size"]), str(record["kind"])
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise HeadwayError(
            f"the classifier in '{folder}' is damaged: {error}; make it again with headway transfer"
        ) from error
    return Classifier(load_backbone(folder / BACKBONE), head, classes, size, kind)
