"""Build timm models and remove the parts that features do not depend on."""

from typing import Any

import timm
from torch import nn

from headway.errors import HeadwayError
from headway.protocol import InputSpec


def create_timm_model(name: str, size: int, input_spec: InputSpec | None, pretrained: bool) -> tuple[Any, bool]:
    """Build a timm model without classifier and without dropout, and tell whether it accepts images of any size.

    Args:
        name: Name of the model in timm.
        size: Side in pixels of the images for which it is built.
        input_spec: Its number of channels is used; None means timm's.
        pretrained: Whether to download timm's weights.

    Raises:
        HeadwayError: timm cannot build the model for this size, or cannot download its weights.
    """
    fixed: dict[str, Any] = {"pretrained": pretrained, "num_classes": 0}
    if input_spec is not None:
        fixed["in_chans"] = input_spec.channels
    for sized in ({"img_size": size, "dynamic_img_size": True}, {"img_size": size}, {}):
        try:
            model = timm.create_model(name, **fixed, **sized)
        except TypeError as error:  # the constructor has no such option
            refusal = str(error)
            continue
        except (AssertionError, RuntimeError, ValueError, OSError) as error:
            raise HeadwayError("image-size", f"timm cannot build {name} for {size} x {size} pixels: {error}") from error
        disable_stochasticity(model)
        dynamic = getattr(getattr(model, "patch_embed", None), "dynamic_img_pad", None) is not None
        return model, not sized or (dynamic and not getattr(model.patch_embed, "strict_img_size", True))
    raise HeadwayError("image-size", f"timm cannot build {name}: {refusal}")


def disable_stochasticity(model: nn.Module) -> None:
    """Disable dropout, drop-path and the augmentation of rotary positions, in place.

    Many timm models have some of them by default. Their masks come from torch's global generator, so that a resumed run
    or a run on another number of processes would compute other values.
    """
    part: Any
    for part in model.modules():
        for name, value in list(vars(part).items()):
            if "drop" in name and isinstance(value, float):
                setattr(part, name, 0.0)
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
        if hasattr(part, "aug_active"):  # rotary positions
            part.aug_active = False


def input_spec_of(model: Any) -> InputSpec:
    """Return the mean and std with which timm trained the model."""
    cfg = model.pretrained_cfg
    return InputSpec(tuple(cfg["mean"]), tuple(cfg["std"]), len(cfg["mean"]))


def last_feature_info(model: Any) -> dict[str, Any]:
    """Return timm's description of the last feature map ("reduction" is the total stride), or raise HeadwayError."""
    features = getattr(model, "feature_info", None)
    if not features:
        raise HeadwayError(
            "backbone-unsupported", f"{type(model).__name__} does not tell its total stride; take another model"
        )
    return dict((features if isinstance(features, list) else features.info)[-1])


def use_cifar_stem(model: Any, name: str) -> None:
    """Replace the first layer of a ResNet by the usual one for small images: 3x3, stride 1, no pooling.

    The total stride becomes 4 times smaller. Raises HeadwayError unless the model is a ResNet with a plain first layer.
    """
    first = getattr(model, "conv1", None)
    if not isinstance(first, nn.Conv2d) or not isinstance(getattr(model, "maxpool", None), nn.MaxPool2d):
        raise HeadwayError(
            "options-conflict", f"cifar_stem=True is for ResNets such as timm:resnet18, not for timm:{name}"
        )
    model.conv1 = nn.Conv2d(first.in_channels, first.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()


def remove_classifier(model: Any) -> nn.Module:
    """Remove the layers after the features, in place; return their norm (or identity), to be applied to features."""
    norm = getattr(model, "fc_norm", None) or getattr(getattr(model, "head", None), "norm", None) or nn.Identity()
    for part in ("fc_norm", "head", "head_dist", "fc", "classifier"):
        if isinstance(getattr(model, part, None), nn.Module):
            setattr(model, part, nn.Identity())
    return norm


def remove_unused(module: nn.Module) -> None:
    """After a backward pass, remove modules whose parameters have no gradient, and freeze such single parameters."""
    for name, child in list(module.named_children()):
        parameters = list(child.parameters())
        if parameters and all(parameter.grad is None for parameter in parameters):
            setattr(module, name, nn.Identity())
        else:
            remove_unused(child)
    for parameter in module.parameters(recurse=False):
        parameter.requires_grad_(parameter.requires_grad and parameter.grad is not None)


def depth_groups(model: Any) -> dict[str, int]:
    """Depth of each parameter, from 0: its group in timm's order; where timm has no groups, the order of parts."""
    if not hasattr(model, "group_matcher"):
        return _depths_by_order(model)
    from timm.models import group_parameters

    return dict(group_parameters(model, model.group_matcher(coarse=False), reverse=True))


def _depths_by_order(network: nn.Module) -> dict[str, int]:
    """Depth by parameter name: the parts are numbered in order.

    Every member of a list is a part of its own, and a norm has the depth of the part before it. Positions and tokens
    are parameters of the network itself and have depth 0.
    """
    parts: list[tuple[str, nn.Module]] = []
    for name, part in network.named_children():
        is_list = isinstance(part, (nn.Sequential, nn.ModuleList))
        parts += [(f"{name}.{key}", member) for key, member in part.named_children()] if is_list else [(name, part)]
    depths, depth = {name: 0 for name, _ in network.named_parameters(recurse=False)}, -1
    for name, part in parts:
        if inner := [f"{name}.{key}" for key, _ in part.named_parameters()]:
            depth = max(depth + ("norm" not in type(part).__name__.lower()), 0)
            depths |= dict.fromkeys(inner, depth)
    return depths
