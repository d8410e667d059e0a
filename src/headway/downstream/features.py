"""Features of stored pictures from a frozen backbone."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from headway.views.geometry import centre_resize, to_unit

CHUNK = 64
"""Pictures a pass. Always exactly so many (the last pass is filled up), since products of another shape may round
differently: what is said of a picture does not depend on how many others are looked at."""


def extract(backbone: nn.Module, images: Tensor, size: int) -> Tensor:
    """The pooled features of pictures, N C H W uint8 (or float32 in [0, 1]) -> N D float32 on the processor.

    Args:
        backbone: Any ``protocol.Backbone``; set to evaluation meanwhile.
        images: The stored pictures.
        size: Side of the square view that the backbone sees: the whole picture, brought to this side.
    """
    return through(backbone, lambda pooled: pooled, images, size)


@torch.no_grad()
def through(backbone: nn.Module, head: Callable[[Tensor], Tensor], images: Tensor, size: int) -> Tensor:
    """What ``head`` (B D -> B *) makes of the pooled features, for any number of pictures; else as ``extract``."""
    training = backbone.training
    backbone.eval()
    device = next(backbone.parameters()).device
    rows = []
    for chunk in images.split(CHUNK):
        filled = torch.cat([chunk, chunk[-1:].expand(CHUNK - len(chunk), *chunk.shape[1:])])  # CHUNK C H W
        answer = head(backbone(centre_resize(to_unit(filled.to(device)), size)).pooled)  # CHUNK *
        rows.append(answer[: len(chunk)].float().cpu())
    backbone.train(training)
    return torch.cat(rows)  # N *
