"""iBOT: the loss of DINO on crops, and the same loss on every patch that is masked for the student.

With P_t = softmax((g_t(.) - c) / t_t) the teacher's probabilities, P_s = softmax(g_s(.) / t_s) the student's, u a
global crop, M its patches that are masked for the student, and (.)_p the output on the token of patch p,

    loss = mean over pairs of crops x != x' of  - sum_k P_t(x)[k] log P_s(x')[k]
         + mean_{p in M} - sum_k P_t(u)_p[k] log P_s(u with a learned token at M)_p[k]

So the target of a patch depends on the whole image. Images and patches share one head, but each has its own center c
and temperature. The teacher's weights and the centers are moving averages.

Zhou, Wei, Wang, Shen, Xie, Yuille and Kong, "iBOT: image BERT pre-training with online tokenizer", 2021
(https://arxiv.org/abs/2111.07832).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from headway.config import MUON, Recipe, check_range
from headway.distributed import global_mean, sum_and_count
from headway.losses.distillation import cross_view_entropy, default_num_prototypes, token_cross_entropy
from headway.metrics.training_metrics import assignment_entropies, batch_feature_std
from headway.nn.numerics import at_least_fp32
from headway.nn.projection_heads import PrototypeHead
from headway.nn.teacher import EMATeacher, center_momentum, update_teachers
from headway.pretext.panels import masked_crop_panels, patch_agreement_captions
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.schedule import linear_ramp
from headway.transforms.masks import maskable_grid
from headway.transforms.multi_crop import MaskedMultiCrop, local_crop_size, masked_multi_crop


@dataclass(frozen=True)
class IBOT:
    """Configuration of iBOT."""

    num_prototypes: int = 0
    """K; 0: the power of two nearest to images / 16, from 64 to 65,536 (8,192 in the paper)."""
    hidden_dim: int = 512
    """Hidden width of the head (2048 in the paper, for networks many times wider than ours)."""
    bottleneck_dim: int = 128
    """Width of the vectors that are compared with prototypes (256 in the paper)."""
    num_local_crops: int = 4
    """Local crops of each image (10 in the paper)."""
    global_scale: tuple[float, float] = (0.3, 1.0)
    """Share of the image's area in a global crop."""
    local_scale: tuple[float, float] = (0.08, 0.3)
    """Share of the image's area in a local crop."""
    mask_ratio: tuple[float, float] = (0.1, 0.5)
    """Share of the patches that are masked in one of the two global crops. It is drawn once per step, for all images
    alike."""
    student_temperature: float = 0.1
    """t_s."""
    teacher_temperature: tuple[float, float] = (0.04, 0.04)
    """t_t of images at the start and after warm-up."""
    patch_temperature: tuple[float, float] = (0.04, 0.07)
    """t_t of patches at the start and after warm-up."""
    temperature_warmup_fraction: float = 0.3
    """Share of the run, from its start, over which temperatures go from their first to their second value."""
    momentum: float = 0.996
    """The teacher's momentum at the start of a long run. It rises to 1 (see ``nn.teacher``)."""
    ema_horizon: float = 1 / 40
    """Horizon of the teacher's average at the start, as a share of the run, at most."""
    center_momentum: float = 0.9
    """Momentum of both centers, at most. It is lowered where the teacher changes fast (see ``nn.teacher``)."""
    freeze_prototypes_fraction: float = 0.01
    """Share of the run, from its start, during which the prototypes are not updated."""

    def __post_init__(self) -> None:
        check_range(self, "num_prototypes num_local_crops", at_least=0)
        check_range(self, "hidden_dim bottleneck_dim", at_least=1)
        check_range(self, "global_scale local_scale", above=0, at_most=1, increasing=True)
        check_range(self, "mask_ratio", above=0, below=1, increasing=True)
        check_range(self, "student_temperature teacher_temperature patch_temperature", above=0)
        check_range(
            self,
            "temperature_warmup_fraction momentum ema_horizon center_momentum freeze_prototypes_fraction",
            at_least=0,
            at_most=1,
        )

    def build(self, backbone: Backbone, data_info: DataInfo) -> "IBOTTask":
        """Build the task: a mask token, one head, and copies of backbone and head as the teacher."""
        return IBOTTask(self, backbone, data_info)


