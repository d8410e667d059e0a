"""A vision transformer by what a person calls it: a run, a classifier, or timm:NAME."""

from pathlib import Path
from typing import Any, NamedTuple

from headway.backbones.load import timm_network
from headway.downstream.classifier import RECORD, Classifier, load_classifier
from headway.downstream.swap import load_run, view_size
from headway.errors import HeadwayError
from headway.measure.listen import attentions_of


class Network(NamedTuple):
    """What was asked to be looked at.

    Attributes:
        name: As a person typed it, without folders.
        backbone: The network, in evaluation mode.
        classifier: Its output layer and class names, where it is a classifier.
        size: Side in pixels of the view that it is shown.
        tokens: Names of its prefix tokens.
    """

    name: str
    backbone: Any
    classifier: Classifier | None
    size: int
    tokens: tuple[str, ...]


def load_network(model: str, size: int = 0, pretrained: bool = True) -> Network:
    """Load a network that has attention.

    Args:
        model: A run folder, a classifier's folder, or timm:NAME.
        size: Side in pixels of the view; 0: the one that the network was made for.
        pretrained: Fetch timm's weights for timm:NAME.

    Raises:
        HeadwayError: Nothing there, damaged, no attention in it, or a size that cannot be.
    """
    classifier, name = None, model if model.startswith("timm:") else Path(model).resolve().name
    if size < 0:
        raise HeadwayError(f"--size must be 1 or more, or 0 for the network's own, got {size}")
    if model.startswith("timm:"):
        backbone: Any = timm_network(model, size, pretrained)
    elif (Path(model) / RECORD).is_file():
        classifier = load_classifier(Path(model))
        backbone = classifier.backbone
    else:
        backbone, _ = load_run(Path(model))
    attentions_of(backbone)
    return Network(name, backbone, classifier, size or view_size(backbone), _prefix_names(backbone))


def _prefix_names(backbone: Any) -> tuple[str, ...]:
    if hasattr(backbone, "class_token"):  # ours
        first, count = backbone.class_token is not None, backbone.config.registers
    else:
        first = getattr(backbone.network, "cls_token", None) is not None
        count = backbone.prefix_tokens - first
    return ("class token",) * first + tuple(f"register {number + 1}" for number in range(count))
