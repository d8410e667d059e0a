"""Which features of a backbone are written out: pooled, prefix or patches, after any of its layers."""

from typing import Any, Literal, get_args

from torch import Tensor, nn

from headway.data.picked import Pictures
from headway.downstream.features import look
from headway.errors import HeadwayError, unknown
from headway.protocol import Features

What = Literal["pooled", "prefix", "patches"]


def check_embedding(backbone: nn.Module, what: What, layer: int | None) -> None:
    """Raise HeadwayError unless the backbone has such features."""
    network: Any = backbone
    if what not in get_args(What):
        raise unknown("features", what, get_args(What))
    name = getattr(network, "name", type(network).__name__)
    if layer is not None and "layers" not in network.can:
        raise HeadwayError(f"{name} can't show its layers; leave --layer out")
    if layer is not None and not -network.depth <= layer < network.depth:
        raise HeadwayError(f"{name} has layers 0..{network.depth - 1} (or -1 for the last), got --layer {layer}")


def embed(backbone: nn.Module, images: Pictures, size: int, what: What = "pooled", layer: int | None = None) -> Tensor:
    """Features of pictures: N D pooled, N P D prefix or N N' D patches, float32.

    Args:
        backbone: Any ``protocol.Backbone``.
        images: N C S S.
        size: Side of the view.
        what: Which features.
        layer: After which block, as it leaves it, without the last norm: tokens cut into prefix and patches, and pooled
            as the backbone pools. None: the backbone's own, after the last norm.

    Raises:
        HeadwayError: Where the backbone has no prefix tokens, and they are asked for.
    """
    by_class = getattr(getattr(backbone, "config", None), "pool", "mean") == "class"

    def take(features: Features) -> Tensor:
        if layer is not None:
            ahead = features.prefix.shape[1]
            prefix, patches = features.layers[0][:, :ahead], features.layers[0][:, ahead:]  # B P D, B N' D
            pooled = prefix[:, 0] if by_class else patches.mean(1)  # B D
            features = Features(pooled, patches, prefix, features.grid)
        if what == "prefix" and not features.prefix.shape[1]:
            raise HeadwayError("the backbone has no prefix tokens (class token, registers); take pooled or patches")
        chosen: Tensor = getattr(features, what)
        return chosen

    return look(backbone, take, images, size, layers=() if layer is None else (layer,))
