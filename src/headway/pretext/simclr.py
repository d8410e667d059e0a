"""SimCLR: two crops of one picture should resemble each other more than any other picture's crops.

With z the normalised projections of 2B views and j(i) the other view of i's picture,

    loss = - mean_i log  exp(z_i . z_j(i) / t) / sum_{k != i} exp(z_i . z_k / t)

Chen, Kornblith, Norouzi and Hinton, "A simple framework for contrastive learning of visual representations", 2020
(https://arxiv.org/abs/2002.05709).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.config import Optim, Recipe, bound
from headway.distributed import all_rows, repeated
from headway.draws import Draws
from headway.measure.health import spread
from headway.nn.heads import projector
from headway.nn.numerics import full_precision, unit
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask
from headway.views.augment import Augment, simclr
from headway.views.geometry import centre_resize
from headway.views.pair import Pair, deal_pair


@dataclass(frozen=True)
class SimCLR:
    """Choices of SimCLR."""

    temperature: float = 0.2
    """t above: how sharply the nearest strangers count. The paper finds 0.1 to 0.5 good, less for longer runs."""
    hidden: int = 512
    """Width of the projector's hidden layer (2048 in the paper, for networks many times wider than ours)."""
    projection: int = 128
    """Width of z."""
    augment: Augment | None = None
    """How views are made; none: the paper's, without blur where the view is 32 pixels or less (its CIFAR setting)."""
    low: float = 0.0
    """Share of the run, from its beginning, for which the network sees views of three quarters of the side: coarse
    things are learnt first, and cheaper (Tan and Le, EfficientNetV2, https://arxiv.org/abs/2104.00298)."""

    def __post_init__(self) -> None:
        bound(self, "temperature", above=0)
        bound(self, "hidden projection", at_least=1)
        bound(self, "low", at_least=0, below=1)

    def build(self, backbone: Backbone, facts: Facts) -> "SimCLRTask":
        """Make the task: a projector of two layers on the pooled features."""
        return SimCLRTask(self, backbone.embed_dim, facts.size)


class SimCLRTask(PretextTask):
    """Tell a picture from all others, whatever the crop and the colours."""

    couples_batch: ClassVar[bool] = True
    minimum_batch: ClassVar[int] = 2

    def __init__(self, config: SimCLR, width: int, size: int):
        super().__init__()
        self.temperature, self.size, self.low = config.temperature, size, config.low
        self.phases = (0.0, config.low) if config.low else (0.0,)
        self.augment = config.augment or simclr(size)
        self.projector = projector([width, config.hidden, config.projection])

    def views(self, batch: Batch, draws: Draws) -> Pair:
        """Two independent crops of each picture."""
        return deal_pair(batch, draws, self.size, self.augment, self.augment)

    def forward(self, backbone: Backbone, views: Pair, clock: Clock) -> Outcome:
        """NT-Xent over the views of all processes."""
        images = views.images if clock.progress >= self.low else smaller(views.images, backbone.patch_size)
        features = backbone(images).pooled  # 2*B D
        first, second = self.projector(features).chunk(2)  # B D each
        loss, agreement = nt_xent(first, second, self.temperature, views.number)
        metrics = {
            "agreement": agreement,
            "spread": spread(features[: len(first)]),
            "target_spread": spread(second),
        }
        return Outcome(loss, metrics)

    def panels(self, batch: Batch, views: Pair, backbone: Backbone | None = None) -> list[Panel]:
        """The picture, its two views, and the view that the network takes for the first one's other."""
        b = len(batch.images)
        first, second = views.images.chunk(2)  # B C H W each
        shown = [
            Panel("the picture", centre_resize(batch.images, self.size)),
            Panel("first view", first),
            Panel("second: the label", second),
        ]
        if backbone is not None:
            z = unit(self.projector(backbone(views.images).pooled))  # 2*B D
            logits = (z @ z.T / self.temperature).fill_diagonal_(float("-inf"))[:b]  # B 2*B
            chances, nearest = logits.softmax(1).max(1)  # B each
            captions = [
                f"{100 * chance:.0f} % among {2 * b - 1} views, {'right' if other == b + i else 'wrong'}"
                for i, (chance, other) in enumerate(zip(chances.tolist(), nearest.tolist(), strict=True))
            ]
            shown.append(Panel("taken for the second", views.images[nearest], captions))
        return shown


def smaller(images: Tensor, patch: int) -> Tensor:
    """B C H W at three quarters of the side, in whole patches, where 2 x 2 of them are left; else as it was."""
    side = images.shape[-1] * 3 // 4 // patch * patch
    if side < 2 * patch:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)  # B C side side


@full_precision
def nt_xent(first: Tensor, second: Tensor, temperature: float, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The normalised, temperature-scaled cross-entropy of the paper's equation 1.

    Args:
        first: B D, projections of one view of each of this process's pictures; not normalised.
        second: B D, those of the other view.
        temperature: t > 0.
        index: B, int64, the picture of each row: one that is there twice is no stranger to itself; none: all differ.

    Returns:
        The mean loss over this process's 2B views against those of all processes, and the share of views whose other
        view is the nearest of all.
    """
    count = len(first)
    pairs, start = all_rows(torch.cat([unit(first), unit(second)], dim=1))  # A 2*D, A pictures over all processes
    everyone = torch.cat(pairs.chunk(2, dim=1))  # 2*A D
    total = len(pairs)
    here = torch.arange(start, start + count, device=first.device)  # B
    anchors, positives = torch.cat([here, here + total]), torch.cat([here + total, here])  # 2*B each
    logits = everyone[anchors] @ everyone.T / temperature  # 2*B 2*A
    logits = logits.scatter(1, anchors[:, None], float("-inf"))  # a view is no stranger to itself
    if index is not None:
        logits = logits.masked_fill(repeated(index).repeat(2, 2), float("-inf"))
    agreement = (logits.argmax(1) == positives).float().mean()
    return F.cross_entropy(logits, positives), agreement


RECIPE = Recipe(task=SimCLR(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.05), epochs=200, batch=256)
