"""First operations of every backbone: check images, convert to grayscale, normalize, and mask pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from headway.errors import HeadwayError
from headway.protocol import InputSpec

LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # red, green, blue: ITU-R BT.601
IMAGENET_INPUT = InputSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def check_input_spec(input_spec: InputSpec) -> None:
    """Raise HeadwayError unless mean and std have one entry per channel, std is positive, and grayscale is possible."""
    if not len(input_spec.mean) == len(input_spec.std) == input_spec.channels >= 1:
        raise HeadwayError(
            "value-out-of-range",
            f"input_spec needs a mean and std for each of {input_spec.channels} channels, got {input_spec}",
        )
    if not all(std > 0 for std in input_spec.std):
        raise HeadwayError("value-out-of-range", f"every std of input_spec must be above 0, got {input_spec.std}")
    if input_spec.grayscale and input_spec.channels not in (1, 3):
        raise HeadwayError("image-format", f"grayscale needs images of 1 or 3 channels, got {input_spec.channels}")


class InputNormalizer(nn.Module):
    """Normalize images in [0, 1] as the network expects them: B C H W -> B C H W.

    Args:
        input_spec: Mean, std, number of channels, and whether images become grayscale.
    """

    def __init__(self, input_spec: InputSpec):
        super().__init__()
        check_input_spec(input_spec)
        self.input_spec = input_spec
        self.mean: Tensor
        self.std: Tensor
        self.luma_weights: Tensor
        for name, value in (("mean", input_spec.mean), ("std", input_spec.std), ("luma_weights", LUMA_WEIGHTS)):
            self.register_buffer(name, torch.tensor(value).view(-1, 1, 1), persistent=False)  # C 1 1

    def forward(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Convert to grayscale where ``input_spec`` says so, then return (images - mean) / std.

        Args:
            images: B C H W, floating point in [0, 1].
            dtype: Type of the network's parameters.

        Raises:
            HeadwayError: The tensor is not B C H W, has another number of channels, or holds integers.
        """
        shape = " ".join(map(str, images.shape))
        if images.dim() != 4 or images.shape[1] != self.input_spec.channels:
            raise HeadwayError(
                "image-format", f"the backbone takes images as B {self.input_spec.channels} H W, got {shape}"
            )
        if not images.is_floating_point():
            raise HeadwayError(
                "image-format", f"the backbone takes images in [0, 1], got {images.dtype}: divide by 255 first"
            )
        x = images.to(dtype)
        if self.input_spec.grayscale and self.input_spec.channels == 3:
            x = (x * self.luma_weights.to(dtype)).sum(1, keepdim=True).expand_as(x)  # B C H W
        return (x - self.mean.to(dtype)) / self.std.to(dtype)


def patch_grid(images: Tensor, patch_size: int) -> tuple[int, int]:
    """Return rows and columns of patches. Raises HeadwayError unless ``patch_size`` divides height and width."""
    height, width = images.shape[-2:]
    if height % patch_size or width % patch_size or not height * width:
        near = " x ".join(str(max(1, round(side / patch_size)) * patch_size) for side in (height, width))
        raise HeadwayError(
            "image-size",
            f"images of {height} x {width} pixels cannot be split into patches of {patch_size} x {patch_size}: "
            f"crop or resize them to {near}",
        )
    return height // patch_size, width // patch_size


def mask_pixels(x: Tensor, mask: Tensor, patch_size: int, mask_value: Tensor | None = None) -> Tensor:
    """Replace the pixels of masked patches by one color.

    Args:
        x: B C H W, normalized, so that zero is the mean color.
        mask: B N, bool: the patches to replace, row-major.
        patch_size: Side of a patch in pixels.
        mask_value: C numbers; None means zeros.

    Returns:
        B C H W.

    Raises:
        ValueError: ``mask`` or ``mask_value`` has another shape.
    """
    rows, columns = patch_grid(x, patch_size)
    check_patch_tensor("mask", mask, len(x), rows * columns)
    cells = mask.view(-1, rows, 1, columns, 1)  # B rows 1 columns 1
    pixels = cells.expand(-1, -1, patch_size, -1, patch_size).reshape(len(x), 1, *x.shape[-2:])  # B 1 H W
    if mask_value is None:
        return x.masked_fill(pixels, 0.0)
    if mask_value.shape != x.shape[1:2]:
        raise ValueError(f"mask_value must hold {x.shape[1]} numbers, one a channel, got {tuple(mask_value.shape)}")
    return torch.where(pixels, mask_value.to(x.dtype).view(-1, 1, 1), x)


def check_patch_tensor(name: str, patches: Tensor, batch_size: int, num_columns: int | None = None) -> None:
    """Raise ValueError unless ``patches`` has B rows and, where it is given, ``num_columns`` columns."""
    if patches.dim() != 2 or len(patches) != batch_size or num_columns not in (None, patches.shape[1]):
        wanted = f"{batch_size} x {'K' if num_columns is None else num_columns}"
        raise ValueError(f"{name} must be {wanted} for this batch, got {' x '.join(map(str, patches.shape))}")


def resolve_layers(layers: Sequence[int], depth: int, subject: str) -> list[int]:
    """Indices of layers, from 0; -1 is the last of ``depth``. Raises a ValueError that begins with ``subject``."""
    for layer in layers:
        if not -depth <= layer < depth:
            raise ValueError(f"{subject} layers 0..{depth - 1} (or -1 for the last), got {layer}")
    return [layer % depth for layer in layers]
