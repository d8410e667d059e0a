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
    draws, augment = Draws(0, torch.arange(len(sample))), simclr(size)
    views = [augment(sample, draws.fork(name), size) for name in ("first", "second")]  # B C size size each

    @torch.no_grad()
    def look(backbone: nn.Module) -> dict[str, float]:
        training, device = backbone.training, next(backbone.parameters()).device
        backbone.eval()
        first, second = (
            torch.cat([backbone(part.to(device)).pooled.float().cpu() for part in view.split(CHUNK)]) for view in views
        )  # B D each
        backbone.train(training)
        if not (first.isfinite().all() and second.isfinite().all()):
            return {}
        return {
            "rank": effective_rank(first), "std": feature_std(first),
            "alignment": alignment(first, second), "uniformity": uniformity(first),
        }  # fmt: skip

    return look
