"""Build backbones by name, and convert them to plain data and back."""

import difflib
from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Any

from headway.backbones.base import ImageBackbone
from headway.backbones.input_normalizer import IMAGENET_INPUT
from headway.backbones.vit import ViT
from headway.backbones.vit_config import VIT_SIZES, ViTConfig
from headway.errors import HeadwayError, unknown_name_error
from headway.protocol import Backbone, InputSpec


def build_backbone(
    name: str,
    *,
    size: int,
    input_spec: InputSpec | None = None,
    stem: str = "linear",
    patch_size: int = 0,
    pooling: str = "mean",
    class_token: bool | None = None,
    pretrained: bool = False,
    **overrides: Any,
) -> ImageBackbone:
    """Build a backbone with newly initialized weights.

    Args:
        name: "vit_pico" ... "vit_large", or "timm:NAME".
        size: Usual side of the images in pixels.
        input_spec: How images are normalized, their number of channels, and whether they become grayscale. None means
            ImageNet's statistics, or timm's values for the model.
        stem: Stem of a ViT: "linear", "conv" or "residual".
        patch_size: Patch size of a ViT; 0 means 4 up to 32 pixels, 8 up to 96, 16 above.
        pooling: "mean" of the patches, or "class".
        class_token: Whether a ViT has a class token; None means where ``pooling`` needs it.
        pretrained: Whether to download timm's weights; our own ViTs have none.
        overrides: Any other field of ``ViTConfig`` or ``TimmConfig``.

    Raises:
        HeadwayError: A name, option or value does not exist; the message suggests valid ones.
    """
    if name.startswith("timm:"):
        if stem != "linear" or patch_size or class_token is not None:
            raise HeadwayError(
                "options-conflict",
                f"{name} has its own stem, patches and tokens; leave stem, patch_size, class_token out",
            )
        return _build_timm(
            name.removeprefix("timm:"), pretrained, size=size, pooling=pooling, input_spec=input_spec, **overrides
        )
    if name not in VIT_SIZES:
        known = [*VIT_SIZES, *(f"timm:{model}" for model in _timm_models())]
        raise unknown_name_error("backbone", name, _close_matches(name, known, VIT_SIZES))
    if pretrained:
        raise HeadwayError(
            "backbone-unsupported", f"there are no pretrained weights for {name}; take a timm:NAME, or load a run"
        )
    embed_dim, depth, num_heads = VIT_SIZES[name]
    options = {
        "embed_dim": embed_dim, "depth": depth, "num_heads": num_heads, **overrides, "size": size, "stem": stem,
        "pooling": pooling, "input_spec": input_spec or IMAGENET_INPUT,
        "patch_size": patch_size or auto_patch_size(size),
        "class_token": pooling == "class" if class_token is None else class_token,
    }  # fmt: skip
    return ViT(_make_config(ViTConfig, options))


def auto_patch_size(size: int) -> int:
    """Return the default patch size for an image size, in pixels: usual sizes give about 64 to 200 tokens."""
    return 4 if size <= 32 else 8 if size <= 96 else 16


def to_config(backbone: Backbone) -> dict[str, Any]:
    """Return plain data (JSON) from which ``from_config`` rebuilds this backbone, without its weights.

    Raises:
        ValueError: The network is not a backbone from ``build_backbone``.
    """
    if not backbone.kind:
        raise ValueError(f"{type(backbone).__name__} is not a backbone from build_backbone")
    return {"kind": backbone.kind, **asdict(backbone.config), "input_spec": backbone.input_spec._asdict()}


def from_config(config: dict[str, Any]) -> ImageBackbone:
    """Build a backbone, with newly initialized weights, from the result of ``to_config`` (or its copy from JSON).

    Raises:
        HeadwayError: The data do not describe a backbone.
    """
    try:
        options = dict(config)
        kind, spec = options.pop("kind"), options["input_spec"]
        tuples = {name: tuple(value) for name, value in spec.items() if isinstance(value, (list, tuple))}
        options["input_spec"] = InputSpec(**{**spec, **tuples})
        if kind == ViT.kind:
            return ViT(_make_config(ViTConfig, options))
        if kind == "timm":
            return _build_timm(options.pop("model"), False, **options)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HeadwayError(
            "config-invalid", f"not the configuration of a backbone: {config!r:.200} ({error})"
        ) from error
    raise HeadwayError("backbone-unsupported", f"unknown kind of backbone {kind!r}: this version knows vit and timm")


def check_supports(backbone: Backbone, requires: Iterable[str], task: str = "this") -> HeadwayError | None:
    """Return the error to raise where a backbone does not support all that a task requires, else None.

    Args:
        backbone: The backbone.
        requires: ``PretextTask.requires``.
        task: Name of the task, for the message.
    """
    missing = sorted(set(requires) - backbone.supports)
    if not missing:
        return None
    supported = " and ".join(sorted(backbone.supports))
    return HeadwayError(
        "backbone-unsupported",
        f"task {task} needs a backbone that supports {' and '.join(missing)}; "
        f"{backbone.name} supports {f'only {supported}' if supported else 'none of them'}: take a ViT such as vit_tiny",
    )


def load_timm(name: str, size: int = 0, pretrained: bool = True) -> ImageBackbone:
    """Load the backbone timm:NAME with timm's weights, in evaluation mode.

    Args:
        name: Name with the prefix "timm:".
        size: Side of the images in pixels; 0 means timm's own size for the model (224 where timm has none).
        pretrained: Whether to download timm's weights.

    Raises:
        HeadwayError: timm has no such model or weights, or cannot download or build them.
    """
    from timm.models import get_pretrained_cfg

    try:
        cfg = get_pretrained_cfg(name.removeprefix("timm:"))
    except RuntimeError as error:  # an unknown tag
        raise HeadwayError(
            "weights-not-found", f"timm has no weights called {name}: {error}; leave out the part after the dot"
        ) from error
    default_size = int(cfg.input_size[-1]) if cfg else 224
    return build_backbone(name, size=size or default_size, pretrained=pretrained).eval()


def _build_timm(model: str, pretrained: bool, **options: Any) -> ImageBackbone:
    if model.split(".")[0] not in _timm_models():
        raise unknown_name_error(
            "timm model", model, _close_matches(model, _timm_models(), ("resnet18", "resnet50", "convnext_tiny"))
        )
    from headway.backbones.timm_adapter import TimmBackbone, TimmConfig

    return TimmBackbone(_make_config(TimmConfig, {"model": model, **options}), pretrained)


def _timm_models() -> list[str]:
    import timm  # imported late, since it takes a second or more

    return timm.list_models()


def _close_matches(name: str, candidates: Iterable[str], default: Iterable[str]) -> list[str]:
    """Return the candidates most similar to ``name``, since timm has too many models to list them all."""
    return difflib.get_close_matches(name, candidates, n=3, cutoff=0.5) or list(default)


def _make_config(kind: type[Any], options: dict[str, Any]) -> Any:
    """Build a configuration from named options. Raises HeadwayError for an unknown option."""
    names = [field.name for field in fields(kind)]
    for option in options:
        if option not in names:
            raise unknown_name_error("backbone option", option, names)
    return kind(**options)
