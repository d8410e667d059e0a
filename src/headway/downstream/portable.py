"""A classifier, or a backbone, as one file that runs without Headway: ONNX, or a program of ``torch.export``.

An ``.onnx`` file runs in onnxruntime on nearly everything, a ``.pt2`` file wherever torch does (``torch.export.load``).
Either holds the weights, and under the key ``headway`` a description (JSON) of what goes in and comes out. Before it is
written it is read back and asked about pictures: it must answer as Headway does.
"""

import importlib
import io
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headway import __version__
from headway.downstream.classifier import Classifier
from headway.downstream.heads import read
from headway.downstream.swap import view_size
from headway.errors import HeadwayError
from headway.measure.calibration import probabilities

PICTURES = "pictures"
"""Name of what goes in, and of its first axis, which may have any length."""
KEY = "headway"
"""Under which a file describes itself."""
CLIENTS = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4
"""Answers that differ by more, measured against the largest, are not the same answers."""
COUNTS = (1, 3)
"""How many pictures a file is asked about at once, before it is kept."""

Ask = Callable[[Tensor], Sequence[Tensor]]
"""What a file answers, read back: pictures -> outputs."""


class Portable(NamedTuple):
    """What is to be written.

    Attributes:
        network: B C S S in [0, 1] -> the outputs, B rows each.
        inputs: C and S.
        outputs: Their names.
        facts: What whoever uses the file must know besides.
    """

    network: nn.Module
    inputs: tuple[int, int]
    outputs: tuple[str, ...]
    facts: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """What the file says of itself."""
        channels, side = self.inputs
        return {
            "made by": f"headway {__version__}",
            "input": {
                "name": PICTURES, "type": "float32", "shape": [PICTURES, channels, side, side], "range": [0, 1],
                "made so": f"the central square of each picture, upright, at {side} x {side} pixels, antialiased",
            },
            "outputs": list(self.outputs),
            **self.facts,
        }  # fmt: skip


class Probabilities(nn.Module):
    """Pictures -> calibrated probabilities, B K."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.backbone, self.head = classifier.backbone, classifier.head
        self.temperature, self.several = classifier.temperature, classifier.several

    def forward(self, pictures: Tensor) -> Tensor:
        """B C S S -> B K."""
        return probabilities(read(self.head, self.backbone(pictures)), self.temperature, self.several)


class PooledAndPatches(nn.Module):
    """Pictures -> one vector a picture, B D, and one a patch, B N D."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """B C S S -> B D and B N D."""
        features = self.backbone(pictures)
        return features.pooled, features.patches


def of_classifier(classifier: Classifier) -> Portable:
    """What names pictures."""
    facts = {"classes": list(classifier.classes), "several labels a picture": classifier.several}
    return _portable(Probabilities(classifier), classifier.backbone, classifier.size, ("probabilities",), facts)


def of_backbone(backbone: nn.Module) -> Portable:
    """What gives features."""
    return _portable(PooledAndPatches(backbone), backbone, view_size(backbone), ("pooled", "patches"), {})


def written(portable: Portable, ending: str) -> bytes:
    """The content of a file, which was read back and answered as Headway does.

    Args:
        portable: What to write.
        ending: One of FORMATS.

    Raises:
        HeadwayError: A client is missing, the network can't be written so, or answers otherwise.
    """
    try:
        with torch.no_grad():
            content, ask = FORMATS[ending](portable)
            _must_agree(portable, ask)
    except HeadwayError:
        raise
    except Exception as error:  # whatever a stranger's network makes a tracer or a reader raise
        others = ", ".join(name for name in FORMATS if name != ending)
        raise HeadwayError(
            f"this network can't be written as {ending}: {str(error).strip()[:300]}; try {others}, or use it as a "
            "torch module (headway.load_backbone)"
        ) from error
    return content


def to_onnx(portable: Portable) -> tuple[bytes, Ask]:
    """An ONNX file, and what it answers."""
    try:
        onnxruntime = [importlib.import_module(client) for client in CLIENTS][-1]
    except ImportError as error:
        raise HeadwayError(
            f"ONNX needs {error.name}: pip install {' '.join(CLIENTS)}; or write a file for torch, --out FILE.pt2"
        ) from error
    made: Any = torch.onnx.export(
        portable.network, (_pictures(portable, 2),), dynamo=True, verbose=False, dynamic_shapes=VARIABLE,
        input_names=[PICTURES], output_names=list(portable.outputs),
    )  # fmt: skip
    for graph in (made.model.graph, *made.model.functions.values()):
        for node in graph:
            node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)  # names of folders on this machine
    made.model.metadata_props[KEY] = json.dumps(portable.describe())
    content: bytes = made.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def ask(pictures: Tensor) -> Sequence[Tensor]:
        return [torch.from_numpy(array) for array in session.run(None, {PICTURES: pictures.numpy()})]

    return content, ask


def to_program(portable: Portable) -> tuple[bytes, Ask]:
    """A file for ``torch.export.load``, and what it answers."""
    program = torch.export.export(portable.network, (_pictures(portable, 2),), dynamic_shapes=VARIABLE)
    for part in program.graph_module.modules():
        for node in getattr(getattr(part, "graph", None), "nodes", ()):
            node.meta.pop("stack_trace", None)  # names of folders on this machine
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={KEY: json.dumps(portable.describe())})
    content = buffer.getvalue()
    again = torch.export.load(io.BytesIO(content)).module()
    return content, lambda pictures: _listed(again(pictures))


FORMATS: dict[str, Callable[[Portable], tuple[bytes, Ask]]] = {".onnx": to_onnx, ".pt2": to_program}
"""By the ending of the file."""
VARIABLE = ({0: torch.export.Dim(PICTURES)},)
"""Axes that may have any length: the first of what goes in."""


def _portable(
    network: nn.Module, backbone: Any, side: int, outputs: tuple[str, ...], facts: dict[str, Any]
) -> Portable:
    if backbone.inputs.span is not None:
        facts = {**facts, "values in the files that are 0 and 1": list(backbone.inputs.span)}
    return Portable(network.eval().requires_grad_(False), (backbone.inputs.channels, side), outputs, facts)


def _pictures(portable: Portable, count: int) -> Tensor:
    channels, side = portable.inputs
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(count))


def _must_agree(portable: Portable, ask: Ask) -> None:
    for count in COUNTS:
        pictures = _pictures(portable, count)
        wanted = _listed(portable.network(pictures))
        for name, right, said in zip(portable.outputs, wanted, ask(pictures), strict=True):
            alike = said.shape == right.shape
            off = float((said - right).abs().max() / right.abs().max().clamp_min(1e-12)) if alike else math.inf
            if not off <= TOLERANCE:
                raise HeadwayError(
                    f"what was written answers otherwise ({name} off by {off:.1e}), so nothing was kept; try the other "
                    f"format ({', '.join(FORMATS)})"
                )


def _listed(answer: Tensor | tuple[Tensor, ...]) -> Sequence[Tensor]:
    """The outputs of a network that has one or several."""
    return [answer] if isinstance(answer, Tensor) else answer
