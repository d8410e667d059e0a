"""SwAV: assign a batch evenly to prototypes, then predict from one crop the assignment of another crop.

With cosines S between projections and prototypes, codes Q = sinkhorn(S / e) of the global crops, which give each
prototype an equal share of the batch, and P = softmax(S / t),

    loss = mean over pairs of crops x != x', x global, of  - sum_k Q(x)[k] log P(x')[k]

No gradient flows through codes. Since a batch can have fewer images than there are prototypes, a queue of projections
of earlier batches is assigned together with it.

Caron, Misra, Mairal, Goyal, Bojanowski and Joulin, "Unsupervised learning of visual features by contrasting cluster
assignments", 2020 (https://arxiv.org/abs/2006.09882).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headway.config import MUON, Recipe, check_range
from headway.distributed import all_gather_rows, rank, world_size
from headway.losses.distillation import cross_view_entropy
from headway.losses.sinkhorn import sinkhorn
from headway.metrics.training_metrics import assignment_entropies, batch_feature_std
from headway.nn.numerics import l2_normalize
from headway.nn.projection_heads import pairwise_cosine_similarity, projector, stop_gradient_keep_graph
from headway.protocol import Backbone, Batch, DataInfo, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.augment import Augment, simclr_augment
from headway.transforms.multi_crop import MultiCrop, local_crop_size, multi_crop


@dataclass(frozen=True)
class SwAV:
    """Configuration of SwAV."""

    num_prototypes: int = 0
    """K; 0: 3000 for the paper's 1.28 million images, and by the square root of their number for others, from 32."""
    hidden_dim: int = 512
    """Hidden width of the projector (2048 in the paper, for networks many times wider than ours)."""
    projection_dim: int = 128
    """Width of the vectors that are compared with prototypes."""
    num_local_crops: int = 4
    """Local crops of each image (6 in the paper)."""
    global_scale: tuple[float, float] = (0.3, 1.0)
    """Share of the image's area in a global crop (from 0.14 in the paper, where images have many times the pixels)."""
    local_scale: tuple[float, float] = (0.08, 0.3)
    """Share of the image's area in a local crop (0.05 to 0.14 in the paper)."""
    temperature: float = 0.1
    """t above."""
    epsilon: float = 0.05
    """e above. The lower it is, the harder are the codes."""
    sinkhorn_iterations: int = 3
    """Iterations of Sinkhorn-Knopp."""
    queue_length: int | None = None
    """Projections in the queue. None: as many as there are prototypes; 0: no queue."""
    queue_start_fraction: float = 0.1
    """Share of the run after which the queue is used. Early projections change too fast to be useful."""
    freeze_prototypes_fraction: float = 0.01
    """Share of the run, from its start, during which the prototypes are not updated."""
    augment: Augment | None = None
    """Augmentation of the crops. None: SimCLR's, as in the paper."""

    def __post_init__(self) -> None:
        check_range(self, "num_prototypes num_local_crops sinkhorn_iterations queue_length", at_least=0)
        check_range(self, "hidden_dim projection_dim", at_least=1)
        check_range(self, "global_scale local_scale", above=0, at_most=1, increasing=True)
        check_range(self, "temperature epsilon", above=0)
        check_range(self, "queue_start_fraction freeze_prototypes_fraction", at_least=0, at_most=1)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "SwAVTask":
        """Build the task: a projector, prototypes, and a queue."""
        return SwAVTask(self, backbone, data_info)


class SwAVTask(PretextTask):
    """Predict the code of another crop."""

    batch_coupled = True
    min_batch_size = 2

    def __init__(self, config: SwAV, backbone: Backbone, data_info: DataInfo):
        super().__init__()
        self.config = config
        self.crop_sizes = data_info.input_size, local_crop_size(data_info.input_size, backbone.patch_size)
        self.augment = config.augment or simclr_augment(data_info.input_size)
        self.projector = projector([backbone.embed_dim, config.hidden_dim, config.projection_dim])
        count = config.num_prototypes or max(round(3000 * math.sqrt(data_info.num_images / 1_281_167)), 32)
        self.prototypes = nn.Parameter(torch.randn(count, config.projection_dim))  # K E
        length = count if config.queue_length is None else config.queue_length
        self.queue = nn.Buffer(torch.zeros(2, length, config.projection_dim))  # 2 L E, one for each global crop
        uses_queue = length and 0 < config.queue_start_fraction < 1
        self.cost_milestones = (0.0, config.queue_start_fraction) if uses_queue else (0.0,)

    def make_views(self, batch: Batch, rng: SampleRNG) -> MultiCrop:
        """Two global crops and several local ones of each image."""
        return multi_crop(batch.images, rng, self.crop_sizes, self.config, self.augment)

    def forward(self, backbone: Backbone, views: MultiCrop, clock: TrainingClock) -> TaskOutput:
        """Cross-entropy of every crop's probabilities under the codes of the other global crops."""
        config, count = self.config, len(views.global_crops) // 2
        pooled = [backbone(crops).pooled for crops in (views.global_crops, views.local_crops) if len(crops)]
        projected = l2_normalize(self.projector(torch.cat(pooled)))  # V*B E
        frozen = clock.progress < config.freeze_prototypes_fraction
        prototypes = stop_gradient_keep_graph(self.prototypes) if frozen else self.prototypes  # K E
        scores = pairwise_cosine_similarity(projected, prototypes)  # V*B K
        global_scores = scores[: 2 * count].reshape(2, count, -1)  # 2 B K
        codes = self._codes(global_scores, pairwise_cosine_similarity(self._queued(clock), prototypes))  # 2 B K
        log_probs = (scores / config.temperature).log_softmax(-1).reshape(-1, count, scores.shape[-1])  # V B K
        metrics = {
            "target_entropy": assignment_entropies(codes)["assignment_entropy"],
            **assignment_entropies(log_probs[:2].exp()),
            "feature_std": batch_feature_std(pooled[0][:count]),
        }
        newest = projected[: 2 * count].detach().reshape(2, count, -1).transpose(0, 1)  # B 2 E
        return TaskOutput(cross_view_entropy(codes, log_probs), metrics, newest)

    def after_step(self, backbone: Backbone, step_stats: Sequence[Tensor], clock: TrainingClock) -> None:
        """Enqueue the newest projections of all processes and drop the oldest."""
        newest, _ = all_gather_rows(torch.cat(list(step_stats)))  # A 2 E
        queue = torch.cat([newest.transpose(0, 1).to(self.queue.dtype), self.queue], dim=1)  # 2 A+L E
        self.queue.copy_(queue[:, : self.queue.shape[1]])

    def _codes(self, scores: Tensor, queued: Tensor) -> Tensor:
        """Codes (2 B K, no gradient) of the global crops' scores, balanced together with those queued (2 W K)."""
        rows = torch.cat([scores, queued], dim=1).detach()  # 2 B+W K
        codes = [sinkhorn(view, self.config.epsilon, self.config.sinkhorn_iterations) for view in rows]
        return torch.stack(codes)[:, : scores.shape[1]]

    def _queued(self, clock: TrainingClock) -> Tensor:
        """This process's part of the queue: 2 W E. W is 0 until the queue is full, and early in the run."""
        oldest = self.queue[:, -1:]  # 2 1 E: zeros until the queue is full, since projections have length 1
        ready = clock.progress >= self.config.queue_start_fraction and bool(oldest.any(-1).all())
        return self.queue[:, rank() :: world_size()] if ready else self.queue[:, :0]


RECIPE = Recipe(task=SwAV(), optim=MUON, epochs=200, batch_size=256)
