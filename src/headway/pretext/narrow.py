"""The narrow transformer with which MAE paints and I-JEPA foretells: from tokens seen, say what is at places unseen.

It is thrown away with the game, and much lighter than the backbone, so that the backbone must do the understanding.
"""

from typing import Any

import torch
from torch import Tensor, nn

from headway.backbones.positions import sine_positions
from headway.errors import HeadwayError
from headway.nn.block import Block
from headway.nn.numerics import wide

HEAD = 32
"""Width of an attention head."""


def refuse_broken_heads(config: Any) -> None:
    """Raises HeadwayError where ``config.width`` is no whole number of attention heads."""
    low = config.width // HEAD * HEAD
    if low != config.width:
        near = " or ".join(str(width) for width in (low, low + HEAD) if width)
        game = type(config).__module__.rpartition(".")[2]
        raise HeadwayError(f"{game} width must be whole attention heads of {HEAD}; got {config.width}, take {near}")


class Narrow(nn.Module):
    """A narrow transformer over a grid of patches, told by sines where each token lies.

    Args:
        inputs: D, width of the tokens seen.
        outputs: E, numbers said of each place.
        grid: Rows and columns of patches.
        width: Its own, W; 0: half of D, in whole attention heads.
        depth: How many blocks.
    """

    def __init__(self, inputs: int, outputs: int, grid: tuple[int, int], width: int, depth: int):
        super().__init__()
        width = width or max(inputs // 2 // HEAD, 1) * HEAD
        self.join = nn.Linear(inputs, width)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, width // HEAD) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.say = nn.Linear(width, outputs)
        self.positions: Tensor
        self.register_buffer("positions", sine_positions(*grid, width).flatten(0, 1), persistent=False)  # N W

    def forward(self, seen: Tensor, places: Tensor, asked: Tensor) -> Tensor:
        """What it says of the places asked about; of each group on its own.

        Args:
            seen: B K D.
            places: B K, int64: where the tokens seen lie.
            asked: B M T, int64: M groups of places.

        Returns:
            B M T E, float32 or wider.
        """
        b, m, t = asked.shape
        seen = self.join(seen)  # B K W
        positions = self.positions.to(seen.dtype)  # N W
        seen = (seen + positions[places]).repeat_interleave(m, 0)  # B*M K W
        unseen = self.mask_token.to(seen.dtype) + positions[asked.flatten(0, 1)]  # B*M T W
        tokens = torch.cat([seen, unseen], 1)  # B*M K+T W
        for block in self.blocks:
            tokens = block(tokens)
        return wide(self.say(self.norm(tokens[:, -t:]))).unflatten(0, (b, m))  # B M T E


def at(tokens: Tensor, places: Tensor) -> Tensor:
    """The tokens (B N E) at each group's places (B M T): B M T E."""
    index = places.flatten(1)[..., None].expand(-1, -1, tokens.shape[-1])  # B M*T E
    return tokens.gather(1, index).unflatten(1, places.shape[1:])  # B M T E
