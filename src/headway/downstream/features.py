"""Features of stored pictures from a frozen backbone."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from headway.data.picked import Pictures
from headway.protocol import Features
from headway.views.geometry import centre_resize, to_unit

CHUNK = 64
"""Pictures a pass. Always exactly so many (the last pass is filled up), since products of another shape may round
differently: what is said of a picture does not depend on how many others are looked at."""


def extract(backbone: nn.Module, images: Pictures, size: int) -> Tensor:
    """The pooled features of pictures, N C H W uint8 (or float32 in [0, 1]) -> N D float32 on the processor.

    Args:
        backbone: Any ``protocol.Backbone``; set to evaluation meanwhile.
        images: The stored pictures.
        size: Side of the square view that the backbone sees: the whole picture, brought to this side.
    """
    return look(backbone, lambda features: features.pooled, images, size)


@torch.no_grad()
def look(
    backbone: nn.Module,
    take: Callable[[Features], Tensor],
    images: Pictures,
    size: int,
    layers: Sequence[int] = (),
) -> Tensor:
    """What ``take`` makes of the features, B rows from B pictures, for any number of pictures; else as ``extract``.

    Args:
        backbone: Any ``protocol.Backbone``.
        take: From the features of CHUNK pictures to CHUNK rows.
        images: The stored pictures, one at least.
        size: Side of the view.
        layers: Which blocks' outputs the features shall hold as well.
    """
    training = backbone.training
    backbone.eval()
    device = next(backbone.parameters()).device
    asked = {"layers": tuple(layers)} if layers else {}
    rows = []
    for chunk in images.split(CHUNK):
        filled = torch.cat([chunk, chunk[-1:].expand(CHUNK - len(chunk), *chunk.shape[1:])])  # CHUNK C H W
        answer = take(backbone(centre_resize(to_unit(filled.to(device)), size), **asked))  # CHUNK *
        rows.append(answer[: len(chunk)].float().cpu())
    backbone.train(training)
    return torch.cat(rows)  # N *
