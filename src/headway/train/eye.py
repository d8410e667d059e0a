"""An eye on the features while a run goes on: the four numbers of ``measure.collapse``, on a fixed few pictures."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from headway.draws import Draws
from headway.measure.collapse import alignment, effective_rank, feature_std, uniformity
from headway.views.augment import simclr

PICTURES = 256
"""Looked at, evenly spread over the data: enough to see a collapse. RankMe cannot exceed their number."""
CHUNK = 64
"""Pictures a pass."""


def make_eye(sample: Tensor, size: int) -> Callable[[nn.Module], dict[str, float]]:
    """A function from a backbone to RankMe, feature std, alignment and uniformity of its pooled features.

    Two fixed crops of each picture are looked at, dealt as SimCLR deals them; the network is left as it was.

    Args:
        sample: B C H W, the pictures, two at least.
        size: Side of the view in pixels.
    """
    places, augment = torch.arange(len(sample)), simclr(size)

    @torch.no_grad()
    def look(backbone: nn.Module) -> dict[str, float]:
        training, device = backbone.training, next(backbone.parameters()).device
        backbone.eval()

        def features(name: str) -> Tensor:
            """B D, of the crop called so of every picture."""
            chunks = zip(sample.split(CHUNK), places.split(CHUNK), strict=True)
            views = (
                augment(images.to(device), Draws(0, where.to(device)).fork(name), size) for images, where in chunks
            )
            return torch.cat([backbone(view).pooled.float().cpu() for view in views])

        first, second = features("first"), features("second")
        backbone.train(training)
        if not (first.isfinite().all() and second.isfinite().all()):
            return {}
        return {
            "rank": effective_rank(first), "std": feature_std(first),
            "alignment": alignment(first, second), "uniformity": uniformity(first),
        }  # fmt: skip

    return look
