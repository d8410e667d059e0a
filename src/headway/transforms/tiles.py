"""Tiles: a square of each image is divided into 3 x 3 cells, and a smaller tile is cropped from each cell.

Doersch, Gupta and Efros, "Unsupervised visual representation learning by context prediction", 2015
(https://arxiv.org/abs/1505.05192); Noroozi and Favaro, "Unsupervised learning of visual representations by solving
jigsaw puzzles", 2016 (https://arxiv.org/abs/1603.09246).

Sizes in pixels of the stored image: a square of side s (its area is ``Tiles.scale`` of the image's) has cells of side
c = s / 3. A tile has side u = floor((1 - gap) c) and lies up to jitter x gap x c from the center of its cell, so that
neighbors are between (1 - 2 jitter) gap c and (1 + 2 jitter) gap c apart. It is resized to ``tile_size_for``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from headway.errors import HeadwayError
from headway.rng import SampleRNG
from headway.transforms.geometry import crop_resize, hflip, random_boxes
from headway.transforms.pixels import per_image, to_float01

GRID_SIZE = 3
"""Cells along each side; they are numbered row by row."""
NUM_CELLS = GRID_SIZE**2
CENTER_CELL = NUM_CELLS // 2


@dataclass(frozen=True)
class Tiles:
    """Parameters of tiles. Calling it with images, an RNG and a size crops the tiles."""

    scale: tuple[float, float] = (0.6, 1.0)
    """Range of the square's area as a fraction of the image's."""
    gap: float = 0.25
    """Gap between neighbors as a fraction of a cell, so that edges do not continue from tile to tile."""
    jitter: float = 0.5
    """Maximum offset of a tile as a fraction of the gap; at most 0.5, where neighbors may touch."""
    flip_prob: float = 0.5
    """Probability of a horizontal flip of the image before cropping."""

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise HeadwayError("value-out-of-range", f"tiles scale needs 0 < low <= high <= 1, got {low}, {high}")
        for name, upper in (("gap", 0.9), ("jitter", 0.5), ("flip_prob", 1.0)):
            if not 0 <= getattr(self, name) <= upper:
                raise HeadwayError(
                    "value-out-of-range", f"tiles {name} lies between 0 and {upper}, got {getattr(self, name)}"
                )

    def __call__(self, images: Tensor, rng: SampleRNG, size: int, cell_indices: Tensor | None = None) -> Tensor:
        """Crop tiles.

        Args:
            images: B C H W, uint8 or floating point in [0, 1]; H and W at least 3.
            rng: Random numbers of each image.
            size: Side of a resized tile in pixels.
            cell_indices: B V, int64 in 0..8: cells of the tiles, in this order; None means all nine, row by row.

        Returns:
            V*B C size size, view-major, float32 in [0, 1].
        """
        images = to_float01(hflip(images, rng.bernoulli("flip", self.flip_prob)))  # once for all tiles
        boxes = self.boxes(rng, images.shape[2], images.shape[3])  # B 9 4
        if cell_indices is not None:
            boxes = boxes.gather(1, cell_indices[..., None].expand(-1, -1, 4))  # B V 4
        return torch.cat([crop_resize(images, box, size) for box in boxes.unbind(1)])  # V*B C side side

    def boxes(self, rng: SampleRNG, height: int, width: int) -> Tensor:
        """Draw the tile of each cell: B 9 4: top, left, height, width.

        Tiles start at whole pixels, and all tiles of an image have one size. A fraction of a pixel would affect how
        resizing blurs a tile, and a network could tell a tile's position from that, even in noise.
        """
        square = random_boxes(rng, height, width, self.scale, (1.0, 1.0))  # B 4
        side = square[:, 2:].amin(1)[:, None, None]  # B 1 1
        cell = side / GRID_SIZE
        tile = ((1 - self.gap) * cell).floor().clamp(min=1)  # B 1 1
        index = torch.arange(NUM_CELLS, device=square.device)  # 9
        corner = torch.stack([index // GRID_SIZE, index % GRID_SIZE], 1) * cell  # B 9 2
        offset = self.jitter * self.gap * cell * rng.uniform("tile offset", NUM_CELLS, 2, low=-1, high=1)  # B 9 2
        # Rounding keeps tiles inside, since the first cell starts and the last one ends at a whole pixel.
        start = square[:, None, :2] + (corner + (cell - tile) / 2 + offset).round().clamp(min=0).minimum(side - tile)
        return torch.cat([start, tile.expand(-1, NUM_CELLS, 2)], 2)  # B 9 4


def tile_size_for(size: int, patch_size: int, tile_ratio: float = 1 / GRID_SIZE) -> int:
    """Return the side in pixels to which tiles are resized: ``tile_ratio`` of the main view, in whole patches.

    With 1/3 objects are as large as in a view of the whole image. A tile has at least two patches per side, where these
    are at most half of the main view, since a single token could attend to no other.

    Args:
        size: Side of the main view in pixels.
        patch_size: Patch size of the backbone in pixels.
        tile_ratio: Fraction of the main view's side, more than 0.
    """
    return max(round(tile_ratio * size / patch_size), min(2, size // (2 * patch_size)), 1) * patch_size


def normalize_tiles(tiles: Tensor, mean: float = 0.5, std: float = 0.2) -> Tensor:
    """Give every channel of every tile the same mean and std, since neighbors would be recognized by their lighting.

    Args:
        tiles: V*B C S S in [0, 1].
        mean: Mean of the result.
        std: Standard deviation of the result, before values are clamped to [0, 1]. Channels whose own std is below 0.02
            are amplified less, since they hold little but noise.

    Returns:
        V*B C S S in [0, 1].
    """
    # Two steps each, since the order of a single sum over a tile depends on the batch size.
    centered = tiles - tiles.mean(3, keepdim=True).mean(2, keepdim=True)  # V*B C S S
    tile_std = centered.square().mean(3, keepdim=True).mean(2, keepdim=True).sqrt()  # V*B C 1 1
    return (centered * (std / tile_std.clamp(min=0.02)) + mean).clamp_(0, 1)


def drop_channels(tiles: Tensor, rng: SampleRNG) -> Tensor:
    """Keep one random channel of each tile; the others become weak noise around 0.5.

    Chromatic aberration grows towards the edge of an image, so that two channels together reveal a tile's position; one
    channel does not (Doersch et al. 2015, section 4.2; the noise has 1/100 of the std of the kept channel).

    Args:
        tiles: V*B C S S in [0, 1], view-major.
        rng: Random numbers of B images.
    """
    num_views, channels = len(tiles) // len(rng), tiles.shape[1]
    kept = rng.integers("kept channel", channels, num_views).T.flatten()  # V*B
    noise = rng.normal("channel noise", num_views, *tiles.shape[1:]).transpose(0, 1).flatten(0, 1)  # V*B C S S
    is_kept = per_image(kept) == torch.arange(channels, device=tiles.device).view(-1, 1, 1)  # V*B C 1 1
    kept_std = tiles.flatten(2).std(2, unbiased=False).gather(1, kept[:, None])  # V*B 1
    return torch.where(is_kept, tiles, (0.5 + 0.01 * kept_std[..., None, None] * noise).clamp_(0, 1))


def project_colors(tiles: Tensor) -> Tensor:
    """Remove the green-magenta axis, which shows chromatic aberration: x - (x . a) a / |a|^2 with a = (-1, 2, -1).

    Doersch et al. 2015, section 4.2. Lightness and the red-blue axis remain. Images without three channels are not
    changed.

    Args:
        tiles: V*B 3 S S in [0, 1].
    """
    if tiles.shape[1] != 3:
        return tiles
    red, green, blue = tiles.unbind(1)  # V*B S S each
    error = ((2 * green - red - blue) / 6)[:, None]  # V*B 1 S S
    return (tiles - error * tiles.new_tensor([-1.0, 2.0, -1.0]).view(3, 1, 1)).clamp_(0, 1)


def assemble_tiles(tiles: Tensor, cell_indices: Tensor, border: int = 1) -> Tensor:
    """Arrange tiles in a white grid of 3 x 3 for display.

    Args:
        tiles: V*B C S S, view-major.
        cell_indices: B V, int64 in 0..8: the cell of each tile; of two tiles in one cell, either is shown.
        border: White pixels around each tile.

    Returns:
        B C 3*(S+2*border) 3*(S+2*border).
    """
    b, num_views = cell_indices.shape
    padded = F.pad(tiles.float(), (border,) * 4, value=1.0).unflatten(0, (num_views, b)).transpose(0, 1)  # B V C S S
    cells = padded.new_ones(b, NUM_CELLS, *padded.shape[2:])  # B 9 C S S
    cells[torch.arange(b, device=cell_indices.device)[:, None], cell_indices] = padded
    rows = cells.unflatten(1, (GRID_SIZE, GRID_SIZE)).permute(0, 3, 1, 4, 2, 5)  # B C 3 S 3 S
    return rows.flatten(4).flatten(2, 3)  # B C 3*S 3*S
