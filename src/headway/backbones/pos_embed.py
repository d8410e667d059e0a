"""Position embeddings of patches: a fixed table of sines and cosines, and its interpolation to other grids."""

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.nn.numerics import at_least_fp32


def sincos_pos_embed(rows: int, columns: int, embed_dim: int) -> Tensor:
    """Return a fixed two-dimensional position embedding: half of the width encodes the row, half the column.

    Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762), for both axes as in MoCo v3 (Chen et al. 2021,
    https://arxiv.org/abs/2104.02057): sin(p w) and cos(p w) with w = 10000^(-i / (D/4)).

    Returns:
        rows columns D. Raises ValueError unless 4 divides ``embed_dim``.
    """
    if embed_dim % 4:
        raise ValueError(f"a sine-cosine position embedding needs an embed_dim divisible by 4, got {embed_dim}")
    frequencies = 10000.0 ** (-torch.arange(embed_dim // 4, dtype=torch.float64) / (embed_dim // 4))  # D/4
    down, across = (torch.arange(n, dtype=torch.float64)[:, None] * frequencies for n in (rows, columns))
    down = torch.cat([down.sin(), down.cos()], 1)[:, None].expand(rows, columns, -1)  # rows columns D/2
    across = torch.cat([across.sin(), across.cos()], 1)[None].expand(rows, columns, -1)  # rows columns D/2
    return torch.cat([down, across], 2).float()  # rows columns D


def interpolate_pos_embed(pos_embed: Tensor, grid: tuple[int, int]) -> Tensor:
    """Interpolate a position embedding to a grid: rows columns D -> N D, bicubic, antialiased where it shrinks."""
    if pos_embed.shape[:2] != grid:
        image = at_least_fp32(pos_embed).permute(2, 0, 1)[None]  # 1 D rows columns
        image = F.interpolate(image, grid, mode="bicubic", antialias=True)  # 1 D new rows, new columns
        pos_embed = image[0].permute(1, 2, 0).to(pos_embed.dtype)  # new rows, new columns, D
    return pos_embed.flatten(0, 1)  # N D
