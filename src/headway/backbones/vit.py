"""The vision transformer: embed image patches as tokens that attend to one another.

Dosovitskiy et al., "An image is worth 16x16 words", 2021 (https://arxiv.org/abs/2010.11929); registers from Darcet et
al., "Vision transformers need registers", 2024 (https://arxiv.org/abs/2309.16588).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.backbones.base import ImageBackbone
from headway.backbones.input_normalizer import (
    InputNormalizer,
    check_patch_tensor,
    mask_pixels,
    patch_grid,
    resolve_layers,
)
from headway.backbones.pos_embed import interpolate_pos_embed, sincos_pos_embed
from headway.backbones.stem import STEMS
from headway.backbones.vit_config import VIT_SIZES, ViTConfig
from headway.nn.block import Block
from headway.nn.rotary import Rope, rope_angles
from headway.protocol import Features
from headway.rng import dropout_mask


class ViT(ImageBackbone):
    """A backbone that supports every optional argument.

    Args:
        config: Its configuration.
    """

    kind = "vit"
    supports = frozenset({"keep_indices", "mask", "use_pos_embed", "return_layers"})

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config, self.input_spec = config, config.input_spec
        self.embed_dim = self.mask_value_dim = config.embed_dim
        self.patch_size, self.image_size, self.depth = config.patch_size, config.size, config.depth
        self.pooling, self.drop_path, self.is_rotary = config.pooling, config.drop_path, config.pos_embed == "rotary"
        self.has_class_token, self.num_prefix_tokens = config.class_token, config.class_token + config.registers
        side = config.size // config.patch_size
        self.input_normalizer = InputNormalizer(config.input_spec)
        self.stem = STEMS[config.stem](config.input_spec.channels, config.embed_dim, config.patch_size)
        table = sincos_pos_embed(side, side, config.embed_dim) if config.pos_embed == "learned" else None
        self.pos_embed = None if table is None else nn.Parameter(table)  # rows columns D
        self.class_token = nn.Parameter(torch.empty(1, config.embed_dim)) if config.class_token else None
        self.registers = nn.Parameter(torch.empty(config.registers, config.embed_dim)) if config.registers else None
        self.blocks = nn.ModuleList(
            Block(config.embed_dim, config.num_heads, layer_scale=config.layer_scale, qk_norm=config.qk_norm)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.embed_dim, eps=1e-6)
        init_weights(self)

    @property
    def name(self) -> str:
        """The name on the command line, where these sizes have one."""
        sizes = (self.config.embed_dim, self.config.depth, self.config.num_heads)
        return next((name for name in VIT_SIZES if VIT_SIZES[name] == sizes), f"ViT {sizes[0]}x{sizes[1]}")

    @property
    def block_list(self) -> Sequence[nn.Module]:
        """The transformer's blocks."""
        return list(self.blocks)

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

        Raises:
            HeadwayError: The network cannot process such images.
            ValueError: ``keep_indices``, ``mask``, ``mask_value`` or ``return_layers`` does not fit.
        """
        layers = resolve_layers(return_layers, self.depth, "there are")
        x = self.input_normalizer(images, self.norm.weight.dtype)  # B C H W
        grid = patch_grid(x, self.patch_size)
        if keep_indices is not None:
            check_patch_tensor("keep_indices", keep_indices, x.shape[0])
        tokens = self._embed_patches(x, grid, keep_indices, mask, mask_value)  # B N D
        if self.pos_embed is not None:
            positions = interpolate_pos_embed(self.pos_embed, grid)  # N D
            tokens = tokens + (positions if use_pos_embed else positions * 0.0)  # times 0 keeps a gradient (for DDP)
        if keep_indices is not None:
            tokens = tokens.gather(1, keep_indices[..., None].expand(-1, -1, self.embed_dim))  # B K D
        prefix = [p.expand(x.shape[0], -1, -1) for p in (self.class_token, self.registers) if p is not None]  # B P D
        tokens = torch.cat([*prefix, tokens], 1) if prefix else tokens  # B P+N D
        rope = self._rope(grid, keep_indices) if self.pos_embed is None and use_pos_embed else None
        outputs = []
        for block, scales in zip(self.blocks, self._drop_path_scales(tokens), strict=True):
            tokens = block(tokens, scales, rope)
            outputs.append(tokens)
        tokens = self.norm(tokens)
        prefix_tokens, patches = (
            tokens[:, : self.num_prefix_tokens],
            tokens[:, self.num_prefix_tokens :],
        )  # B P D, B N D
        pooled = tokens[:, 0] if self.config.pooling == "class" else patches.mean(1)  # B D
        return Features(pooled, patches, prefix_tokens, grid, tuple(outputs[layer] for layer in layers))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile block by block: all blocks share one program, and the keys of the state dict do not change."""
        for block in self.blocks:
            block.compile(*args, **kwargs)

    def _embed_patches(
        self,
        x: Tensor,
        grid: tuple[int, int],
        keep_indices: Tensor | None,
        mask: Tensor | None,
        mask_value: Tensor | None,
    ) -> Tensor:
        """B N D: one token per patch; no token depends on the content of a dropped or masked patch."""
        if mask is not None:
            check_patch_tensor("mask", mask, len(x), math.prod(grid))
        if self.stem.overlapping and (keep_indices is not None or mask is not None):
            masked = x.new_zeros(len(x), math.prod(grid), dtype=torch.bool) if mask is None else mask  # B N
            if keep_indices is not None:
                masked = masked | torch.ones_like(masked).scatter(1, keep_indices, False)  # B N
            x = mask_pixels(x, masked, self.patch_size)
        tokens = self.stem(x)  # B N D
        if mask is None:
            return tokens
        if mask_value is None:
            return tokens.masked_fill(mask[..., None], 0.0)
        if mask_value.shape != (self.mask_value_dim,):
            raise ValueError(f"mask_value must hold {self.mask_value_dim} numbers, got {tuple(mask_value.shape)}")
        return torch.where(mask[..., None], mask_value.to(tokens.dtype), tokens)

    def _rope(self, grid: tuple[int, int], keep_indices: Tensor | None) -> Rope:
        """Rotary position embedding of all tokens; prefix tokens have no position and are not rotated."""
        train_grid_size, head_dim = self.config.size // self.patch_size, self.embed_dim // self.config.num_heads
        angles = rope_angles(grid, train_grid_size, head_dim, like=self.norm.weight)  # N d/2
        angles = angles[None] if keep_indices is None else angles[keep_indices]  # 1 N d/2, or B K d/2
        angles = F.pad(angles, (0, 0, self.num_prefix_tokens, 0))[:, None]  # 1 1 T d/2, or B 1 T d/2
        return angles.cos(), angles.sin()

    def _drop_path_scales(self, tokens: Tensor) -> list[tuple[Tensor, Tensor] | None]:
        """Drop-path factors (B,) for the two branches of each block; None where nothing is dropped."""
        if not self.training:
            return [None] * self.depth
        rates = [self.drop_path * block / max(self.depth - 1, 1) for block in range(self.depth)]
        factors = [  # B 2 each
            dropout_mask("drop path", len(tokens), rate, 2, device=tokens.device) if rate else None for rate in rates
        ]
        return [None if factor is None else (factor[:, 0], factor[:, 1]) for factor in factors]


def init_weights(vit: ViT) -> None:
    """Initialize linear maps Xavier-uniformly (Glorot and Bengio 2010), biases with zeros, tokens with small values.

    Queries, keys and values are three maps in one matrix, and each is initialized as a map of its own.
    """
    for name, part in vit.named_modules():
        if isinstance(part, nn.Linear):
            for rows in part.weight.data.chunk(3 if name.endswith("qkv") else 1):
                nn.init.xavier_uniform_(rows)
            nn.init.zeros_(part.bias)
    for token in (vit.class_token, vit.registers):
        if token is not None:
            nn.init.trunc_normal_(token, std=0.02)
