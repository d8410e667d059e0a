"""A classifier or a backbone as one file that runs without Headway: ONNX, or a ``torch.export`` program.

An ``.onnx`` file runs in onnxruntime on nearly every platform, a ``.pt2`` file wherever torch does
(``torch.export.load``). Both hold the weights and, under the key ``headway``, a description (JSON) of the inputs and
outputs. Before it is written, the file's content is loaded again and run on random images: its outputs must be those of
the original.
"""

import importlib
import io
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headway._version import __version__
from headway.downstream.classifier import Classifier
from headway.downstream.heads.layers import apply_head
from headway.errors import HeadwayError
from headway.protocol import Backbone

INPUT_NAME = "images"
"""Name of the input, and of its first axis, which may have any length."""
METADATA_KEY = "headway"
"""Key of the description in a file."""
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4
"""Largest accepted difference between outputs, relative to the largest output."""
CHECK_BATCH_SIZES = (1, 3)
"""Batch sizes at which the outputs are compared."""

ReloadedModel = Callable[[Tensor], Sequence[Tensor]]
"""A file that was loaded again: images -> outputs."""


class Exportable(NamedTuple):
    """A network, and the description of its inputs and outputs.

    Attributes:
        network: B C S S in [0, 1] -> the outputs, B rows each.
        input_shape: C and S.
        output_names: The names of the outputs.
        metadata: What else the users of the file need to know.
    """

    network: nn.Module
    input_shape: tuple[int, int]
    output_names: tuple[str, ...]
    metadata: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """The description that the file holds."""
        channels, side = self.input_shape
        return {
            "created_by": f"headway {__version__}",
            "input": {
                "name": INPUT_NAME, "type": "float32", "shape": [INPUT_NAME, channels, side, side], "range": [0, 1],
                "preprocessing": f"the central square of each image, upright, at {side} x {side} pixels, antialiased",
            },
            "outputs": list(self.output_names),
            **self.metadata,
        }  # fmt: skip


class ProbabilityModel(nn.Module):
    """Images -> calibrated probabilities, B K."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.backbone, self.head = classifier.backbone, classifier.head
        self.temperature, self.target = classifier.temperature, classifier.target

    def forward(self, images: Tensor) -> Tensor:
        """B C S S -> B K."""
        return self.target.probabilities(apply_head(self.head, self.backbone(images)), self.temperature)


class FeatureModel(nn.Module):
    """Images -> one vector per image, B D, and one vector per patch, B N D."""

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """B C S S -> B D and B N D."""
        features = self.backbone(images)
        return features.pooled, features.patches


def exportable_classifier(classifier: Classifier) -> Exportable:
    """A network from images to the probabilities of a classifier."""
    metadata = {"classes": list(classifier.classes), "multilabel": classifier.target.independent}
    model = ProbabilityModel(classifier)
    return _exportable(model, classifier.backbone, classifier.size, ("probabilities",), metadata)


def exportable_backbone(backbone: Backbone) -> Exportable:
    """A network from images to the features of a backbone."""
    return _exportable(FeatureModel(backbone), backbone, backbone.image_size, ("pooled", "patches"), {})


def checked_export_bytes(exportable: Exportable, suffix: str) -> bytes:
    """The content of a file, whose outputs were compared with the original's.

    Args:
        exportable: What to write.
        suffix: One of FORMATS.

    Raises:
        HeadwayError: A package is missing, the network cannot be exported, or the outputs differ.
    """
    try:
        with torch.no_grad():
            content, reloaded = FORMATS[suffix](exportable)
            _check_outputs_match(exportable, reloaded)
    except HeadwayError:
        raise
    except Exception as error:  # tracers and readers raise errors of any type for networks that they do not support
        others = ", ".join(name for name in FORMATS if name != suffix)
        raise HeadwayError(
            "export-failed",
            f"this network can't be written as {suffix}: {str(error).strip()[:300]}; try {others}, or use it as a "
            "torch module (headway.load_backbone)",
        ) from error
    return content


def to_onnx(exportable: Exportable) -> tuple[bytes, ReloadedModel]:
    """The content of an ONNX file, and a function that runs it."""
    try:
        onnxruntime = [importlib.import_module(package) for package in ONNX_PACKAGES][-1]
    except ImportError as error:
        raise HeadwayError(
            "missing-package",
            f"ONNX needs {error.name}: pip install {' '.join(ONNX_PACKAGES)}; or write a file for torch, "
            "--out FILE.pt2",
        ) from error
    program: Any = torch.onnx.export(
        exportable.network, (_random_images(exportable, 2),), dynamo=True, verbose=False, dynamic_shapes=DYNAMIC_SHAPES,
        input_names=[INPUT_NAME], output_names=list(exportable.output_names),
    )  # fmt: skip
    for graph in (program.model.graph, *program.model.functions.values()):
        for node in graph:
            node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)  # it names folders of this machine
    program.model.metadata_props[METADATA_KEY] = json.dumps(exportable.describe())
    content: bytes = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Sequence[Tensor]:
        return [torch.from_numpy(array) for array in session.run(None, {INPUT_NAME: images.numpy()})]

    return content, run


def to_torch_export(exportable: Exportable) -> tuple[bytes, ReloadedModel]:
    """The content of a file for ``torch.export.load``, and a function that runs it."""
    program = torch.export.export(exportable.network, (_random_images(exportable, 2),), dynamic_shapes=DYNAMIC_SHAPES)
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            node.meta.pop("stack_trace", None)  # it names folders of this machine
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={METADATA_KEY: json.dumps(exportable.describe())})
    content = buffer.getvalue()
    reloaded = torch.export.load(io.BytesIO(content)).module()
    return content, lambda images: _as_sequence(reloaded(images))


FORMATS: dict[str, Callable[[Exportable], tuple[bytes, ReloadedModel]]] = {".onnx": to_onnx, ".pt2": to_torch_export}
"""The formats, by the suffix of the file."""
DYNAMIC_SHAPES = ({0: torch.export.Dim(INPUT_NAME)},)
"""Axes of any length: the first one of the input."""


def _exportable(
    network: nn.Module, backbone: Backbone, side: int, output_names: tuple[str, ...], metadata: dict[str, Any]
) -> Exportable:
    spec = backbone.input_spec
    if spec.value_range is not None:
        metadata = {**metadata, "value_range": list(spec.value_range)}
    return Exportable(network.eval().requires_grad_(False), (spec.channels, side), output_names, metadata)


def _random_images(exportable: Exportable, count: int) -> Tensor:
    channels, side = exportable.input_shape
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(count))


def _check_outputs_match(exportable: Exportable, reloaded: ReloadedModel) -> None:
    for count in CHECK_BATCH_SIZES:
        images = _random_images(exportable, count)
        expected = _as_sequence(exportable.network(images))
        for name, wanted, output in zip(exportable.output_names, expected, reloaded(images), strict=True):
            scale = wanted.abs().max().clamp_min(1e-12)
            difference = float((output - wanted).abs().max() / scale) if output.shape == wanted.shape else math.inf
            if not difference <= TOLERANCE:
                raise HeadwayError(
                    "export-failed",
                    f"the exported file gives other outputs ({name} differs by {difference:.1e}), so nothing was "
                    f"written; try the other format ({', '.join(FORMATS)})",
                )


def _as_sequence(outputs: Tensor | tuple[Tensor, ...]) -> Sequence[Tensor]:
    """The outputs of a network that has one or several."""
    return [outputs] if isinstance(outputs, Tensor) else outputs
