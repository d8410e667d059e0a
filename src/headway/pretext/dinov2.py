"""DINOv2: crops and masked patches as in iBOT, balanced assignments as targets, and a term that spreads the images.

    loss = mean over pairs of crops x != x' of  - sum_k P_t(x)[k] log P_s(x')[k]
         + mean over masked patches p of      - sum_k P_t(p)[k] log P_s(p)[k]
         - w mean_i log min_{j != i} || z_i - z_j ||

The first two terms are those of DINO and iBOT. Unlike theirs, the targets P_t are Sinkhorn-Knopp assignments, which
give each prototype an equal share of the batch, and patches have a head of their own. The third term is KoLeo: z are
the class tokens of the student's first crops at length 1, and each moves away from its nearest neighbor.

Oquab, Darcet, Moutakanni, Vo et al., "DINOv2: learning robust visual features without supervision", 2023
(https://arxiv.org/abs/2304.07193).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from headway.config import MUON, Recipe, check_range
from headway.losses.distillation import cross_view_entropy, default_num_prototypes, token_cross_entropy
from headway.losses.koleo import koleo_loss
from headway.losses.sinkhorn import sinkhorn
from headway.metrics.training_metrics import assignment_entropies, batch_feature_std
from headway.nn.numerics import at_least_fp32
from headway.nn.projection_heads import PrototypeHead
from headway.nn.teacher import EMATeacher, update_teachers
from headway.pretext.panels import masked_crop_panels, patch_agreement_captions
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.schedule import linear_ramp
from headway.transforms.masks import maskable_grid
from headway.transforms.multi_crop import MaskedMultiCrop, local_crop_size, masked_multi_crop


@dataclass(frozen=True)
class DINOv2:
    """Configuration of DINOv2."""

    num_prototypes: int = 0
    """K of both heads; 0: the power of two nearest to images / 16, from 64 to 65,536 (131,072 in the paper, for 142
    million images)."""
    hidden_dim: int = 512
    """Hidden width of the heads (2048 in the paper, for networks many times wider than ours)."""
    bottleneck_dim: int = 128
    """Width of the vectors that are compared with prototypes (256 in the paper)."""
    num_local_crops: int = 4
    """Local crops of each image (8 in the paper)."""
    global_scale: tuple[float, float] = (0.32, 1.0)
    """Share of the image's area in a global crop."""
    local_scale: tuple[float, float] = (0.08, 0.32)
    """Share of the image's area in a local crop."""
    mask_ratio: tuple[float, float] = (0.1, 0.5)
    """Share of the patches that are masked in one of the two global crops. It is drawn once per step, for all images
    alike."""
    student_temperature: float = 0.1
    """t_s."""
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    """t_t at the start and after warm-up."""
    temperature_warmup_fraction: float = 0.3
    """Share of the run, from its start, over which t_t goes from its first to its second value."""
    sinkhorn_iterations: int = 3
    """Iterations of Sinkhorn-Knopp. 0 is a plain softmax, which collapses."""
    koleo_weight: float = 0.1
    """w above."""
    momentum: float = 0.992
    """The teacher's momentum at the start of a long run. It rises to 1 (see ``nn.teacher``)."""
    ema_horizon: float = 1 / 40
    """Horizon of the teacher's average at the start, as a share of the run, at most."""
    freeze_prototypes_fraction: float = 0.01
    """Share of the run, from its start, during which the prototypes are not updated."""

    def __post_init__(self) -> None:
        check_range(self, "num_prototypes num_local_crops sinkhorn_iterations koleo_weight", at_least=0)
        check_range(self, "hidden_dim bottleneck_dim", at_least=1)
        check_range(self, "global_scale local_scale", above=0, at_most=1, increasing=True)
        check_range(self, "mask_ratio", above=0, below=1, increasing=True)
        check_range(self, "student_temperature teacher_temperature", above=0)
        check_range(
            self, "temperature_warmup_fraction momentum ema_horizon freeze_prototypes_fraction", at_least=0, at_most=1
        )

    def build(self, backbone: Backbone, data_info: DataInfo) -> "DINOv2Task":
        """Build the task: a mask token, two heads, and copies of backbone and heads as the teacher."""
        return DINOv2Task(self, backbone, data_info)


