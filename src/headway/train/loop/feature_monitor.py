"""Statistics of the features during a run, on a fixed sample of images (see ``metrics.representation``)."""

from collections.abc import Callable

import torch
from torch import Tensor

from headway.metrics.representation import alignment, effective_rank, feature_std, uniformity
from headway.protocol import Backbone
from headway.rng import SampleRNG
from headway.transforms.augment import simclr_augment

MONITOR_IMAGES = 256
"""Images in the sample, evenly spaced over the data: enough to see a collapse. RankMe cannot exceed their number."""
IMAGES_PER_PASS = 64
"""Images per forward pass."""


def make_feature_monitor(sample: Tensor, size: int) -> Callable[[Backbone], dict[str, float]]:
    """Make a function from a backbone to RankMe, standard deviation, alignment and uniformity of its pooled features.

    The features are those of two fixed SimCLR augmentations of each image. The function leaves the backbone as it was,
    and returns an empty dictionary where a feature is NaN or infinite.

    Args:
        sample: B C H W, the images; at least two.
        size: Side of the view in pixels.
    """
    positions, augment = torch.arange(len(sample)), simclr_augment(size)

    @torch.no_grad()
    def monitor(backbone: Backbone) -> dict[str, float]:
        training, device = backbone.training, next(backbone.parameters()).device
        backbone.eval()

        def features(name: str) -> Tensor:
            """B D, features of one augmentation of every image."""
            chunks = zip(sample.split(IMAGES_PER_PASS), positions.split(IMAGES_PER_PASS), strict=True)
            views = (
                augment(images.to(device), SampleRNG(0, chunk.to(device)).fold_in(name), size)
                for images, chunk in chunks
            )
            return torch.cat([backbone(view).pooled.float().cpu() for view in views])

        first, second = features("first"), features("second")
        backbone.train(training)
        if not (first.isfinite().all() and second.isfinite().all()):
            return {}
        return {
            "effective_rank": effective_rank(first), "std": feature_std(first),
            "alignment": alignment(first, second), "uniformity": uniformity(first),
        }  # fmt: skip

    return monitor
