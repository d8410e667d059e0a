"""Any timm model as a backbone.

The pixels of masked patches are replaced by one color before the network, which is right for convolutions and for
tokens alike. Parameters that features do not depend on (classifiers and the layers before them) are removed. Dropout
and drop-path are disabled, since timm draws their masks from a generator that the seed of a run does not control.

Wightman, "PyTorch image models", 2019 (https://github.com/huggingface/pytorch-image-models).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from headway.backbones.base import ImageBackbone
from headway.backbones.input_normalizer import InputNormalizer, mask_pixels, patch_grid, resolve_layers
from headway.backbones.timm_build import (
    create_timm_model,
    depth_groups,
    input_spec_of,
    last_feature_info,
    remove_classifier,
    remove_unused,
    use_cifar_stem,
)
from headway.errors import HeadwayError
from headway.nn.batch_norm import convert_sync_batch_norm
from headway.protocol import Features, InputSpec


@dataclass(frozen=True)
class TimmConfig:
    """Which timm model, and how it is adapted."""

    model: str
    """Name of the model in timm, without "timm:"."""
    size: int = 64
    """Side in pixels of the images for which it is built."""
    pooling: Literal["mean", "class"] = "mean"
    """Pooled features: the mean of the patches, or the first prefix token."""
    cifar_stem: bool = False
    """ResNets only: start at full resolution (3x3, stride 1, no pooling), for images of up to about 64 pixels."""
    input_spec: InputSpec | None = None
    """How images are normalized; None means timm's values for this model."""


