"""MoCo v3: a student identifies its image among an EMA teacher's views of the whole batch.

With q = predictor(student(x)) and k = teacher(x'), both normalized, and k+ the key of q's own image,

    ctr(q, k) = - 2 t  mean log  exp(q . k+ / t) / sum_k exp(q . k / t),        loss = ctr(q1, k2) + ctr(q2, k1)

The teacher is a moving average of backbone and projector. The keys are those of the batch; there is no queue.

Chen, Xie and He, "An empirical study of training self-supervised vision transformers", 2021
(https://arxiv.org/abs/2104.02057).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headway.config import MUON, Recipe, check_range
from headway.losses.contrastive import info_nce
from headway.metrics.training_metrics import batch_feature_std
from headway.nn.projection_heads import projector
from headway.nn.teacher import EMATeacher, update_teachers
from headway.protocol import Backbone, Batch, DataInfo, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.augment import Augment, byol_augments
from headway.transforms.two_views import TwoViews, two_views


@dataclass(frozen=True)
class MoCoV3:
    """Configuration of MoCo v3."""

    temperature: float = 0.2
    """t above."""
    hidden_dim: int = 512
    """Hidden width of projector and predictor (4096 in the paper, for networks many times wider than ours)."""
    projection_dim: int = 128
    """Width of q and k (256 in the paper)."""
    momentum: float = 0.99
    """The teacher's momentum at the start of a long run. It rises to 1 (see ``nn.teacher``)."""
    ema_horizon: float = 1 / 40
    """Horizon of the teacher's average at the start, as a share of the run, at most."""
    augments: tuple[Augment, Augment] | None = None
    """Augmentations of the two views. None: those of BYOL, as in the paper."""

    def __post_init__(self) -> None:
        check_range(self, "temperature", above=0)
        check_range(self, "momentum ema_horizon", at_least=0, at_most=1)
        check_range(self, "hidden_dim projection_dim", at_least=1)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "MoCoV3Task":
        """Build the task: projector, predictor, and copies of backbone and projector as the teacher."""
        return MoCoV3Task(self, backbone, data_info.input_size)


class MoCoV3Task(PretextTask):
    """Identify one's own image among the teacher's keys."""

    batch_coupled = True
    min_batch_size = 2

    def __init__(self, config: MoCoV3, backbone: Backbone, size: int):
        super().__init__()
        self.config, self.size = config, size
        self.augments = config.augments or byol_augments(size)
        hidden, out = config.hidden_dim, config.projection_dim
        self.projector = projector([backbone.embed_dim, hidden, hidden, out], last_norm=True, last_affine=False)
        self.predictor = projector([out, hidden, out], last_norm=True, last_affine=False)
        self.teacher, self.teacher_projector = EMATeacher(backbone), EMATeacher(self.projector)

    def make_views(self, batch: Batch, rng: SampleRNG) -> TwoViews:
        """Two crops of each image, one with each augmentation."""
        return two_views(batch, rng, self.size, *self.augments)

    def forward(self, backbone: Backbone, views: TwoViews, clock: TrainingClock) -> TaskOutput:
        """Both views are queries. The positive key of each is the teacher's projection of the other view."""
        features = backbone(views.images).pooled.chunk(2)  # B D each; batch norms see one view at a time
        queries = [self.predictor(self.projector(view)) for view in features]  # B E each
        keys = [self.teacher_projector(view) for view in self.teacher(views.images).pooled.chunk(2)]  # B E each
        first, top1 = info_nce(queries[0], keys[1], self.config.temperature, views.sample_index)
        second, _ = info_nce(queries[1], keys[0], self.config.temperature, views.sample_index)
        metrics = {
            "contrastive_top1": top1,
            "feature_std": batch_feature_std(features[0]),
            "target_std": batch_feature_std(keys[1]),
        }
        return TaskOutput(first + second, metrics)

    def after_step(self, backbone: Backbone, step_stats: Sequence[Any], clock: TrainingClock) -> None:
        """Update the teacher's moving average."""
        update_teachers(self.config, clock, (self.teacher, backbone), (self.teacher_projector, self.projector))


RECIPE = Recipe(task=MoCoV3(), optim=MUON, epochs=200, batch_size=256)
