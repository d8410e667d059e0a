"""Building timm's models and cutting off what features don't depend on."""

from typing import Any

import timm
from torch import nn

from headway.errors import HeadwayError
from headway.protocol import Inputs


def create(name: str, size: int, inputs: Inputs | None, pretrained: bool) -> tuple[Any, bool]:
    """The model without its classifier and without chance, and whether it takes pictures of any size.

    Args:
        name: In timm.
        size: Side in pixels of the pictures that it is made for.
        inputs: Whose channels it gets; None leaves timm's.
        pretrained: Fetch timm's weights.

    Raises:
        HeadwayError: Where timm can't build it so, or can't fetch its weights.
    """
    fixed: dict[str, Any] = {"pretrained": pretrained, "num_classes": 0}
    if inputs is not None:
        fixed["in_chans"] = inputs.channels
    for sized in ({"img_size": size, "dynamic_img_size": True}, {"img_size": size}, {}):
        try:
            model = timm.create_model(name, **fixed, **sized)
        except TypeError as error:  # how a constructor says that it knows no such option
            refusal = str(error)
            continue
        except (AssertionError, RuntimeError, ValueError, OSError) as error:
            raise HeadwayError(f"timm can't build {name} for {size} x {size} pixels: {error}") from error
        still(model)
        dynamic = getattr(getattr(model, "patch_embed", None), "dynamic_img_pad", None) is not None
        return model, not sized or (dynamic and not getattr(model.patch_embed, "strict_img_size", True))
    raise HeadwayError(f"timm can't build {name}: {refusal}")


def still(model: nn.Module) -> None:
    """Take dropout, dropped paths and shifted positions off a model, in place.

    Many of timm's have some by default. Their masks come from torch's global generator, so that neither a resumed run
    nor one on more processes would repeat the bits.
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


def inputs_of(model: Any) -> Inputs:
    """The mean and std that timm trained the model with."""
    cfg = model.pretrained_cfg
    return Inputs(tuple(cfg["mean"]), tuple(cfg["std"]), len(cfg["mean"]))


def last_feature(model: Any) -> dict[str, Any]:
    """What timm says of the model's last map ("reduction" is the total stride). Raises HeadwayError if nothing."""
    features = getattr(model, "feature_info", None)
    if not features:
        raise HeadwayError(f"{type(model).__name__} doesn't say by how much it shrinks a picture; take another model")
    return dict((features if isinstance(features, list) else features.info)[-1])


def begin_small(model: Any, name: str) -> None:
    """The usual first layer for small pictures: 3x3, stride 1, and no pooling; the total stride falls by 4.

    Raises HeadwayError for what isn't a ResNet with a plain first layer.
    """
    first = getattr(model, "conv1", None)
    if not isinstance(first, nn.Conv2d) or not isinstance(getattr(model, "maxpool", None), nn.MaxPool2d):
        raise HeadwayError(f"small=True is for ResNets such as timm:resnet18, not for timm:{name}")
    model.conv1 = nn.Conv2d(first.in_channels, first.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()


def cut_after_features(model: Any) -> nn.Module:
    """Take what follows features off the model; a norm in it comes back, to finish patches and pooled alike."""
    norm = getattr(model, "fc_norm", None) or getattr(getattr(model, "head", None), "norm", None) or nn.Identity()
    for part in ("fc_norm", "head", "head_dist", "fc", "classifier"):
        if isinstance(getattr(model, part, None), nn.Module):
            setattr(model, part, nn.Identity())
    return norm


def cut_unused(module: nn.Module) -> None:
    """After a backward pass: modules none of whose parameters took part go; a lone parameter is frozen."""
    for name, child in list(module.named_children()):
        parameters = list(child.parameters())
        if parameters and all(parameter.grad is None for parameter in parameters):
            setattr(module, name, nn.Identity())
        else:
            cut_unused(child)
    for parameter in module.parameters(recurse=False):
        parameter.requires_grad_(parameter.requires_grad and parameter.grad is not None)
