"""LeJEPA: views of a picture should agree, and all pictures together should look like a round Gaussian cloud.

With z_v the embeddings (width E) of V views of a picture, m their mean over the large views, and a random directions,

    loss     = (1 - w) mean_v || z_v - m ||^2 / E  +  w mean_v mean_a T({a . z_v of every picture})
    T({x_n}) = N integral | 1/N sum_n exp(i t x_n) - exp(-t^2 / 2) |^2 exp(-t^2) dt                    (Epps-Pulley)

T stays about 1/2 where x is standard normal and grows with N where it isn't, so a collapse costs, and nothing else is
needed: no teacher, no stopped gradients, no centre, no queue. In a batch of fewer than 256 pictures T counts 256 / N
times: a collapse costs 0.13 w N, and with a small N it would be the cheapest way to agree.

Balestriero and LeCun, "LeJEPA: provable and scalable self-supervised learning without the heuristics", 2025
(https://arxiv.org/abs/2511.08544); T from Epps and Pulley, "A test for normality based on the empirical characteristic
function", 1983 (https://doi.org/10.1093/biomet/70.3.723).
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from headway.config import Optim, Recipe, bound
from headway.distributed import all_counts, all_sum
from headway.draws import Draws
from headway.measure.health import deviation, spread
from headway.nn.heads import projector
from headway.nn.numerics import full_precision, unit, wide
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask
from headway.views.crops import deal_crops, small_side

REACH, KNOTS = 5.0, 17
"""T is integrated from -REACH to REACH by the trapezoid rule with so many knots, an odd number (the paper's)."""


FULL = 256
"""Pictures in a batch from which T counts as it is."""


class Views(NamedTuple):
    """The deal, as rows, view-major: 2*B large crops and V*B small ones; and the seed of the directions."""

    large: Tensor
    small: Tensor
    directions: int


@dataclass(frozen=True)
class LeJEPA:
    """Choices of LeJEPA."""

    weight: float = 0.05
    """w: of looking Gaussian against agreeing, the one setting that the paper leaves open (0.01 to 0.1 in it, for a T
    with the window exp(-t^2 / 2), two to three times ours)."""
    directions: int = 256
    """How many are looked along, fresh ones in every step."""
    hidden: int = 512
    """Width of the projector's hidden layers (2048 in the paper, for networks many times wider than ours)."""
    projection: int = 64
    """E, width of z."""
    small_crops: int = 4
    """Small crops a picture (6 in the paper)."""
    large_scale: tuple[float, float] = (0.3, 1.0)
    """Share of the area in a large crop."""
    small_scale: tuple[float, float] = (0.08, 0.3)
    """Share of the area in a small crop."""

    def __post_init__(self) -> None:
        bound(self, "weight", at_least=0, at_most=1)
        bound(self, "directions hidden projection", at_least=1)
        bound(self, "small_crops", at_least=0)
        bound(self, "large_scale small_scale", above=0, at_most=1, rising=True)

    def build(self, backbone: Backbone, facts: Facts) -> "LeJEPATask":
        """Make the task: a projector of three layers on the pooled features."""
        return LeJEPATask(self, backbone, facts)


class LeJEPATask(PretextTask):
    """Agree on each picture, and spread all of them evenly."""

    couples_batch: ClassVar[bool] = True
    minimum_batch: ClassVar[int] = 2

    def __init__(self, config: LeJEPA, backbone: Backbone, facts: Facts):
        super().__init__()
        self.config = config
        self.sides = facts.size, small_side(facts.size, backbone.patch_size)
        self.projector = projector([backbone.embed_dim, config.hidden, config.hidden, config.projection])

    def views(self, batch: Batch, draws: Draws) -> Views:
        """Two large crops and several small ones of each picture; directions are the same on every process."""
        config = self.config
        scales = (config.large_scale, config.small_scale)
        crops = deal_crops(batch.images, draws, self.sides, config.small_crops, scales)
        return Views(*crops, draws.step.getrandbits(62))

    def forward(self, backbone: Backbone, views: Views, clock: Clock) -> Outcome:
        """Agreement of a picture's views, and the Gaussian test of each view over all processes."""
        count, weight = len(views.large) // 2, self.config.weight
        pooled = [backbone(crops).pooled for crops in (views.large, views.small) if len(crops)]
        z = wide(self.projector(torch.cat(pooled))).unflatten(0, (-1, count))  # V B E
        chance = Draws(views.directions, torch.zeros(1, dtype=torch.int64, device=z.device))
        along = unit(chance.normal(z.shape[-1], self.config.directions)[0], dim=0).to(z.dtype)  # E A, of length 1
        agree = (z - z[:2].mean(0)).square().mean()
        gauss = epps_pulley(z, along).mean()
        pictures = sum(all_counts(count, z.device))
        metrics = {
            "disagreement": agree.detach(),
            "gaussian": gauss.detach(),
            "deviation": deviation(z[0]),  # 1 is what T asks for, 0 is collapse
            "spread": spread(pooled[0][:count]),
        }
        return Outcome((1 - weight) * agree + weight * max(FULL / pictures, 1) * gauss, metrics)

    def panels(self, batch: Batch, views: Views, backbone: Backbone | None = None) -> list[Panel]:
        """The crops; with the network, how far each lies from the mean of the large ones."""
        count = len(batch.images)
        large, small = views.large.split(count), [crop for crop in views.small.split(count) if len(crop)]
        lines: list[list[str]] = [[]] * (len(large) + len(small))
        if backbone is not None:
            z = torch.stack([wide(self.projector(backbone(crop).pooled)) for crop in (*large, *small)])  # V B E
            apart = (z - z[:2].mean(0)).square().mean(-1).sqrt()  # V B
            lines = [[f"{a:.2f} deviations from the mean of large crops" for a in row] for row in apart.tolist()]
        titles = [f"large crop {i}" for i in (1, 2)] + [f"small crop {i}" for i in range(1, len(small) + 1)]
        return [Panel(*column) for column in zip(titles, (*large, *small), lines, strict=True)]


@full_precision
def epps_pulley(z: Tensor, directions: Tensor) -> Tensor:
    """T of each view along each direction, over the pictures of all processes.

    Args:
        z: V B E, embeddings of this process's pictures.
        directions: E A, of length 1.

    Returns:
        V A, the same on every process.
    """
    total = sum(all_counts(z.shape[1], z.device))
    # What is integrated is even in t and 0 at t = 0, so that half of the knots suffice, counted twice.
    t = torch.linspace(0, REACH, KNOTS // 2 + 1, device=z.device, dtype=z.dtype)[1:]  # t
    weight = 2 * t[0] * torch.exp(-t.square())  # t
    weight[-1] /= 2  # the outermost knots end the trapezoids
    angle = (z @ directions)[..., None] * t  # V B A t
    waves = torch.stack([angle.cos(), angle.sin()]).sum(2)  # 2 V A t
    real, imaginary = all_sum(waves) / total  # V A t each
    apart = (real - torch.exp(-t.square() / 2)).square() + imaginary.square()  # V A t
    return total * (apart * weight).sum(-1)


RECIPE = Recipe(task=LeJEPA(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.05), epochs=200, batch=256)