class DINOv2Task(PretextTask):
    """Predict the EMA teacher's balanced assignments of crops and of masked patches, with spread-out features."""

    requires = frozenset({"mask"})
    batch_coupled = True
    min_batch_size = 2

    def __init__(self, config: DINOv2, backbone: Backbone, data_info: DataInfo):
        super().__init__()
        self.config, self.grid = config, maskable_grid(data_info.input_size, backbone.patch_size)
        self.crop_sizes = data_info.input_size, local_crop_size(data_info.input_size, backbone.patch_size)
        dims = (
            backbone.embed_dim,
            config.num_prototypes or default_num_prototypes(data_info.num_images),
            config.hidden_dim,
            config.bottleneck_dim,
        )
        self.mask_token = nn.Parameter(torch.randn(backbone.mask_value_dim) * 0.02)
        self.head, self.patch_head = PrototypeHead(*dims), PrototypeHead(*dims)
        self.teacher = EMATeacher(backbone)
        self.teacher_head, self.teacher_patch_head = EMATeacher(self.head), EMATeacher(self.patch_head)

    def make_views(self, batch: Batch, rng: SampleRNG) -> MaskedMultiCrop:
        """Two global crops, one of them masked, and several local ones of each image."""
        return masked_multi_crop(batch, rng, self.crop_sizes, self.grid, self.config)

    def forward(self, backbone: Backbone, views: MaskedMultiCrop, clock: TrainingClock) -> TaskOutput:
        """The three losses. Assignments and nearest neighbors are computed over all processes."""
        config, count = self.config, len(views.global_crops) // 2
        temperature = linear_ramp(clock.progress, config.temperature_warmup_fraction, *config.teacher_temperature)
        features = self.teacher(views.global_crops)
        outputs = at_least_fp32(self.teacher_head(features.pooled)).unflatten(0, (2, count))  # 2 B K
        patch_outputs = at_least_fp32(self.teacher_patch_head(features.patches[views.mask]))  # B*masked K
        targets = torch.stack([sinkhorn(crop, temperature, config.sinkhorn_iterations) for crop in outputs])  # 2 B K
        patch_targets = sinkhorn(patch_outputs, temperature, config.sinkhorn_iterations)  # B*masked K

        frozen = clock.progress < config.freeze_prototypes_fraction
        student = backbone(views.global_crops, mask=views.mask, mask_value=self.mask_token)
        pooled = [student.pooled, *([backbone(views.local_crops).pooled] if len(views.local_crops) else [])]
        cosines = at_least_fp32(self.head(torch.cat(pooled), freeze_prototypes=frozen))  # V*B K
        patch_cosines = at_least_fp32(self.patch_head(student.patches[views.mask], freeze_prototypes=frozen))
        log_probs = (cosines / config.student_temperature).log_softmax(-1)  # V*B K
        patch_log_probs = (patch_cosines / config.student_temperature).log_softmax(-1)  # B*masked K
        crop_loss = cross_view_entropy(targets, log_probs.unflatten(0, (-1, count)))
        patch_loss = token_cross_entropy(patch_targets, patch_log_probs)
        koleo = koleo_loss(student.pooled[:count], views.sample_index)
        # Entropies of the plain softmax show a collapse that balanced assignments hide.
        patch_entropies = assignment_entropies((patch_outputs / temperature).softmax(-1))
        metrics = {
            "crop_loss": crop_loss.detach(),
            "patch_loss": patch_loss.detach(),
            "koleo": koleo.detach(),
            "target_entropy": assignment_entropies(targets)["assignment_entropy"],
            "patch_target_entropy": assignment_entropies(patch_targets)["assignment_entropy"],
            **assignment_entropies((outputs / temperature).softmax(-1)),
            **{f"patch_{name}": value for name, value in patch_entropies.items()},
            "feature_std": batch_feature_std(student.pooled[:count]),
        }
        return TaskOutput(crop_loss + patch_loss + config.koleo_weight * koleo, metrics)

    def after_step(self, backbone: Backbone, step_stats: Sequence[Any], clock: TrainingClock) -> None:
        """Update the teacher's moving average."""
        heads = (self.teacher_head, self.head), (self.teacher_patch_head, self.patch_head)
        update_teachers(self.config, clock, (self.teacher, backbone), *heads)

    def visualize(self, batch: Batch, views: MaskedMultiCrop, backbone: Backbone | None = None) -> list[Panel]:
        """The global crops as the student sees them, then the local crops; with a network, its agreement on patches."""
        captions: list[str] = []
        if backbone is not None:
            patches = self.teacher(views.global_crops).patches[views.mask]  # B*masked D
            teacher = sinkhorn(at_least_fp32(self.teacher_patch_head(patches)))  # B*masked K
            features = backbone(views.global_crops, mask=views.mask, mask_value=self.mask_token)
            student = self.patch_head(features.patches[views.mask])  # B*masked K
            captions = patch_agreement_captions(student, teacher, views.mask, len(batch.images))
        return masked_crop_panels(views, self.grid, len(batch.images), captions)


RECIPE = Recipe(
    task=DINOv2(),
    optim=replace(MUON, weight_decay=0.04, final_weight_decay=0.2, betas=(0.9, 0.999), warmup_fraction=0.1),
    epochs=100,
    batch_size=64,
    pooling="class",
)
