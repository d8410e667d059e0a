"""Tiles: a square of each picture is cut into 3 x 3 cells, and a smaller tile out of each cell.

Doersch, Gupta and Efros, "Unsupervised visual representation learning by context prediction", 2015
(https://arxiv.org/abs/1505.05192); Noroozi and Favaro, "Unsupervised learning of visual representations by solving
jigsaw puzzles", 2016 (https://arxiv.org/abs/1603.09246).

Sizes, in pixels of the stored picture: a square of side s (``Tiles.scale`` says how much of the picture) has cells of
c = s / 3; a tile is u = floor((1 - gap) c) wide and strays by up to jitter x gap x c from the middle of its cell, so
that neighbours are between (1 - 2 jitter) gap c and (1 + 2 jitter) gap c apart. The network sees it at ``tile_side``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from headway.draws import Draws
from headway.errors import HeadwayError
from headway.views.geometry import crop_resize, flip, random_boxes
from headway.views.pixels import each, to_unit

GRID = 3
"""Cells a side; they are counted row by row."""
CELLS = GRID**2
CENTRE = CELLS // 2


@dataclass(frozen=True)
class Tiles:
    """How tiles are cut. Called with pictures, draws and a side, it deals them."""

    scale: tuple[float, float] = (0.6, 1.0)
    """Share of the picture's area in the square that is cut up."""
    gap: float = 0.25
    """Space between neighbours in the middle of their cells, as a share of a cell: an edge must not run on."""
    jitter: float = 0.5
    """How far a tile may stray from there, as a share of the gap; at most 0.5, where neighbours may touch."""
    flip: float = 0.5
    """Probability of mirroring the picture left to right before it is cut."""

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise HeadwayError(f"tiles scale needs 0 < low <= high <= 1, got {low}, {high}")
        for name, most in (("gap", 0.9), ("jitter", 0.5), ("flip", 1.0)):
            if not 0 <= getattr(self, name) <= most:
                raise HeadwayError(f"tiles {name} lies between 0 and {most}, got {getattr(self, name)}")

    def __call__(self, images: Tensor, draws: Draws, side: int, order: Tensor | None = None) -> Tensor:
        """Deal tiles.

        Args:
            images: B C H W, uint8 or floating point in [0, 1]; H and W at least 3.
            draws: Chance, per picture and tile.
            side: Of a tile as the network sees it, in pixels.
            order: B V, int64 in 0..8: the cells whose tiles are dealt, in this order; None means all nine, row by row.

        Returns:
            V*B C side side, view-major, float32 in [0, 1].
        """
        images = to_unit(flip(images, draws.chance(self.flip)))  # once for all tiles
        boxes = self.boxes(draws, images.shape[2], images.shape[3])  # B 9 4
        if order is not None:
            boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))  # B V 4
        return torch.cat([crop_resize(images, box, side) for box in boxes.unbind(1)])  # V*B C side side

    def boxes(self, draws: Draws, height: int, width: int) -> Tensor:
        """B 9 4, the tile of each cell: top, left, height, width.

        Whole pixels, and one width for all tiles of a picture: the fraction of a pixel by which a tile is off shows in
        how it is blurred when it is resized, and would tell noise from noise by its place.
        """
        square = random_boxes(draws, height, width, self.scale, (1.0, 1.0))  # B 4
        side = square[:, 2:].amin(1)[:, None, None]  # B 1 1
        cell = side / GRID
        cut = ((1 - self.gap) * cell).floor().clamp(min=1)  # B 1 1
        place = torch.arange(CELLS, device=square.device)  # 9
        corner = torch.stack([place // GRID, place % GRID], 1) * cell  # B 9 2
        stray = self.jitter * self.gap * cell * draws.uniform(CELLS, 2, low=-1, high=1)  # B 9 2
        # Rounding to whole pixels keeps tiles inside: the first cell starts, and the last one ends, on a whole pixel.
        begin = square[:, None, :2] + (corner + (cell - cut) / 2 + stray).round().clamp(min=0).minimum(side - cut)
        return torch.cat([begin, cut.expand(-1, CELLS, 2)], 2)  # B 9 4


def tile_side(size: int, patch: int, share: float = 1 / GRID) -> int:
    """Side in pixels at which the network sees a tile: ``share`` of the main view, in whole patches.

    At a third a tile is as large as it would be in the whole picture. It has two patches a side at least, where these
    are no more than half of the main view: a single token has nothing to attend to.

    Args:
        size: Side of the main view in pixels.
        patch: Of the backbone, in pixels.
        share: Of the main view's side, more than 0.
    """
    return max(round(share * size / patch), min(2, size // (2 * patch)), 1) * patch


def normalise(tiles: Tensor, mean: float = 0.5, deviation: float = 0.2) -> Tensor:
    """Give every channel of every tile the same mean and deviation, which hides what neighbours share: their light.

    Args:
        tiles: V*B C S S in [0, 1].
        mean: Afterwards.
        deviation: Afterwards; values further than [0, 1] reaches are cut off. Channels that hardly vary (by less than
            a fiftieth) are stretched less, since all that they have is noise.

    Returns:
        V*B C S S in [0, 1].
    """
    # Two steps each: summing a tile in one goes in another order where it is alone in its batch.
    centred = tiles - tiles.mean(3, keepdim=True).mean(2, keepdim=True)  # V*B C S S
    spread = centred.square().mean(3, keepdim=True).mean(2, keepdim=True).sqrt()  # V*B C 1 1
    return (centred * (deviation / spread.clamp(min=0.02)) + mean).clamp_(0, 1)


def drop_channels(tiles: Tensor, draws: Draws) -> Tensor:
    """Keep one channel of each tile, drawn by chance; the others become faint noise about mid-grey.

    A lens bends colours apart by an amount that grows towards the edge of the picture, so that two channels together
    tell where a tile lay; one alone can't (Doersch et al. 2015, section 4.2, noise of 1/100 of what is kept).

    Args:
        tiles: V*B C S S in [0, 1], view-major.
        draws: Chance, of B pictures.
    """
    views, channels = len(tiles) // len(draws), tiles.shape[1]
    kept = draws.integers(channels, views).T.flatten()  # V*B
    noise = draws.normal(views, *tiles.shape[1:]).transpose(0, 1).flatten(0, 1)  # V*B C S S
    stay = each(kept) == torch.arange(channels, device=tiles.device).view(-1, 1, 1)  # V*B C 1 1
    spread = tiles.flatten(2).std(2, unbiased=False).gather(1, kept[:, None])  # V*B 1
    return torch.where(stay, tiles, (0.5 + 0.01 * spread[..., None, None] * noise).clamp_(0, 1))


def project_colours(tiles: Tensor) -> Tensor:
    """Take out the axis from green to magenta, along which lenses err: x - (x . a) a / |a|^2 with a = (-1, 2, -1).

    Doersch et al. 2015, section 4.2. What is left are lightness and the axis from red to blue; pictures of other
    channels than three pass unchanged.

    Args:
        tiles: V*B 3 S S in [0, 1].
    """
    if tiles.shape[1] != 3:
        return tiles
    red, green, blue = tiles.unbind(1)  # V*B S S each
    error = ((2 * green - red - blue) / 6)[:, None]  # V*B 1 S S
    return (tiles - error * tiles.new_tensor([-1.0, 2.0, -1.0]).view(3, 1, 1)).clamp_(0, 1)


def board(tiles: Tensor, places: Tensor, frame: int = 1) -> Tensor:
    """Lay tiles out on a white board of 3 x 3, for a person to see.

    Args:
        tiles: V*B C S S, view-major.
        places: B V, int64 in 0..8: the cell where each is laid; of two on one cell, either shows.
        frame: White pixels round each.

    Returns:
        B C 3*(S+2*frame) 3*(S+2*frame).
    """
    b, views = places.shape
    framed = F.pad(tiles.float(), (frame,) * 4, value=1.0).unflatten(0, (views, b)).transpose(0, 1)  # B V C S S
    cells = framed.new_ones(b, CELLS, *framed.shape[2:])  # B 9 C S S
    cells[torch.arange(b, device=places.device)[:, None], places] = framed
    rows = cells.unflatten(1, (GRID, GRID)).permute(0, 3, 1, 4, 2, 5)  # B C 3 S 3 S
    return rows.flatten(4).flatten(2, 3)  # B C 3*S 3*S
