"""What every backbone does to pictures first: look whether it can take them, grey, normalise, paint what is hidden."""

import torch
from torch import Tensor, nn

from headway.errors import HeadwayError
from headway.protocol import Inputs

LIGHTNESS = (0.299, 0.587, 0.114)  # red, green, blue: ITU-R BT.601
IMAGENET = Inputs(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def check_inputs(inputs: Inputs) -> None:
    """Raise HeadwayError unless mean and std have one positive-std entry a channel and grey is possible."""
    if not len(inputs.mean) == len(inputs.std) == inputs.channels >= 1:
        raise HeadwayError(f"inputs need a mean and a std for each of {inputs.channels} channels, got {inputs}")
    if not all(std > 0 for std in inputs.std):
        raise HeadwayError(f"every std of the inputs must be above 0, got {inputs.std}")
    if inputs.grey and inputs.channels not in (1, 3):
        raise HeadwayError(f"grey needs pictures of 1 or 3 channels, got {inputs.channels}")


class Prepare(nn.Module):
    """Images in [0, 1] -> what the network was made for: B C H W -> B C H W.

    Args:
        inputs: Mean, std, channels, grey.
    """

    def __init__(self, inputs: Inputs):
        super().__init__()
        check_inputs(inputs)
        self.inputs = inputs
        self.mean: Tensor
        self.std: Tensor
        self.lightness: Tensor
        for name, value in (("mean", inputs.mean), ("std", inputs.std), ("lightness", LIGHTNESS)):
            self.register_buffer(name, torch.tensor(value).view(-1, 1, 1), persistent=False)  # C 1 1

    def forward(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Grey where asked, then (images - mean) / std.

        Args:
            images: B C H W, floating point in [0, 1].
            dtype: Of the network's parameters.

        Raises:
            HeadwayError: For a tensor that isn't B C H W, another number of channels, or integers.
        """
        shape = " ".join(map(str, images.shape))
        if images.dim() != 4 or images.shape[1] != self.inputs.channels:
            raise HeadwayError(f"the backbone takes pictures as B {self.inputs.channels} H W, got {shape}")
        if not images.is_floating_point():
            raise HeadwayError(f"the backbone takes pictures in [0, 1], got {images.dtype}: divide by 255 first")
        x = images.to(dtype)
        if self.inputs.grey and self.inputs.channels == 3:
            x = (x * self.lightness.to(dtype)).sum(1, keepdim=True).expand_as(x)  # B C H W
        return (x - self.mean.to(dtype)) / self.std.to(dtype)


def grid_of(images: Tensor, patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches. Raises HeadwayError unless ``patch_size`` divides height and width."""
    height, width = images.shape[-2:]
    if height % patch_size or width % patch_size or not height * width:
        near = " x ".join(str(max(1, round(side / patch_size)) * patch_size) for side in (height, width))
        raise HeadwayError(
            f"pictures of {height} x {width} pixels can't be cut into patches of {patch_size} x {patch_size}: "
            f"crop or resize them to {near}"
        )
    return height // patch_size, width // patch_size


def paint(x: Tensor, hidden: Tensor, patch_size: int, colour: Tensor | None = None) -> Tensor:
    """Cover patches with one colour.

    Args:
        x: B C H W, normalised, so that zero is the mean colour.
        hidden: B N, bool: the patches to cover, row-major.
        patch_size: Pixels a side.
        colour: C numbers; None means zeros.

    Returns:
        B C H W.

    Raises:
        ValueError: Where ``hidden`` or ``colour`` have another shape.
    """
    rows, columns = grid_of(x, patch_size)
    check_patches("mask", hidden, len(x), rows * columns)
    cells = hidden.view(-1, rows, 1, columns, 1)  # B rows 1 columns 1
    pixels = cells.expand(-1, -1, patch_size, -1, patch_size).reshape(len(x), 1, *x.shape[-2:])  # B 1 H W
    if colour is None:
        return x.masked_fill(pixels, 0.0)
    if colour.shape != x.shape[1:2]:
        raise ValueError(f"fill must hold {x.shape[1]} numbers, one a channel, got {tuple(colour.shape)}")
    return torch.where(pixels, colour.to(x.dtype).view(-1, 1, 1), x)


def check_patches(name: str, patches: Tensor, batch: int, count: int | None = None) -> None:
    """Raise ValueError unless ``patches`` is B rows by, where ``count`` is given, as many columns."""
    if patches.dim() != 2 or len(patches) != batch or (count is not None and patches.shape[1] != count):
        wanted = f"{batch} x {'K' if count is None else count}"
        raise ValueError(f"{name} must be {wanted} for this batch, got {' x '.join(map(str, patches.shape))}")
