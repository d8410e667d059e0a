"""The features that ``headway embed`` writes: pooled, prefix or patch features, after any layer of the backbone."""

from typing import Literal, get_args

from torch import Tensor

from headway.backbones.extract import forward_batched
from headway.data.dataset.subset import Images
from headway.errors import HeadwayError, unknown_name_error
from headway.protocol import Backbone, Features

FeatureKind = Literal["pooled", "prefix", "patches"]


def check_embedding(backbone: Backbone, kind: FeatureKind, layer: int | None) -> None:
    """Raise HeadwayError unless the backbone has such features."""
    if kind not in get_args(FeatureKind):
        raise unknown_name_error("features", kind, get_args(FeatureKind))
    if layer is not None and "return_layers" not in backbone.supports:
        raise HeadwayError("options-conflict", f"{backbone.name} cannot return its layers; leave --layer out")
    if layer is not None and not -backbone.depth <= layer < backbone.depth:
        raise HeadwayError(
            "value-out-of-range",
            f"{backbone.name} has layers 0..{backbone.depth - 1} (or -1 for the last), got --layer {layer}",
        )


def embed(
    backbone: Backbone, images: Images, size: int, kind: FeatureKind = "pooled", layer: int | None = None
) -> Tensor:
    """Features of images: N D pooled, N P D prefix or N N' D patches, float32.

    Args:
        backbone: The network.
        images: N C S S.
        size: Side of the view in pixels.
        kind: Which features.
        layer: The block whose output is used, without the final norm: its tokens are split into prefix and patches, and
            pooled as the backbone pools. None: the backbone's own features, after the final norm.

    Raises:
        HeadwayError: Prefix tokens are asked for, and the backbone has none.
    """

    def select(features: Features) -> Tensor:
        if layer is not None:
            num_prefix = features.prefix.shape[1]
            prefix, patches = features.layers[0][:, :num_prefix], features.layers[0][:, num_prefix:]  # B P D, B N' D
            pooled = prefix[:, 0] if backbone.pooling == "class" else patches.mean(1)  # B D
            features = Features(pooled, patches, prefix, features.grid)
        if kind == "prefix" and not features.prefix.shape[1]:
            raise HeadwayError(
                "backbone-unsupported",
                "the backbone has no prefix tokens (class token, registers); take pooled or patches",
            )
        return getattr(features, kind)

    return forward_batched(backbone, select, images, size, return_layers=() if layer is None else (layer,))
