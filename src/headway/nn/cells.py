"""From one token a patch to a finer grid of cells: what a pretext task needs to say something of every few pixels."""

import torch.nn.functional as F
from torch import Tensor, nn


class Cells(nn.Module):
    """Each token becomes s x s cells: a linear map, and its outputs laid side by side (B N D -> B rows*s columns*s M).

    Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural
    network", 2016 (https://arxiv.org/abs/1609.05158). A GELU follows; the task's own last layer reads the cells.

    Args:
        width: D, of the tokens.
        patch: Pixels a side of a patch.
        side: Pixels a side of a cell, about: s = patch / side, rounded down, at least 1.
        cell_width: M, numbers a cell.
    """

    def __init__(self, width: int, patch: int, side: int, cell_width: int):
        super().__init__()
        self.split = max(patch // side, 1)
        self.spread = nn.Linear(width, self.split**2 * cell_width)

    def forward(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """B N D, on a grid of rows x columns = N -> B rows*s columns*s M."""
        s = self.split
        x = F.gelu(self.spread(patches)).unflatten(2, (s, s, -1)).unflatten(1, grid)  # B rows columns s s M
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # B rows*s columns*s M
