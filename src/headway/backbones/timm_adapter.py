"""Any model of timm as a backbone.

Masked patches are painted in one colour before the network sees them, which is sound for convolutions and for tokens
alike. Parameters that features don't depend on (classifiers and what stands before them) are cut. Dropout and dropped
paths are switched off: timm draws them from a generator that no seed of a run reaches.

Wightman, "PyTorch image models", 2019 (https://github.com/huggingface/pytorch-image-models).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from headway.backbones.prepare import Prepare, grid_of, paint
from headway.backbones.timm_surgery import (
    begin_small,
    create,
    cut_after_features,
    cut_unused,
    inputs_of,
    last_feature,
)
from headway.errors import HeadwayError
from headway.nn.batch_norm import sync_batch_norms
from headway.protocol import Features, Inputs


@dataclass(frozen=True)
class TimmConfig:
    """Which model of timm, and how it is cut."""

    model: str
    """Its name in timm, without "timm:"."""
    size: int = 64
    """Side in pixels of the pictures it is made for."""
    pool: Literal["mean", "class"] = "mean"
    """What stands for the picture: the mean of the patches, or the first prefix token."""
    small: bool = False
    """ResNets only: begin at full resolution (3x3, stride 1, no pooling), for pictures of up to 64 pixels or so."""
    inputs: Inputs | None = None
    """How pictures are normalised; None means as timm says for this model."""


class TimmBackbone(nn.Module):
    """A backbone (see ``headway.protocol.Backbone``) around a timm model; a map's cells count as its patches.

    Args:
        config: Which model.
        pretrained: Fetch timm's weights, through timm.

    Raises:
        HeadwayError: Where the model can't take such pictures, gives no features of a known shape, or isn't a ResNet
            though ``small`` is asked for.
    """

    def __init__(self, config: TimmConfig, pretrained: bool = False):
        super().__init__()
        model, self.any_size = create(config.model, config.size, config.inputs, pretrained)
        self.config, self.inputs = config, config.inputs or inputs_of(model)
        self.patch_size = int(last_feature(model)["reduction"])
        if config.small:
            begin_small(model, config.model)
            self.patch_size //= 4
        self.prepare = Prepare(self.inputs)
        self.network: Any = sync_batch_norms(model)
        self.finish = cut_after_features(model)
        self.prefix_tokens = int(getattr(model, "num_prefix_tokens", 0))
        self.channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        self.tokens, self.embed_dim = self._try_out()
        if config.pool == "class" and not (self.tokens and self.prefix_tokens):
            raise HeadwayError(f"{self.name} has no class token to pool; take pool='mean'")
        self.fill_dim = self.inputs.channels
        deep = self.tokens and hasattr(model, "blocks") and hasattr(model, "forward_intermediates")
        self.depth = len(model.blocks) if deep else 0
        self.can = frozenset({"mask", "layers"} if deep else {"mask"})

    @property
    def name(self) -> str:
        """As typed on the command line."""
        return f"timm:{self.config.model}"

    def forward(
        self,
        images: Tensor,
        *,
        keep: Tensor | None = None,
        mask: Tensor | None = None,
        fill: Tensor | None = None,
        place: bool = True,
        layers: Sequence[int] = (),
    ) -> Features:
        """Compute features; arguments and result are those of ``headway.protocol.Backbone``.

        Convolutional networks take any height and width where there is no mask.

        Raises:
            HeadwayError: For pictures that the network can't take, or what ``can`` doesn't name.
            ValueError: For ``mask``, ``fill`` or ``layers`` that don't fit.
        """
        asked = {"keep": keep is not None, "place": not place, "layers": bool(layers)}
        refused = [word for word, used in asked.items() if used and word not in self.can]
        if refused:
            raise HeadwayError(
                f"{self.name} can't {' or '.join(refused)}; it can only {' and '.join(sorted(self.can))}"
            )
        x = self.prepare(images, next(self.network.parameters()).dtype)  # B C H W
        if not self.any_size and x.shape[-2:] != (self.config.size,) * 2:
            given = " x ".join(map(str, x.shape[-2:]))
            raise HeadwayError(f"{self.name} was built for {self.config.size} x {self.config.size} pixels, got {given}")
        if mask is not None:
            x = paint(x, mask, self.patch_size, fill)
        return self._token_features(x, layers) if self.tokens else self._map_features(x)

    def _map_features(self, x: Tensor) -> Features:
        """Of a network that ends in a map."""
        features = self.network.forward_features(x)  # B D rows columns, or B rows columns D
        features = features.permute(0, 3, 1, 2) if self.channels_last else features  # B D rows columns
        pooled = self.finish(features.mean((2, 3), keepdim=True)).flatten(1)  # B D
        patches = self.finish(features)  # B D rows columns
        rows, columns = patches.shape[-2:]
        prefix = patches.new_zeros(x.shape[0], 0, self.embed_dim)  # B 0 D
        return Features(pooled, patches.flatten(2).transpose(1, 2), prefix, (rows, columns))

    def _token_features(self, x: Tensor, layers: Sequence[int]) -> Features:
        """Of a network that ends in tokens."""
        grid, outputs = grid_of(x, self.patch_size), {}
        if layers:
            wanted = [self._layer(number) for number in layers]
            prefixed = {"return_prefix_tokens": True} if self.prefix_tokens else {}
            tokens, between = self.network.forward_intermediates(
                x, indices=sorted(set(wanted)), output_fmt="NLC", **prefixed
            )
            if self.prefix_tokens:
                between = [torch.cat([prefix, patches], 1) for patches, prefix in between]  # B P+N D
            outputs = dict(zip(sorted(set(wanted)), between, strict=True))
            layers = wanted
        else:
            tokens = self.network.forward_features(x)  # B P+N D
        prefix, patches = self.finish(tokens).split([self.prefix_tokens, grid[0] * grid[1]], 1)  # B P D, B N D
        mean = self.finish(tokens[:, self.prefix_tokens :].mean(1))  # B D
        pooled = prefix[:, 0] if self.config.pool == "class" else mean  # B D
        return Features(pooled, patches, prefix, grid, tuple(outputs[number] for number in layers))

    def _layer(self, number: int) -> int:
        if not -self.depth <= number < self.depth:
            raise ValueError(f"{self.name} has layers 0..{self.depth - 1} (or -1 for the last), got {number}")
        return number % self.depth

    def _try_out(self) -> tuple[bool, int]:
        """Run once, to see whether tokens come out and of what width, and cut parameters that nothing depends on."""
        training, side = self.network.training, self.config.size
        self.network.eval()  # batch norms keep their statistics
        try:
            with torch.enable_grad():
                features = self.network.forward_features(torch.zeros(1, self.inputs.channels, side, side))
                width = features.shape[1 if features.dim() == 4 and not self.channels_last else -1]
                (features.sum() + sum(parameter.sum() for parameter in self.finish.parameters())).backward()
        except (AssertionError, RuntimeError, ValueError) as error:
            raise HeadwayError(
                f"{self.name} can't take pictures of {side} x {side} pixels: {error}; take another size"
            ) from error
        if features.dim() not in (3, 4):
            raise HeadwayError(f"{self.name} gives features of shape {tuple(features.shape)}, not a map or tokens")
        cut_unused(self.network)
        self.zero_grad()
        self.network.train(training)
        return features.dim() == 3, int(width)
