"""The vision transformer: cut the picture into patches, make each a token, let the tokens look at one another.

Dosovitskiy et al., "An image is worth 16x16 words", 2021 (https://arxiv.org/abs/2010.11929); registers from Darcet et
al., "Vision transformers need registers", 2024 (https://arxiv.org/abs/2309.16588).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.backbones.positions import sine_positions, stretch
from headway.backbones.prepare import IMAGENET, Prepare, check_inputs, check_patches, grid_of, paint
from headway.backbones.stem import STEMS
from headway.draws import keep_mask
from headway.errors import HeadwayError, unknown
from headway.nn.block import Block
from headway.nn.rotary import Turns, check_head_width, grid_angles
from headway.nn.shapes import head_width_of
from headway.protocol import Features, Inputs


@dataclass(frozen=True)
class ViTConfig:
    """Every choice of a ViT."""

    width: int = 192
    """D, of every token; 4 divides it."""
    depth: int = 12
    """Blocks."""
    attention_heads: int = 3
    """Attentions side by side in a block; must divide the width."""
    patch_size: int = 8
    """Pixels a side of a patch."""
    size: int = 64
    """Side in pixels of the pictures that the table of positions is made for; others stretch it."""
    stem: Literal["linear", "conv", "residual"] = "linear"
    """How pixels become tokens: one linear map, a few convolutions, or a small residual network."""
    positions: Literal["learned", "rotary"] = "learned"
    """How a token knows its place: a learned table is added once, or queries and keys are turned in each block."""
    class_token: bool = False
    """Whether a learned token that stands for the whole picture goes with the patches."""
    registers: int = 0
    """Learned tokens that stand for nothing, as room for attention to put things."""
    drop_path: float = 0.0
    """Chance that a branch of the last block is skipped for a picture in training; less before, 0 in the first."""
    layer_scale: float | None = None
    """Where the learned scale of each branch starts; None means no scale."""
    qk_norm: bool = False
    """Whether queries and keys are normalised in each attention head, which keeps large networks steady."""
    pool: Literal["mean", "class"] = "mean"
    """What stands for the picture: the mean of the normalised patch tokens, or the class token."""
    inputs: Inputs = IMAGENET
    """How pictures are normalised, their channels, and whether they are greyed."""

    def __post_init__(self) -> None:
        check_inputs(self.inputs)
        for name, low in (("width", 4), ("depth", 1), ("patch_size", 1), ("size", 1), ("registers", 0)):
            if getattr(self, name) < low:
                raise HeadwayError(f"ViT {name} must be {low} or more, got {getattr(self, name)}")
        if self.width % 4:
            raise HeadwayError(f"ViT width must be divisible by 4 (two axes, sine and cosine), got {self.width}")
        if self.stem not in STEMS:
            raise unknown("stem", self.stem, STEMS)
        if self.size % self.patch_size:
            low = self.size // self.patch_size * self.patch_size
            sizes = [str(side) for side in (low, low + self.patch_size) if side]
            raise HeadwayError(
                f"size {self.size} is not divisible by patch size {self.patch_size}: take size {' or '.join(sizes)}, "
                "or another patch size"
            )
        head_width = head_width_of(self.width, self.attention_heads)
        if self.positions not in ("learned", "rotary"):
            raise unknown("positions", self.positions, ("learned", "rotary"))
        if self.positions == "rotary":
            check_head_width(head_width)
        if not 0.0 <= self.drop_path < 1.0:
            raise HeadwayError(f"ViT drop_path is a chance in [0, 1), got {self.drop_path}")
        if self.pool not in ("mean", "class"):
            raise unknown("pool", self.pool, ("mean", "class"))
        if self.pool == "class" and not self.class_token:
            raise HeadwayError("pool='class' needs class_token=True")


class ViT(nn.Module):
    """A backbone (see ``headway.protocol.Backbone``) that can keep, mask, misplace and show its layers.

    Args:
        config: Every choice.
    """

    can = frozenset({"keep", "mask", "place", "layers"})

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config, self.inputs = config, config.inputs
        self.embed_dim, self.fill_dim, self.patch_size = config.width, config.width, config.patch_size
        self.depth = config.depth
        self.drop_path = config.drop_path  # a teacher sets it to 0
        side = config.size // config.patch_size
        self.prepare = Prepare(config.inputs)
        self.stem = STEMS[config.stem](config.inputs.channels, config.width, config.patch_size)
        table = sine_positions(side, side, config.width) if config.positions == "learned" else None
        self.positions = None if table is None else nn.Parameter(table)  # rows columns D
        self.class_token = nn.Parameter(torch.empty(1, config.width)) if config.class_token else None
        self.registers = nn.Parameter(torch.empty(config.registers, config.width)) if config.registers else None
        self.blocks = nn.ModuleList(
            Block(config.width, config.attention_heads, layer_scale=config.layer_scale, qk_norm=config.qk_norm)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        initialise(self)

    @property
    def name(self) -> str:
        """As typed on the command line, where its sizes have a name."""
        sizes = (self.config.width, self.config.depth, self.config.attention_heads)
        return next((name for name in SIZES if SIZES[name] == sizes), f"ViT {sizes[0]}x{sizes[1]}")

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

        Raises:
            HeadwayError: For pictures that the network can't take.
            ValueError: For ``keep``, ``mask``, ``fill`` or ``layers`` that don't fit.
        """
        wanted = [self._layer(number) for number in layers]
        x = self.prepare(images, self.norm.weight.dtype)  # B C H W
        grid = grid_of(x, self.patch_size)
        if keep is not None:
            check_patches("keep", keep, x.shape[0])
        tokens = self._tokens(x, grid, keep, mask, fill)  # B N D
        if self.positions is not None:
            positions = stretch(self.positions, grid)  # N D
            tokens = tokens + (positions if place else positions * 0.0)  # times 0: every parameter keeps a gradient
        if keep is not None:
            tokens = tokens.gather(1, keep[..., None].expand(-1, -1, self.embed_dim))  # B K D
        prefix = [p.expand(x.shape[0], -1, -1) for p in (self.class_token, self.registers) if p is not None]  # B P D
        tokens = torch.cat([*prefix, tokens], 1) if prefix else tokens  # B P+N D
        ahead = sum(p.shape[1] for p in prefix)
        turns = self._turns(grid, ahead, keep) if self.positions is None and place else None
        outputs = []
        for block, drop in zip(self.blocks, self._drops(tokens), strict=True):
            tokens = block(tokens, drop, turns)
            outputs.append(tokens)
        tokens = self.norm(tokens)
        patches = tokens[:, ahead:]  # B N D
        pooled = tokens[:, 0] if self.config.pool == "class" else patches.mean(1)  # B D
        return Features(pooled, patches, tokens[:, :ahead], grid, tuple(outputs[number] for number in wanted))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile block by block: all share one program, and keys of the state dict stay as they are."""
        for block in self.blocks:
            block.compile(*args, **kwargs)

    def _layer(self, number: int) -> int:
        if not -len(self.blocks) <= number < len(self.blocks):
            raise ValueError(f"there are layers 0..{len(self.blocks) - 1} (or -1 for the last), got {number}")
        return number % len(self.blocks)

    def _tokens(
        self, x: Tensor, grid: tuple[int, int], keep: Tensor | None, mask: Tensor | None, fill: Tensor | None
    ) -> Tensor:
        """B N D: a token a patch, from which nothing of a dropped or masked patch can be told."""
        if mask is not None:
            check_patches("mask", mask, len(x), math.prod(grid))
        if self.stem.overlaps and (keep is not None or mask is not None):
            hidden = x.new_zeros(len(x), math.prod(grid), dtype=torch.bool) if mask is None else mask  # B N
            if keep is not None:
                hidden = hidden | torch.ones_like(hidden).scatter(1, keep, False)  # B N
            x = paint(x, hidden, self.patch_size)
        tokens = self.stem(x)  # B N D
        if mask is None:
            return tokens
        if fill is None:
            return tokens.masked_fill(mask[..., None], 0.0)
        if fill.shape != (self.fill_dim,):
            raise ValueError(f"fill must hold {self.fill_dim} numbers, got {tuple(fill.shape)}")
        return torch.where(mask[..., None], fill.to(tokens.dtype), tokens)

    def _turns(self, grid: tuple[int, int], ahead: int, keep: Tensor | None) -> Turns:
        """Rotary positions of all tokens; the ``ahead`` prefix tokens before them stand nowhere and are not turned."""
        trained, head_width = self.config.size // self.patch_size, self.config.width // self.config.attention_heads
        angles = grid_angles(grid, trained, head_width, like=self.norm.weight)  # N d/2
        angles = angles[None] if keep is None else angles[keep]  # 1 N d/2, or B K d/2
        angles = F.pad(angles, (0, 0, ahead, 0))[:, None]  # 1 1 T d/2, or B 1 T d/2
        return angles.cos(), angles.sin()

    def _drops(self, tokens: Tensor) -> list[tuple[Tensor, Tensor] | None]:
        """Drop-path factors (B,) for the two branches of each block; None where nothing is dropped."""
        rates = [self.drop_path * block / max(len(self.blocks) - 1, 1) for block in range(len(self.blocks))]
        if not self.training:
            return [None] * len(rates)
        factors = [keep_mask(len(tokens), rate, 2, device=tokens.device) if rate else None for rate in rates]  # B 2
        return [None if factor is None else (factor[:, 0], factor[:, 1]) for factor in factors]


def initialise(vit: ViT) -> None:
    """Xavier-uniform linear maps (Glorot and Bengio 2010), zero biases, small tokens.

    Queries, keys and values are three maps in one matrix and start as three, so do the attention heads' outputs.
    """
    for name, part in vit.named_modules():
        if isinstance(part, nn.Linear):
            for rows in part.weight.data.chunk(3 if name.endswith("qkv") else 1):
                nn.init.xavier_uniform_(rows)
            nn.init.zeros_(part.bias)
    for token in (vit.class_token, vit.registers):
        if token is not None:
            nn.init.trunc_normal_(token, std=0.02)


SIZES = {
    "vit_pico": (128, 2, 4),
    "vit_nano": (96, 4, 3),
    "vit_micro": (128, 6, 4),
    "vit_tiny": (192, 12, 3),
    "vit_small": (384, 12, 6),
    "vit_base": (768, 12, 12),
    "vit_large": (1024, 24, 16),
}
"""Width, depth and attention heads by name."""
