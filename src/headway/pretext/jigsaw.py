"""Jigsaw: shuffle the tiles of an image and predict the permutation.

To restore the image, the network must recognize its parts and know how they are arranged.

    tiles    loss = - log softmax(MLP([P f(t_1), ..., P f(t_9)]))[k],   t_i the tile that permutation k puts in cell i
    tokens   loss = - mean_i log softmax(MLP(f(shuffled)_i))[sigma(i)],   sigma(i) the true position of the patch at i

Tiles pass through the backbone and the projection P separately; only the MLP behind them compares tiles. The K
permutations differ in as many cells as possible (``headway.transforms.permutations``), so that two tiles alone don't
identify one. Tokens are all N patches of a shuffled image, which attend to one another. They are shuffled as pixels,
and the backbone adds no position embeddings, so that neither a convolutional stem nor a table reveals the true
positions.

Noroozi and Favaro, "Unsupervised learning of visual representations by solving jigsaw puzzles", 2016
(https://arxiv.org/abs/1603.09246); for transformers Chen, Shen, Liu, Tao and Suykens, "Jigsaw-ViT: learning jigsaw
puzzles in vision transformer", 2022 (https://arxiv.org/abs/2207.11971).
"""

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.config import MUON, Recipe, check_range
from headway.errors import unknown_name_error
from headway.losses.classification import classification_output
from headway.nn.numerics import at_least_fp32
from headway.nn.projection_heads import projector
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.geometry import random_resized_crop
from headway.transforms.patches import permute_patches
from headway.transforms.permutations import max_hamming_permutations
from headway.transforms.tiles import GRID_SIZE, NUM_CELLS, Tiles, assemble_tiles, normalize_tiles, tile_size_for


class JigsawViews(NamedTuple):
    """Tiles as 9*B rows, cell by cell, and the index of the permutation of each shuffle: M*B, int64."""

    tiles: Tensor
    targets: Tensor


class JigsawTokensViews(NamedTuple):
    """B images with shuffled patches, and the true position of the patch at each position: B N, int64."""

    images: Tensor
    positions: Tensor


@dataclass(frozen=True)
class Jigsaw:
    """Configuration of the jigsaw task."""

    variant: Literal["tiles", "tokens"] = "tiles"
    """tiles: nine tiles, encoded separately. tokens: a ViT sees all patches, shuffled and without position
    embeddings."""
    num_permutations: int = 24
    """K, the number of permutations (tiles; the paper uses up to 1000, in longer runs)."""
    tiles: Tiles = field(default_factory=lambda: Tiles(gap=0.15, jitter=0.5))
    """How tiles are cut. The paper takes 64 of 75 pixels anywhere in the cell. (tokens: scale and flip_prob only.)"""
    num_shuffles: int = 8
    """M, the number of shuffles of the same nine tiles in a step. Each tile is encoded once for all of them (tiles)."""
    tile_ratio: float = 1 / GRID_SIZE
    """Side of a tile as the network sees it / side of the main view, rounded to whole patches (tiles)."""
    normalize_tiles: bool = True
    """Give every tile the same mean and standard deviation. Otherwise brightness reveals neighboring tiles (tiles)."""
    projection_dim: int = 64
    """Output dimension of P, for each tile (tiles)."""
    hidden_dim: int = 512
    """Dimension of the head's hidden layer."""
    keep_ratio: float = 1.0
    """Share of the shuffled patches that the network sees. Fewer make a harder and cheaper task (tokens)."""

    def __post_init__(self) -> None:
        if self.variant not in ("tiles", "tokens"):
            raise unknown_name_error("jigsaw variant", self.variant, ("tiles", "tokens"))
        check_range(self, "tile_ratio", above=0)
        check_range(self, "keep_ratio", above=0, at_most=1)
        check_range(self, "num_permutations num_shuffles projection_dim hidden_dim", at_least=1)

    def build(self, backbone: Backbone, data_info: DataInfo) -> PretextTask:
        """Build the task of the chosen variant."""
        size, patch_size = data_info.input_size, backbone.patch_size
        if self.variant == "tokens":
            return JigsawTokensTask(self, backbone.embed_dim, patch_size, size)
        return JigsawTask(self, backbone.embed_dim, tile_size_for(size, patch_size, self.tile_ratio))


