"""Features of stored images from a frozen backbone."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from headway.data.dataset.subset import Images
from headway.protocol import Features
from headway.transforms.geometry import center_crop_resize, to_float01

FORWARD_BATCH_SIZE = 64
"""Images a forward pass. The last batch is padded to this size, since matrix products of another shape may round
differently: so the features of an image do not depend on how many others are processed."""


def extract_features(backbone: nn.Module, images: Images, size: int) -> Tensor:
    """The pooled features of images.

    Args:
        backbone: Any ``protocol.Backbone``; it is in eval mode meanwhile.
        images: N C H W, as stored: uint8, or float32 in [0, 1].
        size: Side of the square view that the backbone sees: the whole image, resized to it.

    Returns:
        N D, float32, on the CPU.
    """
    return forward_batched(backbone, lambda features: features.pooled, images, size)


@torch.no_grad()
def forward_batched(
    backbone: nn.Module,
    output_fn: Callable[[Features], Tensor],
    images: Images,
    size: int,
    return_layers: Sequence[int] = (),
) -> Tensor:
    """Apply a backbone and a function of its features to any number of images, batch by batch.

    Args:
        backbone: Any ``protocol.Backbone``; it is in eval mode meanwhile.
        output_fn: From the features of B images to B rows.
        images: N C H W, as stored; at least one.
        size: Side of the view in pixels.
        return_layers: The blocks whose outputs the features hold as well.

    Returns:
        N rows, float32, on the CPU.
    """
    training = backbone.training
    backbone.eval()
    device = next(backbone.parameters()).device
    options = {"return_layers": tuple(return_layers)} if return_layers else {}
    rows = []
    for batch in images.split(FORWARD_BATCH_SIZE):
        padding = batch[-1:].expand(FORWARD_BATCH_SIZE - len(batch), *batch.shape[1:])
        padded = torch.cat([batch, padding])  # B C H W
        output = output_fn(backbone(center_crop_resize(to_float01(padded.to(device)), size), **options))  # B *
        rows.append(output[: len(batch)].float().cpu())
    backbone.train(training)
    return torch.cat(rows)  # N *
