"""DINO: a student on local crops predicts the output of its EMA teacher on global crops.

With P_t = softmax((g_t(x) - c) / t_t) the teacher's probabilities on a global crop, P_s = softmax(g_s(x') / t_s) the
student's on another crop of the same image, local or global,

    loss = mean over pairs of crops x != x' of  - sum_k P_t[k] log P_s[k]

The teacher's weights are an exponential moving average of the student's. The center c, a moving average of the
teacher's outputs, prevents one prototype from dominating. The low temperature t_t prevents uniform outputs.

Caron, Touvron, Misra, Jegou, Mairal, Bojanowski and Joulin, "Emerging properties in self-supervised vision
transformers", 2021 (https://arxiv.org/abs/2104.14294).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from headway.config import MUON, Recipe, check_range
from headway.distributed import global_mean, sum_and_count
from headway.losses.distillation import cross_view_entropy, default_num_prototypes
from headway.metrics.training_metrics import assignment_entropies, batch_feature_std
from headway.nn.numerics import at_least_fp32
from headway.nn.projection_heads import PrototypeHead
from headway.nn.teacher import EMATeacher, center_momentum, update_teachers
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.schedule import linear_ramp
from headway.transforms.geometry import center_crop_resize
from headway.transforms.multi_crop import MultiCrop, local_crop_size, multi_crop


@dataclass(frozen=True)
class DINO:
    """Configuration of DINO."""

    num_prototypes: int = 0
    """K; 0: the power of two nearest to images / 16, from 64 to 65,536 (the paper's, for 1.28 million images)."""
    hidden_dim: int = 512
    """Hidden width of the head (2048 in the paper, for networks many times wider than ours)."""
    bottleneck_dim: int = 128
    """Width of the vectors that are compared with prototypes (256 in the paper)."""
    num_local_crops: int = 4
    """Local crops of each image (up to 10 in the paper)."""
    global_scale: tuple[float, float] = (0.3, 1.0)
    """Share of the image's area in a global crop."""
    local_scale: tuple[float, float] = (0.08, 0.3)
    """Share of the image's area in a local crop."""
    student_temperature: float = 0.1
    """t_s."""
    teacher_temperature: tuple[float, float] = (0.04, 0.04)
    """t_t at the start and after warm-up."""
    temperature_warmup_fraction: float = 0.1
    """Share of the run, from its start, over which t_t goes from its first to its second value."""
    momentum: float = 0.996
    """The teacher's momentum at the start of a long run. It rises to 1 (see ``nn.teacher``)."""
    ema_horizon: float = 1 / 40
    """Horizon of the teacher's average at the start, as a share of the run, at most."""
    center_momentum: float = 0.9
    """The center's momentum, at most. It is lowered where the teacher changes fast (see ``nn.teacher``)."""
    freeze_prototypes_fraction: float = 0.01
    """Share of the run, from its start, during which the prototypes are not updated."""

    def __post_init__(self) -> None:
        check_range(self, "num_prototypes num_local_crops", at_least=0)
        check_range(self, "hidden_dim bottleneck_dim", at_least=1)
        check_range(self, "global_scale local_scale", above=0, at_most=1, increasing=True)
        check_range(self, "student_temperature teacher_temperature", above=0)
        check_range(
            self,
            "temperature_warmup_fraction momentum ema_horizon center_momentum freeze_prototypes_fraction",
            at_least=0,
            at_most=1,
        )

    def build(self, backbone: Backbone, data_info: DataInfo) -> "DINOTask":
        """Build the task: a head, and copies of backbone and head as the teacher."""
        return DINOTask(self, backbone, data_info)


class DINOTask(PretextTask):
    """Predict the EMA teacher's assignment of a crop."""

    def __init__(self, config: DINO, backbone: Backbone, data_info: DataInfo):
        super().__init__()
        self.config = config
        self.num_prototypes = config.num_prototypes or default_num_prototypes(data_info.num_images)
        self.crop_sizes = data_info.input_size, local_crop_size(data_info.input_size, backbone.patch_size)
        self.head = PrototypeHead(backbone.embed_dim, self.num_prototypes, config.hidden_dim, config.bottleneck_dim)
        self.teacher, self.teacher_head = EMATeacher(backbone), EMATeacher(self.head)
        self.center = nn.Buffer(torch.zeros(self.num_prototypes))

    def make_views(self, batch: Batch, rng: SampleRNG) -> MultiCrop:
        """Two global crops and several local ones of each image."""
        return multi_crop(batch.images, rng, self.crop_sizes, self.config)

    def forward(self, backbone: Backbone, views: MultiCrop, clock: TrainingClock) -> TaskOutput:
        """Cross-entropy of the student's probabilities under the teacher's, over all pairs of different crops."""
        count = len(views.global_crops) // 2
        outputs = at_least_fp32(self.teacher_head(self.teacher(views.global_crops).pooled))  # 2*B K
        teacher = self._teacher_probs(outputs, clock).reshape(2, count, -1)  # 2 B K
        pooled = [backbone(crops).pooled for crops in (views.global_crops, views.local_crops) if len(crops)]
        frozen = clock.progress < self.config.freeze_prototypes_fraction
        cosines = at_least_fp32(self.head(torch.cat(pooled), freeze_prototypes=frozen))  # V*B K
        student = (cosines / self.config.student_temperature).log_softmax(-1)  # V*B K
        loss = cross_view_entropy(teacher, student.reshape(-1, count, self.num_prototypes))
        metrics = {**assignment_entropies(teacher), "feature_std": batch_feature_std(pooled[0][:count])}
        return TaskOutput(loss, metrics, sum_and_count(outputs))

    def after_step(self, backbone: Backbone, step_stats: Sequence[tuple[Tensor, Tensor]], clock: TrainingClock) -> None:
        """Update the moving averages: the teacher, and the center of its outputs."""
        momentum = update_teachers(self.config, clock, (self.teacher, backbone), (self.teacher_head, self.head))
        center_keep = center_momentum(momentum, self.config.center_momentum)
        self.center.lerp_(global_mean(step_stats).to(self.center.dtype), 1 - center_keep)

    def visualize(self, batch: Batch, views: MultiCrop, backbone: Backbone | None = None) -> list[Panel]:
        """The image and its crops; with a network, the likeliest prototype of each crop.

        The teacher's is shown below global crops, the student's below local crops. The student is right where it names
        the prototype whose probability, summed over both global crops, is the teacher's largest.
        """
        b = len(batch.images)
        global_crops = views.global_crops.split(b)  # B C S S each
        local_crops = views.local_crops.split(b) if len(views.local_crops) else ()  # B C s s each
        captions: list[list[str]] = [[] for _ in (*global_crops, *local_crops)]
        if backbone is not None:
            outputs = at_least_fp32(self.teacher_head(self.teacher(views.global_crops).pooled))  # 2*B K
            teacher = self._teacher_probs(outputs, TrainingClock(1, 1, 0.0)).unflatten(0, (2, b))  # 2 B K
            targets = teacher.sum(0).argmax(1)  # B
            captions = [
                [f"teacher: {k}, {100 * p:.0f} %" for p, k in zip(*map(Tensor.tolist, crop.max(1)), strict=True)]
                for crop in teacher
            ]
            for crop in local_crops:
                student = at_least_fp32(self.head(backbone(crop).pooled)) / self.config.student_temperature  # B K
                probs, predictions = student.softmax(-1).max(1)  # B each
                marks = ["right" if hit else "wrong" for hit in (predictions == targets).tolist()]
                captions.append([
                    f"{k}, {100 * p:.0f} %, {mark}"
                    for k, p, mark in zip(predictions.tolist(), probs.tolist(), marks, strict=True)
                ])  # fmt: skip
        titles = ["global crop 1", "global crop 2", *[f"local crop {i}" for i in range(1, len(local_crops) + 1)]]
        columns = zip(titles, (*global_crops, *local_crops), captions, strict=True)
        image = center_crop_resize(batch.images, views.global_crops.shape[-1])
        return [Panel("the image", image), *[Panel(*column) for column in columns]]

    def _teacher_probs(self, outputs: Tensor, clock: TrainingClock) -> Tensor:
        """P_t of the teacher's outputs: ... K -> ... K."""
        warmup = self.config.temperature_warmup_fraction
        temperature = linear_ramp(clock.progress, warmup, *self.config.teacher_temperature)
        return ((outputs - self.center) / temperature).softmax(-1)


RECIPE = Recipe(
    task=DINO(),
    optim=replace(MUON, weight_decay=0.04, final_weight_decay=0.4, betas=(0.9, 0.999), warmup_fraction=0.1),
    epochs=100,
    batch_size=64,
    pooling="class",
)