class IBOTTask(PretextTask):
    """Predict the EMA teacher's assignments of crops and of masked patches."""

    requires = frozenset({"mask"})

    def __init__(self, config: IBOT, backbone: Backbone, data_info: DataInfo):
        super().__init__()
        self.config, self.grid = config, maskable_grid(data_info.input_size, backbone.patch_size)
        self.crop_sizes = data_info.input_size, local_crop_size(data_info.input_size, backbone.patch_size)
        self.num_prototypes = config.num_prototypes or default_num_prototypes(data_info.num_images)
        self.mask_token = nn.Parameter(torch.randn(backbone.mask_value_dim) * 0.02)
        self.head = PrototypeHead(backbone.embed_dim, self.num_prototypes, config.hidden_dim, config.bottleneck_dim)
        self.teacher, self.teacher_head = EMATeacher(backbone), EMATeacher(self.head)
        self.center = nn.Buffer(torch.zeros(self.num_prototypes))
        self.patch_center = nn.Buffer(torch.zeros(self.num_prototypes))

    def make_views(self, batch: Batch, rng: SampleRNG) -> MaskedMultiCrop:
        """Two global crops, one of them masked, and several local ones of each image."""
        return masked_multi_crop(batch, rng, self.crop_sizes, self.grid, self.config)

    def forward(self, backbone: Backbone, views: MaskedMultiCrop, clock: TrainingClock) -> TaskOutput:
        """Cross-entropy under the teacher, over pairs of different crops and over masked patches."""
        config, count = self.config, len(views.global_crops) // 2
        warmup = clock.progress, config.temperature_warmup_fraction
        features = self.teacher(views.global_crops)
        outputs = at_least_fp32(self.teacher_head(features.pooled))  # 2*B K
        patch_outputs = at_least_fp32(self.teacher_head(features.patches[views.mask]))  # B*masked K
        teacher = ((outputs - self.center) / linear_ramp(*warmup, *config.teacher_temperature)).softmax(-1)  # 2*B K
        patch_temperature = linear_ramp(*warmup, *config.patch_temperature)
        patch_teacher = ((patch_outputs - self.patch_center) / patch_temperature).softmax(-1)  # B*masked K

        student = backbone(views.global_crops, mask=views.mask, mask_value=self.mask_token)
        pooled = [student.pooled, *([backbone(views.local_crops).pooled] if len(views.local_crops) else [])]
        tokens = torch.cat([*pooled, student.patches[views.mask]])  # V*B + B*masked D
        frozen = clock.progress < config.freeze_prototypes_fraction
        logits = at_least_fp32(self.head(tokens, freeze_prototypes=frozen)) / config.student_temperature
        num_patches = len(patch_teacher)
        log_probs, patch_log_probs = logits.log_softmax(-1).split([len(logits) - num_patches, num_patches])
        crop_loss = cross_view_entropy(teacher.unflatten(0, (2, count)), log_probs.unflatten(0, (-1, count)))
        patch_loss = token_cross_entropy(patch_teacher, patch_log_probs)
        metrics = {
            "crop_loss": crop_loss.detach(),
            "patch_loss": patch_loss.detach(),
            "feature_std": batch_feature_std(student.pooled[:count]),
            **assignment_entropies(teacher),
            **{f"patch_{name}": value for name, value in assignment_entropies(patch_teacher).items()},
        }
        return TaskOutput(crop_loss + patch_loss, metrics, (sum_and_count(outputs), sum_and_count(patch_outputs)))

    def after_step(self, backbone: Backbone, step_stats: Sequence[Any], clock: TrainingClock) -> None:
        """Update the moving averages: the teacher, and the centers of its outputs."""
        momentum = update_teachers(self.config, clock, (self.teacher, backbone), (self.teacher_head, self.head))
        center_keep = center_momentum(momentum, self.config.center_momentum)
        for center, sums in zip((self.center, self.patch_center), zip(*step_stats, strict=True), strict=True):
            center.lerp_(global_mean(sums).to(center.dtype), 1 - center_keep)

    def visualize(self, batch: Batch, views: MaskedMultiCrop, backbone: Backbone | None = None) -> list[Panel]:
        """The global crops as the student sees them, then the local crops; with a network, its agreement on patches."""
        captions: list[str] = []
        if backbone is not None:
            teacher = self.teacher_head(self.teacher(views.global_crops).patches[views.mask]) - self.patch_center
            features = backbone(views.global_crops, mask=views.mask, mask_value=self.mask_token)
            student = self.head(features.patches[views.mask])  # B*masked K
            captions = patch_agreement_captions(student, teacher, views.mask, len(batch.images))
        return masked_crop_panels(views, self.grid, len(batch.images), captions)


RECIPE = Recipe(
    task=IBOT(),
    optim=replace(MUON, weight_decay=0.04, final_weight_decay=0.4, betas=(0.9, 0.999), warmup_fraction=0.1),
    epochs=100,
    batch_size=256,
    pooling="class",
)