class JigsawTask(PretextTask):
    """Classify the permutation of nine tiles."""

    def __init__(self, config: Jigsaw, embed_dim: int, tile_size: int):
        super().__init__()
        self.config, self.tile_size = config, tile_size
        permutations = max_hamming_permutations(NUM_CELLS, config.num_permutations).clone()  # K 9
        self.permutations = nn.Buffer(permutations, persistent=False)
        self.projection = nn.Linear(embed_dim, config.projection_dim)
        dims = [NUM_CELLS * config.projection_dim, config.hidden_dim, config.num_permutations]
        self.head = projector(dims, norm=False)

    def make_views(self, batch: Batch, rng: SampleRNG) -> JigsawViews:
        """Cut nine tiles and draw their shuffles. The target is the permutation's index."""
        tiles = self.config.tiles(batch.images, rng, self.tile_size)  # 9*B C S S
        targets = rng.integers("permutation", len(self.permutations), self.config.num_shuffles).T.flatten()  # M*B
        return JigsawViews(normalize_tiles(tiles) if self.config.normalize_tiles else tiles, targets)

    def forward(self, backbone: Backbone, views: JigsawViews, clock: TrainingClock) -> TaskOutput:
        """Cross-entropy over the K permutations."""
        logits = self._logits(backbone, views)  # M*B K
        return classification_output(logits, views.targets)

    def _logits(self, backbone: Backbone, views: JigsawViews) -> Tensor:
        projected = F.relu(self.projection(backbone(views.tiles).pooled))  # 9*B P
        cells = projected.unflatten(0, (NUM_CELLS, -1))  # 9 B P
        # The backbone encodes tiles separately, so shuffling their features equals shuffling the tiles.
        order = self.permutations[views.targets]  # M*B 9
        image = torch.arange(len(order), device=order.device) % cells.shape[1]  # M*B
        return at_least_fp32(self.head(cells[order, image[:, None]].flatten(1)))  # M*B K

    def visualize(self, batch: Batch, views: JigsawViews, backbone: Backbone | None = None) -> list[Panel]:
        """The shuffled tiles and their permutation, the tiles as the network restores them, and the image."""
        b = len(batch.images)
        targets = views.targets[:b]  # B: the first shuffle of each image
        order = self.permutations[targets]  # B 9: the tile of cell order[i] lies in cell i
        unshuffled = torch.arange(NUM_CELLS, device=order.device).expand(b, -1)  # B 9
        names = [f"permutation {target}" for target in targets]
        shuffled = Panel("shuffled", assemble_tiles(views.tiles, order.argsort(1)), names)
        original = Panel("target", assemble_tiles(views.tiles, unshuffled))
        if backbone is None:
            return [shuffled, original]
        predictions = self._logits(backbone, views)[:b].argmax(1)  # B
        cells = self.permutations[predictions].gather(1, order.argsort(1))  # B 9: where the prediction puts each tile
        marks = [f"{k}, {'right' if k == target else 'wrong'}" for k, target in zip(predictions, targets, strict=True)]
        return [shuffled, Panel("restored", assemble_tiles(views.tiles, cells), marks), original]


class JigsawTokensTask(PretextTask):
    """Classify the position of every patch."""

    requires = frozenset({"keep_indices", "use_pos_embed"})

    def __init__(self, config: Jigsaw, embed_dim: int, patch_size: int, size: int):
        super().__init__()
        self.config, self.patch_size, self.size = config, patch_size, size
        self.num_patches = (size // patch_size) ** 2
        self.num_visible = max(round(config.keep_ratio * self.num_patches), min(self.num_patches, 2))
        self.head = projector([embed_dim, config.hidden_dim, self.num_patches], norm=False)

    def make_views(self, batch: Batch, rng: SampleRNG) -> JigsawTokensViews:
        """Crop each image and shuffle its patches as pixels."""
        tiles = self.config.tiles
        images = random_resized_crop(batch.images, rng, self.size, tiles.scale, (1.0, 1.0), tiles.flip_prob)
        positions = rng.permutation("positions", self.num_patches)  # B N
        return JigsawTokensViews(permute_patches(images, positions, self.patch_size), positions)

    def forward(self, backbone: Backbone, views: JigsawTokensViews, clock: TrainingClock) -> TaskOutput:
        """Cross-entropy over the N positions, for each visible patch."""
        logits = self._logits(backbone, views)  # B K N
        targets = views.positions[:, : self.num_visible]  # B K
        return classification_output(logits.flatten(0, 1), targets.flatten())

    def _logits(self, backbone: Backbone, views: JigsawTokensViews) -> Tensor:
        keep = None
        if self.num_visible < self.num_patches:  # the first patches of a shuffled image are a random subset
            keep = torch.arange(self.num_visible, device=views.positions.device).expand(len(views.positions), -1)  # B K
        return at_least_fp32(self.head(backbone(views.images, keep_indices=keep, use_pos_embed=False).patches))  # B K N

    def visualize(self, batch: Batch, views: JigsawTokensViews, backbone: Backbone | None = None) -> list[Panel]:
        """The shuffled image, the image as the network restores it, and the image."""
        shuffled = Panel("shuffled", views.images.float())
        original = Panel("target", permute_patches(shuffled.images, views.positions.argsort(1), self.patch_size))
        if backbone is None:
            return [shuffled, original]
        from scipy.optimize import linear_sum_assignment  # imported late, since every verb imports every task

        logits = self._logits(backbone, views).cpu()  # B K N
        predictions, captions = views.positions.clone(), []
        for image, image_logits in enumerate(logits):
            # No two patches can share a position, so take the assignment with the largest sum of logits.
            assigned = torch.from_numpy(linear_sum_assignment(image_logits.numpy(), maximize=True)[1])  # K
            right = int((assigned == views.positions[image, : self.num_visible].cpu()).sum())
            captions.append(f"{right} of {self.num_visible} patches right")
            # Patches that the network did not see take the positions that are left, their own where they can.
            taken = set(assigned.tolist())
            rest = [i for i in views.positions[image, self.num_visible :].tolist() if i not in taken]
            free = sorted(set(range(self.num_patches)) - taken - set(rest))
            predictions[image] = torch.tensor([*assigned.tolist(), *rest, *free], device=predictions.device)
        restored = permute_patches(shuffled.images, predictions.argsort(1), self.patch_size)
        return [shuffled, Panel("restored", restored, captions), original]


RECIPE = Recipe(task=Jigsaw(), optim=replace(MUON, lr=8e-3), epochs=200, batch_size=64)
