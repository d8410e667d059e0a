"""data2vec: from a masked image, a student predicts features that its EMA teacher computes from the whole image.

With z^l_p the teacher's tokens after block l, each normalized to mean 0 and variance 1, and M the masked patches,

    y_p  = mean of z^l_p over the last L blocks
    loss = mean_{p in M} smooth_b(W f(x with a learned token at M)_p - y_p)
    smooth_b(e) = e^2 / 2b where |e| <= b, else |e| - b/2

Unlike pixels, the targets depend on the whole image. The teacher's weights are a moving average of the student's. The
paper takes tokens before a block's last addition; backbones here return them after it.

Baevski, Hsu, Xu, Babu, Gu and Auli, "data2vec: a general framework for self-supervised learning in speech, vision and
language", 2022 (https://arxiv.org/abs/2202.03555).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.config import MUON, Recipe, check_range
from headway.metrics.training_metrics import batch_feature_std
from headway.nn.numerics import at_least_fp32
from headway.nn.teacher import EMATeacher, update_teachers
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.color import color_jitter
from headway.transforms.geometry import random_resized_crop
from headway.transforms.masks import block_masks, maskable_grid, num_masked_patches, overlay_mask
from headway.transforms.patches import MaskedViews


@dataclass(frozen=True)
class Data2Vec:
    """Configuration of data2vec for images."""

    mask_ratio: float = 0.6
    """Share of the patches that are masked, in blocks."""
    average_top_k_layers: int = 0
    """L, the number of the teacher's last blocks that are averaged. 0: half of all blocks (6 of 12 in the paper)."""
    beta: float = 2.0
    """b: the largest error that counts by its square. This is the paper's value; its targets are normalized as ours."""
    color_jitter: float = 0.4
    """Strength of brightness, contrast and saturation jitter. Teacher and student see the same colors."""
    scale: tuple[float, float] = (0.35, 1.0)
    """Share of the image's area that a crop covers."""
    momentum: float = 0.9998
    """The teacher's momentum at the start of a long run. It rises to 1 (see ``nn.teacher``)."""
    ema_horizon: float = 1 / 4
    """Horizon of the teacher's average at the start, as a share of the run, at most. Only the slow teacher prevents
    collapse here."""

    def __post_init__(self) -> None:
        check_range(self, "mask_ratio", above=0, below=1)
        check_range(self, "average_top_k_layers color_jitter", at_least=0)
        check_range(self, "beta", above=0)
        check_range(self, "scale", above=0, at_most=1, increasing=True)
        check_range(self, "momentum ema_horizon", at_least=0, at_most=1)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "Data2VecTask":
        """Build the task: a mask token, one linear layer, and a copy of the backbone as the teacher."""
        return Data2VecTask(self, backbone, data_info)


class Data2VecTask(PretextTask):
    """Predict the EMA teacher's features of masked patches."""

    requires = frozenset({"mask", "return_layers"})

    def __init__(self, config: Data2Vec, backbone: Backbone, data_info: DataInfo):
        super().__init__()
        self.config, self.size = config, data_info.input_size
        self.grid = maskable_grid(data_info.input_size, backbone.patch_size)
        layers = min(config.average_top_k_layers or max(backbone.depth // 2, 1), backbone.depth)
        self.target_layers = tuple(range(backbone.depth - layers, backbone.depth))
        self.mask_token = nn.Parameter(torch.randn(backbone.mask_value_dim) * 0.02)
        self.regression_head = nn.Linear(backbone.embed_dim, backbone.embed_dim)
        self.teacher = EMATeacher(backbone)

    def make_views(self, batch: Batch, rng: SampleRNG) -> MaskedViews:
        """Crop each image, jitter its colors, and mask equally many patches of each in blocks."""
        images = random_resized_crop(batch.images, rng, self.size, scale=self.config.scale)
        strength = self.config.color_jitter
        images = color_jitter(images, rng, strength, strength, strength, 0.0) if strength else images
        patches = self.grid[0] * self.grid[1]
        ratio = num_masked_patches(patches, self.config.mask_ratio) / patches
        return MaskedViews(images, block_masks(rng, self.grid, ratio))

    def forward(self, backbone: Backbone, views: MaskedViews, clock: TrainingClock) -> TaskOutput:
        """Smooth L1 error on the masked patches. Every image has equally many of them."""
        targets = self._targets(views.images)  # B N D
        patches = backbone(views.images, mask=views.mask, mask_value=self.mask_token).patches  # B N D
        predictions = at_least_fp32(self.regression_head(patches[views.mask]))  # B*masked D
        loss = F.smooth_l1_loss(predictions, targets[views.mask], beta=self.config.beta)
        return TaskOutput(loss, {"target_std": batch_feature_std(targets.flatten(1))})  # over images

    def after_step(self, backbone: Backbone, step_stats: Sequence[Any], clock: TrainingClock) -> None:
        """Update the teacher's moving average."""
        update_teachers(self.config, clock, (self.teacher, backbone))

    def visualize(self, batch: Batch, views: MaskedViews, backbone: Backbone | None = None) -> list[Panel]:
        """The inputs of student and teacher; with a network, the cosine between predictions and targets."""
        captions: list[str] = []
        if backbone is not None:
            patches = backbone(views.images, mask=views.mask, mask_value=self.mask_token).patches  # B N D
            predictions = at_least_fp32(self.regression_head(patches))  # B N D
            cosines = F.cosine_similarity(predictions, self._targets(views.images), dim=-1)[views.mask]  # B*masked
            captions = [f"cosine with the target: {c:.2f}" for c in cosines.reshape(len(patches), -1).mean(1).tolist()]
        student = overlay_mask(views.images, views.mask, self.grid)
        return [Panel("input of the student", student, captions), Panel("input of the teacher", views.images)]

    def _targets(self, images: Tensor) -> Tensor:
        """The target y of every patch: B N D, float32 or wider."""
        outputs = self.teacher(images, return_layers=self.target_layers).layers  # L times B P+N D
        patches = self.grid[0] * self.grid[1]
        tokens = [at_least_fp32(output[:, -patches:]) for output in outputs]  # L times B N D
        return torch.stack([F.layer_norm(z, z.shape[-1:]) for z in tokens]).mean(0)


RECIPE = Recipe(task=Data2Vec(), optim=replace(MUON, betas=(0.9, 0.999)), epochs=400, batch_size=256)