class TimmBackbone(ImageBackbone):
    """A backbone around a timm model; cells of a feature map count as patches.

    Args:
        config: Which model, and how it is adapted.
        pretrained: Whether timm downloads its weights.

    Raises:
        HeadwayError: The model cannot process such images, its features have an unknown shape, or it is no ResNet
            although ``cifar_stem`` is set.
    """

    kind = "timm"

    def __init__(self, config: TimmConfig, pretrained: bool):
        super().__init__()
        model, self.accepts_any_size = create_timm_model(config.model, config.size, config.input_spec, pretrained)
        self.config, self.input_spec = config, config.input_spec or input_spec_of(model)
        self.image_size, self.pooling = config.size, config.pooling
        self.patch_size = int(last_feature_info(model)["reduction"])
        if config.cifar_stem:
            use_cifar_stem(model, config.model)
            self.patch_size //= 4
        self.input_normalizer = InputNormalizer(self.input_spec)
        self.network: Any = convert_sync_batch_norm(model)
        self.final_layer = remove_classifier(model)
        self.num_prefix_tokens = int(getattr(model, "num_prefix_tokens", 0))
        self.has_class_token = getattr(model, "cls_token", None) is not None
        self.channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        self.outputs_tokens, self.embed_dim = self._probe_outputs()
        if config.pooling == "class" and not (self.outputs_tokens and self.num_prefix_tokens):
            raise HeadwayError("backbone-unsupported", f"{self.name} has no class token; take pooling='mean'")
        self.mask_value_dim = self.input_spec.channels
        deep = self.outputs_tokens and hasattr(model, "blocks") and hasattr(model, "forward_intermediates")
        self.depth = len(model.blocks) if deep else 0
        self.supports = frozenset({"mask", "return_layers"} if deep else {"mask"})

    @property
    def name(self) -> str:
        """The name on the command line."""
        return f"timm:{self.config.model}"

    @property
    def block_list(self) -> Sequence[nn.Module]:
        """The blocks of a model that lists them under this name."""
        blocks = getattr(self.network, "blocks", None)
        return list(blocks) if isinstance(blocks, (nn.ModuleList, nn.Sequential)) else ()

    def layer_depths(self) -> dict[str, int]:
        """As in the base class, by timm's groups of this model, or where it has none by the order of its parts."""
        known = {f"network.{name}": depth for name, depth in depth_groups(self.network).items()}
        names = [name for name, _ in self.named_parameters()]
        last = max(known[name] for name in names if name in known)
        return {name: min(known.get(name, last), last) for name in names}

    def forward(
        self,
        images: Tensor,
        *,
        keep_indices: Tensor | None = None,
        mask: Tensor | None = None,
        mask_value: Tensor | None = None,
        use_pos_embed: bool = True,
        return_layers: Sequence[int] = (),
    ) -> Features:
        """Compute features; arguments and result are those of ``headway.protocol.Backbone``.

        Convolutional networks accept any height and width where there is no mask.

        Raises:
            HeadwayError: The network cannot process such images, or ``supports`` does not name an argument in use.
            ValueError: ``mask``, ``mask_value`` or ``return_layers`` does not fit.
        """
        requested = {
            "keep_indices": keep_indices is not None,
            "use_pos_embed": not use_pos_embed,
            "return_layers": bool(return_layers),
        }
        refused = [name for name, used in requested.items() if used and name not in self.supports]
        if refused:
            supported = " and ".join(sorted(self.supports))
            raise HeadwayError(
                "backbone-unsupported",
                f"{self.name} does not support {' or '.join(refused)}; it supports only {supported}",
            )
        x = self.input_normalizer(images, next(self.network.parameters()).dtype)  # B C H W
        if not self.accepts_any_size and x.shape[-2:] != (self.config.size,) * 2:
            given = " x ".join(map(str, x.shape[-2:]))
            raise HeadwayError(
                "image-format", f"{self.name} was built for {self.config.size} x {self.config.size} pixels, got {given}"
            )
        if mask is not None:
            x = mask_pixels(x, mask, self.patch_size, mask_value)
        return self._token_features(x, return_layers) if self.outputs_tokens else self._map_features(x)

    def _map_features(self, x: Tensor) -> Features:
        """Features of a network whose output is a map."""
        features = self.network.forward_features(x)  # B D rows columns, or B rows columns D
        features = features.permute(0, 3, 1, 2) if self.channels_last else features  # B D rows columns
        pooled = self.final_layer(features.mean((2, 3), keepdim=True)).flatten(1)  # B D
        patches = self.final_layer(features)  # B D rows columns
        rows, columns = patches.shape[-2:]
        prefix = patches.new_zeros(x.shape[0], 0, self.embed_dim)  # B 0 D
        return Features(pooled, patches.flatten(2).transpose(1, 2), prefix, (rows, columns))

    def _token_features(self, x: Tensor, return_layers: Sequence[int]) -> Features:
        """Features of a network whose output is tokens."""
        grid, outputs = patch_grid(x, self.patch_size), {}
        if return_layers:
            return_layers = resolve_layers(return_layers, self.depth, f"{self.name} has")
            indices = sorted(set(return_layers))
            options = {"return_prefix_tokens": True} if self.num_prefix_tokens else {}
            tokens, intermediates = self.network.forward_intermediates(x, indices=indices, output_fmt="NLC", **options)
            if self.num_prefix_tokens:
                intermediates = [torch.cat([prefix, patches], 1) for patches, prefix in intermediates]  # B P+N D
            outputs = dict(zip(indices, intermediates, strict=True))
        else:
            tokens = self.network.forward_features(x)  # B P+N D
        prefix, patches = self.final_layer(tokens).split([self.num_prefix_tokens, grid[0] * grid[1]], 1)  # B P D, B N D
        mean = self.final_layer(tokens[:, self.num_prefix_tokens :].mean(1))  # B D
        pooled = prefix[:, 0] if self.config.pooling == "class" else mean  # B D
        return Features(pooled, patches, prefix, grid, tuple(outputs[layer] for layer in return_layers))

    def _probe_outputs(self) -> tuple[bool, int]:
        """Run once to find whether the output is tokens and how wide it is, and remove parameters without effect."""
        training, side = self.network.training, self.config.size
        self.network.eval()  # batch norms must not update their statistics
        try:
            with torch.enable_grad():
                features = self.network.forward_features(torch.zeros(1, self.input_spec.channels, side, side))
                width = features.shape[1 if features.dim() == 4 and not self.channels_last else -1]
                (features.sum() + sum(parameter.sum() for parameter in self.final_layer.parameters())).backward()
        except (AssertionError, RuntimeError, ValueError) as error:
            raise HeadwayError(
                "image-size", f"{self.name} cannot process images of {side} x {side} pixels: {error}; take another size"
            ) from error
        if features.dim() not in (3, 4):
            raise HeadwayError(
                "backbone-unsupported",
                f"{self.name} outputs {tuple(features.shape)} features, neither a map nor tokens",
            )
        remove_unused(self.network)
        self.zero_grad()
        self.network.train(training)
        return features.dim() == 3, int(width)
