"""Features of stored images from a frozen backbone."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from headway.data.dataset.subset import Images
from headway.protocol import Backbone, Features
from headway.transforms.geometry import center_crop_resize, to_float01
from headway.utils.threads import available_threads, prefetch_map

FORWARD_BATCH_SIZE, CPU_BATCH_SIZE = 64, 32
"""Images a forward pass, on an accelerator and on a processor's core, which gains nothing from more. The last batch is
padded to this size, since matrix products of another shape may round differently: so the features of an image do not
depend on how many others are processed."""


def extract_features(backbone: Backbone, images: Images, size: int) -> Tensor:
    """The pooled features of images.

    Args:
        backbone: The network; it is in eval mode meanwhile.
        images: N C H W, as stored: uint8, or float32 in [0, 1].
        size: Side of the square view that the backbone sees: the whole image, resized to it.

    Returns:
        N D, float32, on the CPU.
    """
    return forward_batched(backbone, lambda features: features.pooled, images, size)


def forward_batched(
    backbone: Backbone,
    output_fn: Callable[[Features], Tensor],
    images: Images,
    size: int,
    return_layers: Sequence[int] = (),
) -> Tensor:
    """Apply a backbone and a function of its features to any number of images, batch by batch.

    On a CPU each batch is computed by one thread, and several threads compute different batches: they never wait for
    one another, so a core that another program takes slows down one of them alone. (Threads that share a batch wait at
    every operation.) The result does not depend on the number of threads.

    Args:
        backbone: The network; it is in eval mode meanwhile. On a CPU its forward pass, and any hooks, run
            in other threads, several at a time.
        output_fn: From the features of B images to B rows; it is called in these threads, too.
        images: N C H W, as stored; at least one.
        size: Side of the view in pixels.
        return_layers: The blocks whose outputs the features hold as well.

    Returns:
        N rows, float32, on the CPU.
    """
    training = backbone.training
    backbone.eval()
    device = backbone.device
    on_cpu = device.type == "cpu"
    batch_size = CPU_BATCH_SIZE if on_cpu else FORWARD_BATCH_SIZE
    options = {"return_layers": tuple(return_layers)} if return_layers else {}
    autocast = torch.is_autocast_enabled(device.type)
    autocast_dtype = torch.get_autocast_dtype(device.type)

    def compute(start: int) -> Tensor:
        batch = images[slice(start, start + batch_size)]  # b C H W
        padding = batch[-1:].expand(batch_size - len(batch), *batch.shape[1:])
        # both are settings of a thread, which does not inherit them from the one that started it
        with torch.no_grad(), torch.autocast(device.type, autocast_dtype, enabled=autocast):
            view = center_crop_resize(to_float01(torch.cat([batch, padding]).to(device)), size)  # B C S S
            return output_fn(backbone(view, **options))[: len(batch)].float().cpu()  # b *

    starts = range(0, len(images), batch_size)
    compiled = backbone._compiled_call_impl is not None  # which is compiled on its first calls
    threads = 1 if compiled else min(available_threads(), len(starts))
    rows: Iterable[Tensor] = (
        prefetch_map(compute, starts, threads, 2 * threads, "headway-forward") if on_cpu else map(compute, starts)
    )
    try:
        return torch.cat(list(rows))  # N *
    finally:
        backbone.train(training)


def apply_batched(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Apply a function to rows, N D, in batches of the size that ``forward_batched`` has on a CPU, the last one padded.

    So an output layer gives the same bits on stored features as on those that were just computed.
    """
    parts = []
    for batch in rows.split(CPU_BATCH_SIZE):
        padding = batch[-1:].expand(CPU_BATCH_SIZE - len(batch), *batch.shape[1:])
        with torch.no_grad():
            parts.append(function(torch.cat([batch, padding]))[: len(batch)])
    return torch.cat(parts)  # N *
