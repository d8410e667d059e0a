"""Save a backbone to one safetensors file with its configuration, and load it. Nothing pickled is ever read."""

import hashlib
import json
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import nn

from headway.backbones.base import ImageBackbone
from headway.backbones.build import from_config, to_config
from headway.errors import HeadwayError
from headway.protocol import Backbone
from headway.utils.files import atomic_write

WEIGHTS_FILE = "model.safetensors"
METADATA_KEY = "headway"


def save_backbone(backbone: Backbone, path: str | Path) -> None:
    """Write weights and configuration atomically: a reader of ``path`` sees the old file or the complete new one.

    Args:
        backbone: A backbone from ``build_backbone``.
        path: The file to write or replace.

    Raises:
        HeadwayError: The file cannot be written (no space, no such folder).
    """
    metadata = _metadata_of(backbone)
    atomic_write(Path(path), lambda temporary: save_file(cpu_state_dict(backbone), temporary, metadata=metadata))


def backbone_to_bytes(backbone: Backbone) -> bytes:
    """The content of the file that ``save_backbone`` writes."""
    return save(cpu_state_dict(backbone), metadata=_metadata_of(backbone))


def backbone_from_bytes(content: bytes) -> ImageBackbone:
    """Load the content of such a file, as ``load_backbone`` does the file."""
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        file = Path(folder) / WEIGHTS_FILE  # safetensors reads the description of the network from files alone
        file.write_bytes(content)
        return load_backbone(file)


def _metadata_of(backbone: Backbone) -> dict[str, str]:
    return {METADATA_KEY: json.dumps(to_config(backbone))}


def cpu_state_dict(module: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a module as safetensors takes it: contiguous tensors on the CPU."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def weights_sha256(backbone: Backbone) -> str:
    """Return the SHA-256 of a backbone's configuration and weights, which identifies it."""
    digest = hashlib.sha256(json.dumps(to_config(backbone)).encode())
    for name, tensor in cpu_state_dict(backbone).items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_backbone(path: str | Path) -> ImageBackbone:
    """Load a backbone with its configuration and dtype, in evaluation mode, on the CPU.

    Args:
        path: A file from ``save_backbone``, or a run folder that contains one.

    Raises:
        HeadwayError: There is no such file, it is damaged, or Headway did not write it.
    """
    path = Path(path)
    file = path / WEIGHTS_FILE if path.is_dir() else path
    if not file.is_file():
        raise HeadwayError(
            "weights-not-found", f"no weights at {file}: give a run folder or a {WEIGHTS_FILE} that headway wrote"
        )
    try:
        with safe_open(file, framework="pt") as opened:
            description = (opened.metadata() or {}).get(METADATA_KEY)
            names = opened.keys()
            state = {name: opened.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise HeadwayError(
            "weights-damaged", f"cannot read {file}: {error}; is it a complete safetensors file?"
        ) from error
    if description is None:
        raise HeadwayError(
            "weights-damaged", f"{file} does not describe the network of its weights: it is not a backbone from headway"
        )
    try:
        with torch.random.fork_rng(devices=()):  # weights are drawn and replaced: the caller's generator is left alone
            backbone = from_config(json.loads(description))
        dtypes = (tensor.dtype for tensor in state.values() if tensor.is_floating_point())
        backbone.to(next(dtypes, torch.float32)).load_state_dict(state)
    except (json.JSONDecodeError, RuntimeError) as error:
        raise HeadwayError(
            "weights-damaged", f"the weights in {file} do not fit the network that it describes: {error}"
        ) from error
    return backbone.eval()
