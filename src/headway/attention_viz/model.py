"""Load a vision transformer by name: a run, a classifier, or timm:NAME."""

from pathlib import Path
from typing import NamedTuple

from headway.attention_viz.attention_hooks import attention_layers
from headway.backbones.build import load_timm
from headway.downstream.classifier import CLASSIFIER_FILE, Classifier, load_classifier
from headway.downstream.head_swap import load_run
from headway.errors import HeadwayError
from headway.protocol import Backbone


class AttentionModel(NamedTuple):
    """The network whose attention is shown.

    Attributes:
        name: As the user gave it, without folders.
        backbone: The network, in evaluation mode.
        classifier: Its output layer and class names, where it is a classifier.
        image_size: Side in pixels of its input.
        prefix_names: Names of its prefix tokens.
    """

    name: str
    backbone: Backbone
    classifier: Classifier | None
    image_size: int
    prefix_names: tuple[str, ...]


def load_attention_model(model: str, image_size: int, pretrained: bool) -> AttentionModel:
    """Load a network that has attention.

    Args:
        model: A run folder, a classifier's folder, or timm:NAME.
        image_size: Side in pixels of the input; 0: the network's own.
        pretrained: Whether to fetch timm's weights for timm:NAME.

    Raises:
        HeadwayError: There is no such network, it is damaged or has no attention, or the size is not possible.
    """
    classifier, name = None, model if model.startswith("timm:") else Path(model).resolve().name
    if image_size < 0:
        raise HeadwayError(
            "value-out-of-range", f"--size must be 1 or more, or 0 for the network's own, got {image_size}"
        )
    if model.startswith("timm:"):
        backbone: Backbone = load_timm(model, image_size, pretrained)
    elif (Path(model) / CLASSIFIER_FILE).is_file():
        classifier = load_classifier(Path(model))
        backbone = classifier.backbone
    else:
        backbone, _ = load_run(Path(model))
    attention_layers(backbone)
    return AttentionModel(name, backbone, classifier, image_size or backbone.image_size, _prefix_names(backbone))


def _prefix_names(backbone: Backbone) -> tuple[str, ...]:
    first = backbone.has_class_token
    return ("class token",) * first + tuple(f"register {i + 1}" for i in range(backbone.num_prefix_tokens - first))
