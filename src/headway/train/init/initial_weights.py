"""Initial weights of a run from a file, another run or timm (``--init``), and what they require."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from headway.backbones.build import build_backbone, to_config
from headway.backbones.vit_config import VIT_SIZES
from headway.backbones.weights import METADATA_KEY, load_backbone
from headway.data.decoding.pixel_format import PixelFormat, pixel_format_of
from headway.errors import HeadwayError
from headway.protocol import Backbone, InputSpec
from headway.train.config import PretrainConfig, is_timm
from headway.train.init.parent_run import ParentRun
from headway.train.run_dir.record import read_record
from headway.train.run_dir.seen_images import read_seen_images
from headway.utils.serialize import type_mismatch


def initial_backbone(config: PretrainConfig, size: int) -> Backbone:
    """The backbone with the weights that ``--init`` names, and with the input normalization of these weights.

    Args:
        config: Its ``init``, ``backbone`` and the recipe's ``pooling`` count; a file that Headway wrote describes its
            network itself.
        size: Side of the main view in pixels.

    Raises:
        HeadwayError: No such file, a damaged one, or one that fits another network.
    """
    if is_timm(config.init):
        return build_backbone(config.init, size=size, pooling=config.recipe.pooling, pretrained=True)
    file = _weights_file(config)
    if not is_timm(config.backbone) or _headway_config(file):
        return load_backbone(file).float().train()
    backbone = build_backbone(config.backbone, size=size, pooling=config.recipe.pooling)
    _load_timm_weights(backbone, file)
    return backbone


def check_backbone_matches(backbone: Backbone, config: PretrainConfig) -> None:
    """Refuse initial weights of another network than the one that was requested; the defaults request none.

    Raises:
        HeadwayError: Another backbone, stem or patch size.
    """
    architecture = to_config(backbone)
    shape = (architecture.get("embed_dim"), architecture.get("depth"), architecture.get("num_heads"))
    vit = next((n for n in VIT_SIZES if VIT_SIZES[n] == shape), "another ViT")
    name = f"timm:{architecture['model']}" if "model" in architecture else vit
    if config.backbone not in (PretrainConfig.backbone, name):
        raise HeadwayError(
            "options-conflict",
            f"the weights in {_init_source(config)} are of {name}, not of {config.backbone}; leave out --backbone",
        )
    requested = {
        "stem": (config.stem, PretrainConfig.stem, architecture.get("stem")),
        "patch": (config.patch, PretrainConfig.patch, architecture.get("patch_size")),
    }
    for option, (value, default, own) in requested.items():
        if value not in (default, own):
            raise HeadwayError(
                "options-conflict",
                f"the weights in {_init_source(config)} are of a network whose {option} is {own or 'its own'}, not "
                f"{value}; leave out --{option}",
            )


def initial_view_size(config: PretrainConfig, parent: ParentRun | None = None) -> int | None:
    """Side of the view that the initial weights were trained with, in pixels; None where it is not recorded.

    Args:
        config: Its ``init`` and ``size`` count.
        parent: The run that is continued, if any.

    Raises:
        HeadwayError: No such file, a damaged one, or another ``--size``.
    """
    stored = None if parent else _stored_config(config)
    size = parent.size if parent else int(stored["size"]) if stored else None
    if size and config.size not in (0, size):
        raise HeadwayError(
            "options-conflict",
            f"the weights in {_init_source(config)} take views of {size} pixels, not {config.size}; leave out --size",
        )
    return size


def initial_pixel_format(
    config: PretrainConfig,
    record: dict[str, Any] | None,
    channels: int = 0,
    value_range: tuple[float, float] | None = None,
) -> PixelFormat | None:
    """Channels and value range of the initial weights; None where they do not record them (timm's), or are random.

    Args:
        config: Its ``init`` and ``continue_from`` count.
        record: Record of the run that is resumed or reproduced; it counts instead of what that run started from.
        channels: Requested number of channels; 0: none requested.
        value_range: Requested value range; None: none requested.

    Raises:
        HeadwayError: No such run or file, a damaged one, or other channels or another value range were requested.
    """
    if not (config.init or config.continue_from):
        return None
    known = record or (read_record(Path(config.continue_from)) if config.continue_from else None)
    stored = known["architecture"] if known else _stored_config(config)
    if stored is None:
        return None
    spec = stored["input_spec"]
    own_range = (spec["value_range"][0], spec["value_range"][1]) if spec.get("value_range") else None
    pages = spec.get("pages_as_channels", False)
    own = pixel_format_of(InputSpec((), (), spec["channels"], value_range=own_range, pages_as_channels=pages))
    requested = (channels or own.channels, tuple(value_range) if value_range else own.value_range)
    if (own.channels, own.value_range) != requested:
        values = f"the values {own.value_range[0]:g} to {own.value_range[1]:g}" if own.value_range else "8 bits"
        raise HeadwayError(
            "options-conflict",
            f"the weights in {_init_source(config)} take {own.channels} channel(s) and {values}, and all images are "
            "read that way; leave out --channels and --value-range",
        )
    return own._replace(pages_as_channels=own.pages_as_channels or channels > 1)


def initial_seen_images(config: PretrainConfig, parent: ParentRun | None) -> Tensor | None:
    """Hashes of the images that the initial weights have seen (N, int64); None where that is not known.

    Args:
        config: Its ``init`` and ``continue_from`` count.
        parent: The run that is continued, or the run itself where it is resumed.

    Raises:
        HeadwayError: The file of the hashes is damaged.
    """
    if not (config.init or config.continue_from):
        return torch.empty(0, dtype=torch.int64)
    if parent:
        return read_seen_images(parent.folder)
    return None if is_timm(config.init) else read_seen_images(Path(config.init))


def _init_source(config: PretrainConfig) -> str:
    return config.init or config.continue_from


def _stored_config(config: PretrainConfig) -> dict[str, Any] | None:
    """What the file of ``--init`` says of its network; None where there is no file, or it says nothing."""
    return None if not config.init or is_timm(config.init) else _headway_config(_weights_file(config))


def _weights_file(config: PretrainConfig) -> Path:
    path = Path(config.init)
    return path / "model.safetensors" if path.is_dir() else path


def _headway_config(file: Path) -> dict[str, Any] | None:
    """The architecture in a file that Headway wrote; None for other files."""
    try:
        with safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {}).get(METADATA_KEY)
        if text is None:
            return None
        architecture = json.loads(text)
        if reason := type_mismatch(architecture, {"size": int, "input_spec": {"channels": int}}):
            raise ValueError(reason)
        return dict(architecture)
    except (OSError, SafetensorError, ValueError) as error:
        raise HeadwayError(
            "weights-damaged", f"cannot read weights from '{file}': {error}; give a safetensors file or a run"
        ) from error


def _load_timm_weights(backbone: Backbone, file: Path) -> None:
    """Load a state dict with timm's names. Tensors that the network lacks, such as a classifier's, are ignored."""
    network: Any = backbone.network
    prefix, weights, own = backbone.num_prefix_tokens, load_file(file), network.state_dict()
    fitted = {
        key: _resize_pos_embed(weights[key], tensor, network, prefix) for key, tensor in own.items() if key in weights
    }
    wrong = [key for key, tensor in own.items() if key not in fitted or fitted[key].shape != tensor.shape]
    if wrong:
        raise HeadwayError(
            "weights-mismatch",
            f"the weights in {file} are not of {backbone.name}: {wrong[0]} and {len(wrong) - 1} more do not fit",
        )
    network.load_state_dict(fitted)


def _resize_pos_embed(tensor: Tensor, like: Tensor, network: Any, num_prefix_tokens: int) -> Tensor:
    """Position embeddings of another image size are interpolated; any other tensor stays as it is."""
    if tensor.shape == like.shape or tensor.dim() != 3 or tensor.shape[-1] != like.shape[-1]:
        return tensor
    from timm.layers import resample_abs_pos_embed

    try:
        grid = list(network.patch_embed.grid_size)
        return resample_abs_pos_embed(tensor, grid, num_prefix_tokens=num_prefix_tokens)
    except (AttributeError, RuntimeError):
        return tensor
