"""Where a patch is: a learned table that starts from sines and cosines and stretches to any grid."""

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.nn.numerics import wide


def sine_positions(rows: int, columns: int, width: int) -> Tensor:
    """Fixed two-dimensional positions: half of the width tells the row, half the column.

    Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762), for both axes as in MoCo v3 (Chen et al. 2021,
    https://arxiv.org/abs/2104.02057): sin(p w) and cos(p w) with w = 10000^(-i / (D/4)).

    Returns:
        rows columns D. Raises ValueError unless 4 divides the width.
    """
    if width % 4:
        raise ValueError(f"two-dimensional sine positions need a width that 4 divides, got {width}")
    frequencies = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))  # D/4
    down, across = (torch.arange(n, dtype=torch.float64)[:, None] * frequencies for n in (rows, columns))
    down = torch.cat([down.sin(), down.cos()], 1)[:, None].expand(rows, columns, -1)  # rows columns D/2
    across = torch.cat([across.sin(), across.cos()], 1)[None].expand(rows, columns, -1)  # rows columns D/2
    return torch.cat([down, across], 2).float()  # rows columns D


def stretch(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """The table on another grid: rows columns D -> N D, bicubic and antialiased where it shrinks."""
    if table.shape[:2] != grid:
        image = wide(table).permute(2, 0, 1)[None]  # 1 D rows columns
        image = F.interpolate(image, grid, mode="bicubic", antialias=True)  # 1 D new rows, new columns
        table = image[0].permute(1, 2, 0).to(table.dtype)  # new rows, new columns, D
    return table.flatten(0, 1)  # N D
