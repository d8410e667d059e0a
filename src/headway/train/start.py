"""Where a run's first weights come from, if not from chance or a run that it extends: a file, or timm's own."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from headway.backbones.load import architecture, build_backbone
from headway.backbones.vit import SIZES
from headway.backbones.weights import KEY, load_backbone
from headway.data.form import Form, form_of
from headway.errors import HeadwayError
from headway.plain import misfit
from headway.protocol import Inputs
from headway.train.job import Job
from headway.train.origin import Origin
from headway.train.pool import read_pool
from headway.train.record import read_record

PRETRAINED = "pretrained"
"""What ``--weights`` says for timm's own weights, from its cache or fetched."""


def initial_backbone(job: Job, size: int) -> nn.Module:
    """The backbone with the weights that ``--weights`` names, normalising pictures as these weights are used to.

    Args:
        job: Its ``weights``, ``backbone`` and recipe's ``pool`` count; a file of Headway's own knows its network.
        size: Side of the main view.

    Raises:
        HeadwayError: No such file, a damaged one, or one that fits another network.
    """
    own = job.backbone.startswith("timm:")
    if job.weights == PRETRAINED:
        if not own:
            raise HeadwayError(
                f"--weights {PRETRAINED} means timm's own, and {job.backbone} is none of its; name a file"
            )
        return build_backbone(job.backbone, size=size, pool=job.recipe.pool, pretrained=True)
    file = _file(job)
    if not own or _own_architecture(file):
        return load_backbone(file).float().train()
    backbone: Any = build_backbone(job.backbone, size=size, pool=job.recipe.pool)
    _load_timm(backbone.network, file, job.backbone)
    return backbone


def check_backbone(backbone: nn.Module, job: Job) -> None:
    """Refuse weights that bring another network than was asked for; the defaults ask for none.

    Raises:
        HeadwayError: Another backbone, or another stem or patch.
    """
    its = architecture(backbone)
    shape = (its.get("width"), its.get("depth"), its.get("attention_heads"))
    name = f"timm:{its['model']}" if "model" in its else next((n for n in SIZES if SIZES[n] == shape), "another ViT")
    if job.backbone not in (Job.backbone, name):
        raise HeadwayError(f"the weights in {_given(job)} are of {name}, not of {job.backbone}; leave out --backbone")
    asked = {"stem": (job.stem, Job.stem, its.get("stem")), "patch": (job.patch, Job.patch, its.get("patch_size"))}
    for word, (wanted, none, own) in asked.items():
        if wanted not in (none, own):
            raise HeadwayError(
                f"the weights in {_given(job)} are of a network whose {word} is {own or 'its own'}, not {wanted}; "
                f"leave out --{word}"
            )


def size_of_weights(job: Job, origin: Origin | None = None) -> int | None:
    """Side of the view that the first weights are used to; None where they do not say.

    Args:
        job: Its ``weights`` and ``size`` count.
        origin: The run that is extended, if one is.

    Raises:
        HeadwayError: No such file, a damaged one, or a ``--size`` that is another.
    """
    described = None if origin else _described(job)
    size = origin.size if origin else int(described["size"]) if described else None
    if size and job.size not in (0, size):
        raise HeadwayError(f"the weights in {_given(job)} see {size} pixels a side, not {job.size}; leave out --size")
    return size


def form_of_weights(
    job: Job, record: dict[str, Any] | None, channels: int = 0, span: tuple[float, float] | None = None
) -> Form | None:
    """Channels and range that the first weights are used to; None where they do not say, as timm's own, or are chance.

    Args:
        job: Its ``weights`` and ``extend`` count.
        record: Of the run that is resumed or repeated, which is asked in place of what that one began from.
        channels: Asked for; 0: not.
        span: The same; None: not.

    Raises:
        HeadwayError: No such run or file, a damaged one, or channels or a span that are others.
    """
    if not (job.weights or job.extend):
        return None
    known = record or (read_record(Path(job.extend)) if job.extend else None)
    described = known["architecture"] if known else _described(job)
    if described is None:
        return None
    own = described["inputs"]
    values = (own["span"][0], own["span"][1]) if own.get("span") else None
    form = form_of(Inputs((), (), own["channels"], span=values, pages=own.get("pages", False)))
    if (form.channels, form.span) != (channels or form.channels, tuple(span) if span else form.span):
        depth = f"the values {form.span[0]:g} to {form.span[1]:g}" if form.span else "8 bits"
        raise HeadwayError(
            f"the weights in {_given(job)} are used to {form.channels} channel(s) and {depth}, and all that they are "
            "shown is read so; leave out --channels and --span"
        )
    return form._replace(pages=form.pages or channels > 1)


def seen_before(job: Job, origin: Origin | None) -> Tensor | None:
    """Hashes of the pictures that the first weights have seen (N, int64); None where that is not known.

    Args:
        job: Its ``weights`` count.
        origin: The run that is extended, or the run itself where it goes on.

    Raises:
        HeadwayError: A damaged record of them.
    """
    if not (job.weights or job.extend):
        return torch.empty(0, dtype=torch.int64)
    if origin:
        return read_pool(origin.folder)
    return None if job.weights == PRETRAINED else read_pool(Path(job.weights))


def _given(job: Job) -> str:
    return job.weights or job.extend


def _described(job: Job) -> dict[str, Any] | None:
    """What the file that ``--weights`` names says of its network; None where there is none, or it says nothing."""
    return None if job.weights in ("", PRETRAINED) else _own_architecture(_file(job))


def _file(job: Job) -> Path:
    path = Path(job.weights)
    return path / "model.safetensors" if path.is_dir() else path


def _own_architecture(file: Path) -> dict[str, Any] | None:
    """What a file of Headway's own says of its network; None for other people's weights."""
    try:
        with safe_open(file, framework="pt") as opened:
            described = (opened.metadata() or {}).get(KEY)
        if described is None:
            return None
        found = json.loads(described)
        if fault := misfit(found, {"size": int, "inputs": {"channels": int}}):
            raise ValueError(fault)
        return dict(found)
    except (OSError, SafetensorError, ValueError) as error:
        raise HeadwayError(f"cannot read weights from '{file}': {error}; give a safetensors file or a run") from error


def _load_timm(network: nn.Module, file: Path, name: str) -> None:
    """Load a state dict as timm names it; what was cut off the network (classifiers) is passed over."""
    its, mine = load_file(file), network.state_dict()
    fitted = {key: _resized(its[key], tensor, network) for key, tensor in mine.items() if key in its}
    odd = [key for key, tensor in mine.items() if key not in fitted or fitted[key].shape != tensor.shape]
    if odd:
        raise HeadwayError(f"the weights in {file} are not of {name}: {odd[0]} and {len(odd) - 1} more do not fit")
    network.load_state_dict(fitted)


def _resized(tensor: Tensor, like: Tensor, network: Any) -> Tensor:
    """Positions for a picture of another size, interpolated; anything else as it is."""
    if tensor.shape == like.shape or tensor.dim() != 3 or tensor.shape[-1] != like.shape[-1]:
        return tensor
    from timm.layers import resample_abs_pos_embed

    prefix = int(getattr(network, "num_prefix_tokens", 0))
    try:
        return resample_abs_pos_embed(tensor, list(network.patch_embed.grid_size), num_prefix_tokens=prefix)
    except (AttributeError, RuntimeError):
        return tensor
