"""SimCLR: two crops of one image should be more similar to each other than to the crops of any other image.

With z the normalized projections of 2B views, j(i) the other view of i's image and t the temperature,

    loss = - mean_i log  exp(z_i . z_j(i) / t) / sum_{k != i} exp(z_i . z_k / t)

Chen, Kornblith, Norouzi and Hinton, "A simple framework for contrastive learning of visual representations", 2020
(https://arxiv.org/abs/2002.05709).
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from headway.config import MUON, Recipe, check_range
from headway.losses.contrastive import nt_xent
from headway.metrics.training_metrics import batch_feature_std
from headway.nn.numerics import l2_normalize
from headway.nn.projection_heads import projector
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.augment import Augment, simclr_augment
from headway.transforms.geometry import center_crop_resize
from headway.transforms.two_views import TwoViews, two_views


@dataclass(frozen=True)
class SimCLR:
    """Configuration of SimCLR."""

    temperature: float = 0.2
    """t above. The lower it is, the more the nearest negatives count. The paper finds 0.1 to 0.5 good, less for longer
    runs."""
    hidden_dim: int = 512
    """Width of the projector's hidden layer (2048 in the paper, for networks many times wider than ours)."""
    projection_dim: int = 128
    """Width of z."""
    augment: Augment | None = None
    """Augmentation of the views. None: the paper's, without blur for views of up to 32 pixels (its CIFAR setting)."""
    low_res_fraction: float = 0.0
    """Share of the run, from its start, in which views have three quarters of their side. The network learns coarse
    features first, at lower cost (Tan and Le, EfficientNetV2, https://arxiv.org/abs/2104.00298)."""

    def __post_init__(self) -> None:
        check_range(self, "temperature", above=0)
        check_range(self, "hidden_dim projection_dim", at_least=1)
        check_range(self, "low_res_fraction", at_least=0, below=1)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "SimCLRTask":
        """Build the task: a projector of two layers on the pooled features."""
        return SimCLRTask(self, backbone.embed_dim, data_info.input_size)


class SimCLRTask(PretextTask):
    """Distinguish an image from all others, independently of crop and colors."""

    batch_coupled = True
    min_batch_size = 2

    def __init__(self, config: SimCLR, embed_dim: int, size: int):
        super().__init__()
        self.temperature, self.size, self.low_res_fraction = config.temperature, size, config.low_res_fraction
        self.cost_milestones = (0.0, config.low_res_fraction) if config.low_res_fraction else (0.0,)
        self.augment = config.augment or simclr_augment(size)
        self.projector = projector([embed_dim, config.hidden_dim, config.projection_dim])

    def make_views(self, batch: Batch, rng: SampleRNG) -> TwoViews:
        """Two independent crops of each image."""
        return two_views(batch, rng, self.size, self.augment, self.augment)

    def forward(self, backbone: Backbone, views: TwoViews, clock: TrainingClock) -> TaskOutput:
        """NT-Xent over the views of all processes."""
        low_res = clock.progress < self.low_res_fraction
        images = downscale(views.images, backbone.patch_size) if low_res else views.images  # 2*B C H W
        features = backbone(images).pooled  # 2*B D
        first, second = self.projector(features).chunk(2)  # B D each
        loss, top1 = nt_xent(first, second, self.temperature, views.sample_index)
        metrics = {
            "contrastive_top1": top1,
            "feature_std": batch_feature_std(features[: len(first)]),
            "target_std": batch_feature_std(second),
        }
        return TaskOutput(loss, metrics)

    def visualize(self, batch: Batch, views: TwoViews, backbone: Backbone | None = None) -> list[Panel]:
        """The image, its two views, and the view that the network finds most similar to the first."""
        b = len(batch.images)
        first, second = views.images.chunk(2)  # B C H W each
        shown = [
            Panel("the image", center_crop_resize(batch.images, self.size)),
            Panel("first view", first),
            Panel("second view: the positive", second),
        ]
        if backbone is not None:
            z = l2_normalize(self.projector(backbone(views.images).pooled))  # 2*B D
            logits = (z @ z.T / self.temperature).fill_diagonal_(float("-inf"))[:b]  # B 2*B
            probs, nearest = logits.softmax(1).max(1)  # B each
            captions = [
                f"{100 * prob:.0f} % among {2 * b - 1} views, {'right' if other == b + i else 'wrong'}"
                for i, (prob, other) in enumerate(zip(probs.tolist(), nearest.tolist(), strict=True))
            ]
            shown.append(Panel("most similar view", views.images[nearest], captions))
        return shown


def downscale(images: Tensor, patch_size: int) -> Tensor:
    """Resize B C H W to 3/4 of the side, in whole patches; unchanged if fewer than 2 x 2 would be left."""
    side = images.shape[-1] * 3 // 4 // patch_size * patch_size
    if side < 2 * patch_size:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)  # B C side side


RECIPE = Recipe(task=SimCLR(), optim=MUON, epochs=200, batch_size=256)
