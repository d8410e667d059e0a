"""Weights of a backbone in one safetensors file that also says how to build it. Nothing pickled is ever read."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from headway.backbones.load import architecture, from_architecture
from headway.errors import HeadwayError
from headway.files import write_whole

FILE = "model.safetensors"
KEY = "headway"


def save_backbone(backbone: nn.Module, path: str | Path) -> None:
    """Write weights and architecture; whoever reads ``path`` meets the old file or the new one, never half of one.

    Args:
        backbone: One that ``build_backbone`` made.
        path: The file to write, or to replace.

    Raises:
        HeadwayError: Where it can't be written (no space, no such folder).
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in backbone.state_dict().items()}
    metadata = {KEY: json.dumps(architecture(backbone))}
    write_whole(Path(path), lambda temporary: save_file(state, temporary, metadata=metadata))


def digest_of(network: nn.Module) -> str:
    """SHA-256 of a backbone's description and of every weight: whether it is still the one that was known."""
    found = hashlib.sha256(json.dumps(architecture(network)).encode())
    for name, tensor in network.state_dict().items():
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def load_backbone(path: str | Path) -> nn.Module:
    """Read a backbone back: same architecture, same dtype, in evaluation mode, on the processor.

    Args:
        path: A file from ``save_backbone``, or a run folder that holds one.

    Raises:
        HeadwayError: Where there is none, it is damaged, or it isn't Headway's.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise HeadwayError(f"no weights at {file}: give a run folder or a {FILE} that headway wrote")
    try:
        with safe_open(file, framework="pt") as opened:
            described = (opened.metadata() or {}).get(KEY)
            names = opened.keys()
            state = {name: opened.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise HeadwayError(f"cannot read {file}: {error}; is it a whole safetensors file?") from error
    if described is None:
        raise HeadwayError(f"{file} doesn't say what network its weights are for: it isn't a backbone from headway")
    try:
        backbone = from_architecture(json.loads(described))
        backbone.to(_dtype(state)).load_state_dict(state)
    except (json.JSONDecodeError, RuntimeError) as error:
        raise HeadwayError(f"the weights in {file} don't fit the network it describes: {error}") from error
    return backbone.eval()


def _dtype(state: dict[str, torch.Tensor]) -> torch.dtype:
    return next((tensor.dtype for tensor in state.values() if tensor.is_floating_point()), torch.float32)
