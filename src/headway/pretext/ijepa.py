"""I-JEPA: from one block of an image, predict the EMA teacher's features of four other blocks.

With s_p the teacher's token of patch p in the whole image, normalized to mean 0 and variance 1, and B_1..B_M the target
blocks,

    loss = mean_{i, p in B_i} || g(f(context), B_i)_p - s_p ||^2 / D

f sees only the context's patches. g, a small transformer, gets the positions of the target's patches. Targets are
removed from the context, so that nothing can be copied. The teacher's weights are a moving average of f's. Without the
normalization of tokens, features could lower the loss by shrinking.

Assran, Duval, Misra, Bojanowski, Vincent, Rabbat, LeCun and Ballas, "Self-supervised learning from images with a
joint-embedding predictive architecture", 2023 (https://arxiv.org/abs/2301.08243).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.config import MUON, Recipe, check_range
from headway.errors import HeadwayError
from headway.metrics.training_metrics import batch_feature_std
from headway.nn.numerics import at_least_fp32
from headway.nn.teacher import EMATeacher, update_teachers
from headway.pretext.predictor import PredictorTransformer, check_embed_dim, gather_tokens
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.geometry import random_resized_crop
from headway.transforms.ijepa_blocks import sample_ijepa_blocks
from headway.transforms.masks import maskable_grid, overlay_mask


class IJEPAViews(NamedTuple):
    """Whole images (B C H W), indices of the patches that the student sees (B K) and of each target (B M T)."""

    images: Tensor
    context_indices: Tensor
    target_indices: Tensor


@dataclass(frozen=True)
class IJEPA:
    """Configuration of I-JEPA."""

    num_targets: int = 4
    """M above."""
    target_scale: tuple[float, float] = (0.15, 0.2)
    """Area of a target as a share of the image's."""
    target_aspect_ratio: tuple[float, float] = (0.75, 1.5)
    """Height / width of a target."""
    context_scale: tuple[float, float] = (0.85, 1.0)
    """Area of the context before targets are removed, as a share of the image's."""
    predictor_dim: int = 0
    """Embedding dimension of the predictor. 0: half the backbone's, rounded to whole attention heads of 32."""
    predictor_depth: int = 3
    """Blocks of the predictor (6 to 16 in the paper, half its encoder's or fewer)."""
    scale: tuple[float, float] = (0.3, 1.0)
    """Share of the image's area that a crop covers."""
    momentum: float = 0.996
    """The teacher's momentum at the start of a long run. It rises to 1 (see ``nn.teacher``)."""
    ema_horizon: float = 1 / 4
    """Horizon of the teacher's average at the start, as a share of the run, at most. Only the slow teacher prevents
    collapse here."""

    def __post_init__(self) -> None:
        check_range(self, "num_targets predictor_depth", at_least=1)
        check_range(self, "predictor_dim", at_least=0)
        check_embed_dim(self, "predictor_dim")
        check_range(self, "target_scale context_scale scale", above=0, at_most=1, increasing=True)
        check_range(self, "target_aspect_ratio", above=0, increasing=True)
        check_range(self, "momentum ema_horizon", at_least=0, at_most=1)
        if self.target_scale[1] >= self.context_scale[0]:
            raise HeadwayError(
                "value-out-of-range",
                "ijepa targets must be smaller than the context that they are removed from; got target_scale "
                f"{self.target_scale} and context_scale {self.context_scale}",
            )

    def build(self, backbone: Backbone, data_info: DataInfo) -> "IJEPATask":
        """Build the task: a small transformer as predictor, and a copy of the backbone as the teacher."""
        return IJEPATask(self, backbone, data_info)


class IJEPATask(PretextTask):
    """Predict blocks from a block, in feature space."""

    requires = frozenset({"keep_indices"})

    def __init__(self, config: IJEPA, backbone: Backbone, data_info: DataInfo):
        super().__init__()
        self.config, self.size = config, data_info.input_size
        self.grid = maskable_grid(data_info.input_size, backbone.patch_size)
        self.predictor = PredictorTransformer(
            backbone.embed_dim, backbone.embed_dim, self.grid, config.predictor_dim, config.predictor_depth
        )
        self.teacher = EMATeacher(backbone)

    def make_views(self, batch: Batch, rng: SampleRNG) -> IJEPAViews:
        """Crop each image and sample its blocks. Sizes are drawn once per step, positions per image."""
        config = self.config
        images = random_resized_crop(batch.images, rng, self.size, scale=config.scale)
        shapes = (config.num_targets, config.target_scale, config.target_aspect_ratio, config.context_scale)
        return IJEPAViews(images, *sample_ijepa_blocks(rng, self.grid, *shapes))

    def forward(self, backbone: Backbone, views: IJEPAViews, clock: TrainingClock) -> TaskOutput:
        """Mean squared error of predicted tokens, each target predicted separately."""
        tokens = self._teacher_tokens(views.images)  # B N D
        loss = F.mse_loss(self._predict(backbone, views), gather_tokens(tokens, views.target_indices))
        return TaskOutput(loss, {"target_std": batch_feature_std(tokens.flatten(1))})  # over images

    def after_step(self, backbone: Backbone, step_stats: Sequence[Any], clock: TrainingClock) -> None:
        """Update the teacher's moving average."""
        update_teachers(self.config, clock, (self.teacher, backbone))

    def visualize(self, batch: Batch, views: IJEPAViews, backbone: Backbone | None = None) -> list[Panel]:
        """The image, the context, and each target; with a network, the cosine between predictions and targets."""
        masked = torch.ones(len(views.images), self.grid[0] * self.grid[1], dtype=torch.bool)  # B N
        masked = masked.to(views.images.device)
        cosine_captions: list[list[str]] = [[]] * self.config.num_targets
        if backbone is not None:
            targets = gather_tokens(self._teacher_tokens(views.images), views.target_indices)  # B M T D
            cosines = F.cosine_similarity(self._predict(backbone, views), targets, dim=-1).mean(2).T  # M B
            cosine_captions = [[f"cosine with the target: {c:.2f}" for c in row] for row in cosines.tolist()]
        panels = [Panel("input of the teacher", views.images)]
        parts = [views.context_indices, *views.target_indices.unbind(1)]  # B K, then M times B T
        captions = [[f"{views.context_indices.shape[1]} patches"] * len(views.images), *cosine_captions]
        titles = ["context: input of the student", *[f"target {i}" for i in range(1, len(parts))]]
        for title, patches, lines in zip(titles, parts, captions, strict=True):
            mask = masked.scatter(1, patches, False)  # B N
            panels.append(Panel(title, overlay_mask(views.images, mask, self.grid), lines))
        return panels

    def _predict(self, backbone: Backbone, views: IJEPAViews) -> Tensor:
        """g(f(context), B_i) for each target: B M T D, float32 or wider."""
        context = backbone(views.images, keep_indices=views.context_indices).patches  # B K D
        return self.predictor(context, views.context_indices, views.target_indices)  # B M T D

    def _teacher_tokens(self, images: Tensor) -> Tensor:
        """The teacher's tokens s: B N D, float32 or wider."""
        tokens = at_least_fp32(self.teacher(images).patches)  # B N D
        return F.layer_norm(tokens, tokens.shape[-1:])


RECIPE = Recipe(
    task=IJEPA(), optim=replace(MUON, weight_decay=0.04, final_weight_decay=0.4), epochs=300, batch_size=256
)
