"""A classifier, or a backbone, as one file that runs without Headway: ONNX, or a program of ``torch.export``.

An ``.onnx`` file runs in onnxruntime on nearly everything, a ``.pt2`` file wherever torch does (``torch.export.load``).
Either holds the weights, and under the key ``headway`` a description (JSON) of what goes in and comes out. Before it is
written it is read back and asked about pictures: it must answer as Headway does.
"""

import importlib
import io
import json
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
FAR = 1e-4
"""Answers that differ by more, measured against the largest, are not the same answers."""
CLIENTS = ("onnx", "onnxscript", "onnxruntime")
TRIED = (1, 3)
"""Numbers of pictures that a file is asked about before it is written."""


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
                "made so": f"the central square of each picture, at {side} x {side} pixels, bilinear, antialiased",
            },
            "outputs": list(self.outputs),
            **self.facts,
        }  # fmt: skip


class Named(nn.Module):
    """Pictures -> calibrated probabilities, B K."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.backbone, self.head = classifier.backbone, classifier.head
        self.temperature, self.several = classifier.temperature, classifier.several

    def forward(self, pictures: Tensor) -> Tensor:
        """B C S S -> B K."""
        return probabilities(read(self.head, self.backbone(pictures)), self.temperature, self.several)


class Seen(nn.Module):
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
    return _portable(Named(classifier), classifier.backbone, classifier.size, ("probabilities",), facts)


def of_backbone(backbone: nn.Module) -> Portable:
    """What gives features."""
    return _portable(Seen(backbone), backbone, view_size(backbone), ("pooled", "patches"), {})


def to_onnx(portable: Portable) -> bytes:
    """An ONNX file. Raises HeadwayError where a client is missing, or the network can't be written so."""
    try:
        onnxruntime = [importlib.import_module(client) for client in CLIENTS][-1]
    except ImportError as error:
        raise HeadwayError(
            f"ONNX needs {error.name}: pip install {' '.join(CLIENTS)}; or write a file for torch, --out FILE.pt2"
        ) from error
    written: Any = _traced(
        portable,
        lambda example, shapes: torch.onnx.export(
            portable.network, (example,), dynamo=True, verbose=False, dynamic_shapes=shapes,
            input_names=[PICTURES], output_names=list(portable.outputs),
        ),
    )  # fmt: skip
    written.model.metadata_props[KEY] = json.dumps(portable.describe())
    content: bytes = written.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    _must_agree(portable, lambda pictures: [
        torch.from_numpy(array) for array in session.run(None, {PICTURES: pictures.numpy()})
    ])  # fmt: skip
    return content


def to_program(portable: Portable) -> bytes:
    """A file for ``torch.export.load``. Raises HeadwayError where the network can't be written so."""
    program = _traced(
        portable, lambda example, shapes: torch.export.export(portable.network, (example,), dynamic_shapes=shapes)
    )
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={KEY: json.dumps(portable.describe())})
    again = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    _must_agree(portable, lambda pictures: _listed(again(pictures)))
    return buffer.getvalue()


WRITERS: dict[str, Callable[[Portable], bytes]] = {".onnx": to_onnx, ".pt2": to_program}
"""By the ending of the file."""


def _portable(
    network: nn.Module, backbone: Any, side: int, outputs: tuple[str, ...], facts: dict[str, Any]
) -> Portable:
    if backbone.inputs.span is not None:
        facts = {**facts, "values in the files that are 0 and 1": list(backbone.inputs.span)}
    return Portable(network.eval().requires_grad_(False), (backbone.inputs.channels, side), outputs, facts)


def _pictures(portable: Portable, count: int) -> Tensor:
    channels, side = portable.inputs
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(count))


def _traced(portable: Portable, trace: Callable[[Tensor, Any], Any]) -> Any:
    """What ``trace`` makes of an example and the axes that may vary."""
    shapes = ({0: torch.export.Dim(PICTURES)},)
    try:
        with torch.no_grad():
            return trace(_pictures(portable, 2), shapes)
    except Exception as error:  # whatever a stranger's network makes the tracer raise
        raise HeadwayError(f"this network can't be written as one program: {str(error).strip()[:300]}") from error


@torch.no_grad()
def _must_agree(portable: Portable, answer: Callable[[Tensor], Sequence[Tensor]]) -> None:
    for count in TRIED:
        pictures = _pictures(portable, count)
        for name, said, wanted in zip(
            portable.outputs, answer(pictures), _listed(portable.network(pictures)), strict=True
        ):
            off = float((said - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))
            if said.shape != wanted.shape or not off <= FAR:
                raise HeadwayError(
                    f"what was written answers otherwise ({name} off by {off:.1e}): nothing was kept; "
                    "try the other format (.onnx, .pt2)"
                )


def _listed(answer: Tensor | tuple[Tensor, ...]) -> Sequence[Tensor]:
    return [answer] if isinstance(answer, Tensor) else answer
