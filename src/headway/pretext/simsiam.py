"""SimSiam: predict the network's own projection of another view. Only the stopped gradient prevents collapse.

With z = projector(backbone(x)), p = predictor(z) and sg the stop-gradient,

    loss = - 1/2 cos(p, sg(z')) - 1/2 cos(p', sg(z))

This is BYOL without a teacher. Without sg the network soon gives all images one output; ``target_std`` shows it.

Chen and He, "Exploring simple Siamese representation learning", 2020 (https://arxiv.org/abs/2011.10566).
"""

from dataclasses import dataclass

from torch import Tensor

from headway.config import MUON, Recipe, check_range
from headway.metrics.training_metrics import batch_feature_std
from headway.nn.numerics import cosine_similarity
from headway.nn.projection_heads import projector
from headway.protocol import Backbone, Batch, DataInfo, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.augment import Augment, simsiam_augment
from headway.transforms.two_views import TwoViews, two_views


@dataclass(frozen=True)
class SimSiam:
    """Configuration of SimSiam."""

    projection_dim: int = 512
    """Width of the projector, of z and of p (2048 in the paper, for networks many times wider than ours)."""
    bottleneck_dim: int = 128
    """Hidden width of the predictor: a quarter of ``projection``, as in the paper."""
    augment: Augment | None = None
    """Augmentation of the views. None: the paper's, without blur for views of up to 32 pixels."""

    def __post_init__(self) -> None:
        check_range(self, "projection_dim bottleneck_dim", at_least=1)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "SimSiamTask":
        """Build the task: a projector of three layers and a predictor with a bottleneck."""
        return SimSiamTask(self, backbone.embed_dim, data_info.input_size)


class SimSiamTask(PretextTask):
    """Predict one's own projection of another view."""

    batch_coupled = True  # by the batch norms of projector and predictor
    min_batch_size = 2

    def __init__(self, config: SimSiam, embed_dim: int, size: int):
        super().__init__()
        self.size = size
        self.augment = config.augment or simsiam_augment(size)
        out = config.projection_dim
        self.projector = projector([embed_dim, out, out, out], last_norm=True, last_affine=False)
        self.predictor = projector([out, config.bottleneck_dim, out])

    def make_views(self, batch: Batch, rng: SampleRNG) -> TwoViews:
        """Two independent crops of each image."""
        return two_views(batch, rng, self.size, self.augment, self.augment)

    def forward(self, backbone: Backbone, views: TwoViews, clock: TrainingClock) -> TaskOutput:
        """Each view predicts the other's projection."""
        features = backbone(views.images).pooled.chunk(2)  # B D each; batch norms see one view at a time
        first, second = (self.projector(view) for view in features)  # B E each
        loss = (negative_cosine(self.predictor(first), second) + negative_cosine(self.predictor(second), first)) / 2
        metrics = {
            "cosine": -loss.detach(),
            "feature_std": batch_feature_std(features[0]),
            "target_std": batch_feature_std(second),
        }
        return TaskOutput(loss, metrics)


def negative_cosine(predictions: Tensor, projections: Tensor) -> Tensor:
    """The mean of - cos(p, sg(z)) over images: B E and B E -> a scalar in [-1, 1]."""
    return -cosine_similarity(predictions, projections.detach()).mean()


RECIPE = Recipe(task=SimSiam(), optim=MUON, epochs=200, batch_size=256)
