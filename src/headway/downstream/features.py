"""Features of stored pictures from a frozen backbone."""

import torch
from torch import Tensor, nn

from headway.views.geometry import centre_resize, to_unit

CHUNK = 64
"""Pictures a pass. Always exactly so many (the last pass is filled up), since another shape may round differently: a
picture's features do not depend on how many others are looked at."""


@torch.no_grad()
def extract(backbone: nn.Module, images: Tensor, size: int, mirror: bool = False) -> Tensor:
    """The pooled features of pictures, N C H W uint8 (or float32 in [0, 1]) -> N D float32 on the processor.

    Args:
        backbone: Any ``protocol.Backbone``; set to evaluation meanwhile.
        images: The stored pictures.
        size: Side of the square view that the backbone sees: the whole picture, brought to this side.
        mirror: Average with the features of the mirrored picture.
    """
    training = backbone.training
    backbone.eval()
    parameter = next(backbone.parameters())
    rows = []
    for chunk in images.split(CHUNK):
        filled = torch.cat([chunk, chunk[-1:].expand(CHUNK - len(chunk), *chunk.shape[1:])])  # CHUNK C H W
        view = centre_resize(to_unit(filled.to(parameter.device)), size)
        pooled = backbone(view).pooled
        if mirror:
            pooled = (pooled + backbone(view.flip(-1)).pooled) / 2
        rows.append(pooled[: len(chunk)].float().cpu())
    backbone.train(training)
    return torch.cat(rows)  # N D
