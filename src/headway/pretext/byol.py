"""BYOL: a student predicts the EMA teacher's projection of another view. No image is compared with any other.

With p = predictor(projector(student(x))) and t' = the teacher's projection of the other view x',

    loss = (2 - 2 cos(p, t')) + (2 - 2 cos(p', t))

The teacher is a moving average of backbone and projector. A constant output would have the least loss; the slow teacher
and the predictor, which the teacher lacks, prevent it.

Grill, Strub, Altche, Tallec, Richemond, Buchatskaya, Doersch, Pires, Guo, Azar, Piot, Kavukcuoglu, Munos and Valko,
"Bootstrap your own latent: a new approach to self-supervised learning", 2020 (https://arxiv.org/abs/2006.07733).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from headway.config import MUON, Recipe, check_range
from headway.metrics.training_metrics import batch_feature_std
from headway.nn.numerics import cosine_similarity
from headway.nn.projection_heads import projector
from headway.nn.teacher import EMATeacher, update_teachers
from headway.protocol import Backbone, Batch, DataInfo, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.augment import Augment, byol_augments
from headway.transforms.two_views import TwoViews, two_views


@dataclass(frozen=True)
class BYOL:
    """Configuration of BYOL."""

    hidden_dim: int = 512
    """Hidden width of projector and predictor (4096 in the paper, for networks many times wider than ours)."""
    projection_dim: int = 128
    """Width of p and t (256 in the paper)."""
    momentum: float = 0.996
    """The teacher's momentum at the start of a long run. It rises to 1 (see ``nn.teacher``)."""
    ema_horizon: float = 1 / 40
    """Horizon of the teacher's average at the start, as a share of the run, at most."""
    augments: tuple[Augment, Augment] | None = None
    """Augmentations of the two views. None: those of the paper."""

    def __post_init__(self) -> None:
        check_range(self, "momentum ema_horizon", at_least=0, at_most=1)
        check_range(self, "hidden_dim projection_dim", at_least=1)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "BYOLTask":
        """Build the task: projector, predictor, and copies of backbone and projector as the teacher."""
        return BYOLTask(self, backbone, data_info.input_size)


class BYOLTask(PretextTask):
    """Predict the EMA teacher's projection."""

    batch_coupled = True  # by the batch norms of projector and predictor
    min_batch_size = 2

    def __init__(self, config: BYOL, backbone: Backbone, size: int):
        super().__init__()
        self.config, self.size = config, size
        self.augments = config.augments or byol_augments(size)
        self.projector = projector([backbone.embed_dim, config.hidden_dim, config.projection_dim])
        self.predictor = projector([config.projection_dim, config.hidden_dim, config.projection_dim])
        self.teacher, self.teacher_projector = EMATeacher(backbone), EMATeacher(self.projector)

    def make_views(self, batch: Batch, rng: SampleRNG) -> TwoViews:
        """Two crops of each image, one with each augmentation."""
        return two_views(batch, rng, self.size, *self.augments)

    def forward(self, backbone: Backbone, views: TwoViews, clock: TrainingClock) -> TaskOutput:
        """Each view predicts the teacher's projection of the other."""
        features = backbone(views.images).pooled.chunk(2)  # B D each; batch norms see one view at a time
        first, second = (self.predictor(self.projector(view)) for view in features)  # B E each
        targets = [self.teacher_projector(view) for view in self.teacher(views.images).pooled.chunk(2)]  # B E each
        loss = byol_loss(first, targets[1]) + byol_loss(second, targets[0])
        metrics = {
            "cosine": 1 - loss.detach() / 4,
            "feature_std": batch_feature_std(features[0]),
            "target_std": batch_feature_std(targets[1]),
        }
        return TaskOutput(loss, metrics)

    def after_step(self, backbone: Backbone, step_stats: Sequence[Any], clock: TrainingClock) -> None:
        """Update the teacher's moving average."""
        update_teachers(self.config, clock, (self.teacher, backbone), (self.teacher_projector, self.projector))


def byol_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """The mean of |p / |p| - t / |t||^2 = 2 - 2 cos(p, t) over images: B E and B E -> a scalar in [0, 4]."""
    return (2 - 2 * cosine_similarity(predictions, targets)).mean()


RECIPE = Recipe(task=BYOL(), optim=MUON, epochs=200, batch_size=256)
