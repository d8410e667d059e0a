"""LeJEPA: views of an image agree, and the embeddings of all images are distributed as an isotropic Gaussian.

With z_v the embeddings (of dimension E) of V views of an image, m their mean over the global views, and a random
directions,

    loss     = (1 - w) mean_v || z_v - m ||^2 / E  +  w mean_v mean_a T({a . z_v of every image})
    T({x_n}) = N integral | 1/N sum_n exp(i t x_n) - exp(-t^2 / 2) |^2 exp(-t^2) dt                    (Epps-Pulley)

T stays about 1/2 where x is standard normal, and grows with N where it is not. So T prevents collapse by itself,
without a teacher, stop-gradient, center or queue. A collapse costs 0.13 w N, which for small N would be the cheapest
way to agree. So in a batch of N < 256 images T is multiplied by 256 / N.

Balestriero and LeCun, "LeJEPA: provable and scalable self-supervised learning without the heuristics", 2025
(https://arxiv.org/abs/2511.08544); T from Epps and Pulley, "A test for normality based on the empirical characteristic
function", 1983 (https://doi.org/10.1093/biomet/70.3.723).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from headway.config import MUON, Recipe, check_range
from headway.distributed import all_gather_int, all_sum
from headway.metrics.training_metrics import batch_feature_std, coordinate_std
from headway.nn.numerics import at_least_fp32, l2_normalize, no_autocast
from headway.nn.projection_heads import projector
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.multi_crop import local_crop_size, multi_crop

T_MAX, NUM_KNOTS = 5.0, 17
"""T is integrated from -T_MAX to T_MAX by the trapezoid rule with NUM_KNOTS knots, an odd number (the paper's)."""
REFERENCE_BATCH_SIZE = 256
"""Images in a batch from which T is not scaled."""


class LeJEPAViews(NamedTuple):
    """2*B global crops and V*B local crops as rows, view-major, and the seed of the directions."""

    global_crops: Tensor
    local_crops: Tensor
    directions_seed: int


@dataclass(frozen=True)
class LeJEPA:
    """Configuration of LeJEPA."""

    sigreg_weight: float = 0.05
    """w, the weight of SIGReg, the paper's name for the Gaussian test. It is the only setting that the paper leaves
    open: 0.01 to 0.1, for a T with the window exp(-t^2 / 2), which is two to three times ours."""
    num_directions: int = 256
    """Number of random directions. They are drawn anew in every step."""
    hidden_dim: int = 512
    """Width of the projector's hidden layers (2048 in the paper, for networks many times wider than ours)."""
    projection_dim: int = 64
    """E, the dimension of z."""
    num_local_crops: int = 4
    """Local crops of each image (6 in the paper)."""
    global_scale: tuple[float, float] = (0.3, 1.0)
    """Share of the image's area in a global crop."""
    local_scale: tuple[float, float] = (0.08, 0.3)
    """Share of the image's area in a local crop."""

    def __post_init__(self) -> None:
        check_range(self, "sigreg_weight", at_least=0, at_most=1)
        check_range(self, "num_directions hidden_dim projection_dim", at_least=1)
        check_range(self, "num_local_crops", at_least=0)
        check_range(self, "global_scale local_scale", above=0, at_most=1, increasing=True)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "LeJEPATask":
        """Build the task: a projector of three layers on the pooled features."""
        return LeJEPATask(self, backbone, data_info)


class LeJEPATask(PretextTask):
    """Agree on each image, and distribute all embeddings as a Gaussian."""

    batch_coupled = True
    min_batch_size = 2

    def __init__(self, config: LeJEPA, backbone: Backbone, data_info: DataInfo):
        super().__init__()
        self.config = config
        self.crop_sizes = data_info.input_size, local_crop_size(data_info.input_size, backbone.patch_size)
        self.projector = projector([backbone.embed_dim, config.hidden_dim, config.hidden_dim, config.projection_dim])

    def make_views(self, batch: Batch, rng: SampleRNG) -> LeJEPAViews:
        """Two global crops and several local ones of each image. All processes draw the same directions."""
        crops = multi_crop(batch.images, rng, self.crop_sizes, self.config)
        return LeJEPAViews(*crops, rng.for_step("directions").getrandbits(62))

    def forward(self, backbone: Backbone, views: LeJEPAViews, clock: TrainingClock) -> TaskOutput:
        """Agreement of an image's views, and the Gaussian test of each view over all processes."""
        count, weight = len(views.global_crops) // 2, self.config.sigreg_weight
        pooled = [backbone(crops).pooled for crops in (views.global_crops, views.local_crops) if len(crops)]
        z = at_least_fp32(self.projector(torch.cat(pooled))).unflatten(0, (-1, count))  # V B E
        rng = SampleRNG(views.directions_seed, torch.zeros(1, dtype=torch.int64, device=z.device))
        directions = rng.normal("directions", z.shape[-1], self.config.num_directions)[0]  # E A
        invariance = (z - z[:2].mean(0)).square().mean()
        sigreg = epps_pulley(z, l2_normalize(directions, dim=0).to(z.dtype)).mean()
        scale = max(REFERENCE_BATCH_SIZE / sum(all_gather_int(count, z.device)), 1)
        metrics = {
            "invariance": invariance.detach(),
            "sigreg": sigreg.detach(),
            "coordinate_std": coordinate_std(z[0]),  # T's target is 1; 0 is collapse
            "feature_std": batch_feature_std(pooled[0][:count]),
        }
        return TaskOutput((1 - weight) * invariance + weight * scale * sigreg, metrics)

    def visualize(self, batch: Batch, views: LeJEPAViews, backbone: Backbone | None = None) -> list[Panel]:
        """The crops; with a network, the distance of each from the mean of the global crops."""
        count = len(batch.images)
        crops = [*views.global_crops.split(count), *[crop for crop in views.local_crops.split(count) if len(crop)]]
        captions: list[list[str]] = [[]] * len(crops)
        if backbone is not None:
            z = torch.stack([at_least_fp32(self.projector(backbone(crop).pooled)) for crop in crops])  # V B E
            distance = (z - z[:2].mean(0)).square().mean(-1).sqrt()  # V B
            captions = [[f"distance from the mean: {d:.2f}" for d in row] for row in distance.tolist()]
        titles = ["global crop 1", "global crop 2", *[f"local crop {i}" for i in range(1, len(crops) - 1)]]
        return [Panel(*column) for column in zip(titles, crops, captions, strict=True)]


@no_autocast
def epps_pulley(z: Tensor, directions: Tensor) -> Tensor:
    """T of each view along each direction, over the images of all processes.

    Args:
        z: V B E, embeddings of this process's images.
        directions: E A, of length 1.

    Returns:
        V A, the same on every process.
    """
    total = sum(all_gather_int(z.shape[1], z.device))
    # The integrand is even in t and 0 at t = 0, so half of the knots suffice, with twice their weight.
    t = torch.linspace(0, T_MAX, NUM_KNOTS // 2 + 1, device=z.device, dtype=z.dtype)[1:]  # t
    weight = 2 * t[0] * torch.exp(-t.square())  # t
    weight[-1] /= 2  # the outermost knot of the trapezoid rule
    angle = (z @ directions)[..., None] * t  # V B A t
    waves = torch.stack([angle.cos(), angle.sin()]).sum(2)  # 2 V A t
    real, imaginary = all_sum(waves) / total  # V A t each
    squared_error = (real - torch.exp(-t.square() / 2)).square() + imaginary.square()  # V A t
    return total * (squared_error * weight).sum(-1)


RECIPE = Recipe(task=LeJEPA(), optim=MUON, epochs=200, batch_size=256)
