"""Backbones by name, and the plain data that rebuilds one."""

import difflib
from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Any

from torch import nn

from headway.backbones.prepare import IMAGENET
from headway.backbones.vit import SIZES, ViT, ViTConfig
from headway.errors import HeadwayError, unknown
from headway.protocol import Inputs


def build_backbone(
    name: str,
    *,
    size: int,
    inputs: Inputs | None = None,
    stem: str = "linear",
    patch_size: int = 0,
    pool: str = "mean",
    class_token: bool | None = None,
    pretrained: bool = False,
    **overrides: Any,
) -> nn.Module:
    """Make a backbone with fresh weights.

    Args:
        name: "vit_nano" ... "vit_large", or "timm:NAME".
        size: Side in pixels of the pictures it will mostly see.
        inputs: How pictures are normalised, their channels, and whether they are greyed. None means ImageNet's
            statistics, or whatever timm says.
        stem: Of a ViT: "linear", "conv" or "residual".
        patch_size: Of a ViT; 0 means 4 up to 32 pixels, 8 up to 96, 16 above.
        pool: "mean" of the patches, or "class".
        class_token: Of a ViT; None means where ``pool`` needs it.
        pretrained: Fetch timm's weights; no ViT of our own has any.
        overrides: Any other field of ``ViTConfig`` or ``TimmConfig``.

    Returns:
        A module that is a ``headway.protocol.Backbone``.

    Raises:
        HeadwayError: For a name, an option or a value that doesn't exist, with what would have worked.
    """
    if name.startswith("timm:"):
        if stem != "linear" or patch_size or class_token is not None:
            raise HeadwayError(f"{name} has its own stem, patches and tokens; leave stem, patch_size, class_token out")
        return _timm(name.removeprefix("timm:"), pretrained, size=size, pool=pool, inputs=inputs, **overrides)
    if name not in SIZES:
        raise unknown("backbone", name, _near(name, [*SIZES, *(f"timm:{model}" for model in _timm_models())], SIZES))
    if pretrained:
        raise HeadwayError(f"there are no pretrained weights for {name}; take a timm:NAME, or load a run")
    width, depth, attention_heads = SIZES[name]
    choices = {"width": width, "depth": depth, "attention_heads": attention_heads, **overrides}
    choices |= {"size": size, "stem": stem, "pool": pool, "inputs": inputs or IMAGENET}
    choices["patch_size"] = patch_size or auto_patch(size)
    choices["class_token"] = pool == "class" if class_token is None else class_token
    return ViT(_config(ViTConfig, choices))


def auto_patch(size: int) -> int:
    """Pixels a side of a patch, by the size of the picture: some 64 to 200 tokens for the usual ones."""
    return 4 if size <= 32 else 8 if size <= 96 else 16


def architecture(backbone: nn.Module) -> dict[str, Any]:
    """Plain data (JSON) from which ``from_architecture`` rebuilds this backbone, weights aside.

    Raises:
        ValueError: For a module that isn't one of the house's backbones.
    """
    network: Any = backbone
    config = getattr(network, "config", None)
    kind = {"ViTConfig": "vit", "TimmConfig": "timm"}.get(type(config).__name__)
    if config is None or kind is None:
        raise ValueError(f"{type(backbone).__name__} is not a backbone that build_backbone makes")
    return {"kind": kind, **asdict(config), "inputs": network.inputs._asdict()}


def from_architecture(plain: dict[str, Any]) -> nn.Module:
    """Rebuild a backbone, with fresh weights, from what ``architecture`` gave (also after a trip through JSON).

    Raises:
        HeadwayError: For anything else.
    """
    try:
        choices = dict(plain)
        kind, given = choices.pop("kind"), choices["inputs"]
        pairs = {name: tuple(value) for name, value in given.items() if isinstance(value, (list, tuple))}
        choices["inputs"] = Inputs(**{**given, **pairs})
        if kind == "vit":
            return ViT(_config(ViTConfig, choices))
        if kind == "timm":
            return _timm(choices.pop("model"), False, **choices)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HeadwayError(f"not an architecture of a backbone: {plain!r:.200} ({error})") from error
    raise HeadwayError(f"unknown kind of backbone {kind!r}: this version knows vit and timm")


def missing(backbone: Any, needs: Iterable[str], task: str = "this") -> HeadwayError | None:
    """The error to raise where a backbone can't do all that a task needs; None where it can.

    Args:
        backbone: The backbone.
        needs: ``PretextTask.needs``.
        task: Its name, for the message.
    """
    lacking = sorted(set(needs) - backbone.can)
    if not lacking:
        return None
    able = " and ".join(sorted(backbone.can))
    name = getattr(backbone, "name", type(backbone).__name__)
    return HeadwayError(
        f"task {task} needs a backbone that can {' and '.join(lacking)}; "
        f"{name} can {f'only {able}' if able else 'do none of it'}: take a ViT such as vit_tiny"
    )


def timm_network(name: str, size: int = 0, pretrained: bool = True) -> nn.Module:
    """timm:NAME as it comes, in evaluation mode.

    Args:
        name: With timm: before it.
        size: Side in pixels of the pictures; 0: the one that timm made it for (224 where it doesn't say).
        pretrained: Fetch timm's weights.

    Raises:
        HeadwayError: timm has no such model or weights, or can't fetch or build them.
    """
    from timm.models import get_pretrained_cfg

    try:
        known = get_pretrained_cfg(name.removeprefix("timm:"))
    except RuntimeError as error:  # a tag that it doesn't know
        raise HeadwayError(f"timm has no weights called {name}: {error}; leave out what follows the dot") from error
    natural = int(known.input_size[-1]) if known else 224
    return build_backbone(name, size=size or natural, pretrained=pretrained).eval()


def _timm(model: str, pretrained: bool, **choices: Any) -> nn.Module:
    if model.split(".")[0] not in _timm_models():
        raise unknown("timm model", model, _near(model, _timm_models(), ("resnet18", "resnet50", "convnext_tiny")))
    from headway.backbones.timm_adapter import TimmBackbone, TimmConfig

    return TimmBackbone(_config(TimmConfig, {"model": model, **choices}), pretrained)


def _timm_models() -> list[str]:
    import timm  # a second or more, which only those who ask for it pay

    return timm.list_models()


def _near(given: str, every: Iterable[str], otherwise: Iterable[str]) -> list[str]:
    """The names nearest to the given one; timm has too many to list them all."""
    return difflib.get_close_matches(given, every, n=3, cutoff=0.5) or list(otherwise)


def _config(kind: type[Any], choices: dict[str, Any]) -> Any:
    """A config from named choices. Raises HeadwayError for a choice it doesn't have."""
    names = [field.name for field in fields(kind)]
    for choice in choices:
        if choice not in names:
            raise unknown("backbone option", choice, names)
    return kind(**choices)
