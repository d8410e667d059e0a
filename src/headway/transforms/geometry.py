"""Geometric transforms: crops, horizontal flips, rotations by multiples of 90 degrees.

Random resized crop: Szegedy et al., "Going deeper with convolutions", 2015 (https://arxiv.org/abs/1409.4842).
Boxes are B 4: top, left, height, width in pixels.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from headway.rng import SampleRNG
from headway.transforms.pixels import apply_to_selected, map_chunks, to_float01
from headway.transforms.resample import resize_taps, separable_filter


def crop_resize(images: Tensor, boxes: Tensor, size: int, flip: Tensor | None = None) -> Tensor:
    """Crop each image to its box and resize the crop bilinearly, antialiased where it shrinks.

    Args:
        images: B C H W, uint8 or floating point in [0, 1].
        boxes: B 4, pixels, not necessarily integers; inside the image, height and width more than 0.
        size: Side of the square result in pixels.
        flip: B, bool: which results are flipped horizontally.

    Returns:
        B C size size, float32 in [0, 1]; within 2/255 of torchvision's ``resized_crop`` with the same box.
    """

    def crop(images: Tensor, boxes: Tensor, flip: Tensor | None = None) -> Tensor:
        top, left, height, width = boxes.float().unbind(1)  # B each
        rows = resize_taps(top, height, images.shape[2], size)
        columns = resize_taps(left, width, images.shape[3], size, flip)
        return separable_filter(to_float01(images), rows, columns).clamp_(0, 1)  # rounding may exceed 1 slightly

    return map_chunks(crop, images, boxes, *([] if flip is None else [flip]))


def random_boxes(
    rng: SampleRNG,
    height: int,
    width: int,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    num_tries: int = 10,
) -> Tensor:
    """Draw boxes of random area, aspect ratio and position, as torchvision's ``RandomResizedCrop`` does.

    All tries are drawn at once, and the first that fits is taken. Where none fits, the box is the largest central one
    of an allowed aspect ratio.

    Args:
        rng: Random numbers of each image.
        height: Height of the images in pixels.
        width: Width of the images in pixels.
        scale: Area of the box as a fraction of the image's, uniform in this range.
        ratio: Width / height, log-uniform in this range.
        num_tries: Number of tries.

    Returns:
        B 4, integers in float32.
    """
    area = height * width * rng.uniform("crop area", num_tries, low=scale[0], high=scale[1])  # B tries
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(rng.uniform("crop aspect", num_tries, low=low, high=high))  # B tries
    box_w, box_h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()  # B tries
    fits = (box_w >= 1) & (box_w <= width) & (box_h >= 1) & (box_h <= height)  # B tries
    first = fits.int().argmax(1, keepdim=True)  # B 1
    none = ~fits.any(1)  # B
    box_w = box_w.gather(1, first)[:, 0].masked_fill(none, min(width, round(height * ratio[1])))  # B
    box_h = box_h.gather(1, first)[:, 0].masked_fill(none, min(height, round(width / ratio[0])))  # B
    position = rng.uniform("crop position", 2)  # B 2
    top = torch.where(none, ((height - box_h) / 2).floor(), (position[:, 0] * (height - box_h + 1)).floor())  # B
    left = torch.where(none, ((width - box_w) / 2).floor(), (position[:, 1] * (width - box_w + 1)).floor())  # B
    # A product just below an integer may round up to it; the box must stay inside.
    return torch.stack([top.minimum(height - box_h), left.minimum(width - box_w), box_h, box_w], dim=1)  # B 4


def random_resized_crop(
    images: Tensor,
    rng: SampleRNG,
    size: int,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip_prob: float = 0.5,
) -> Tensor:
    """Crop a random box of each image (``random_boxes``) and flip it with probability ``flip_prob``: B C size size."""
    boxes = random_boxes(rng, images.shape[2], images.shape[3], scale, ratio)  # B 4
    return crop_resize(images, boxes, size, rng.bernoulli("flip", flip_prob) if flip_prob else None)


def center_crop_resize(images: Tensor, size: int) -> Tensor:
    """Resize the central square of each image, antialiased: B C size size, float32 in [0, 1]; nothing is random."""
    square = min(images.shape[2:])
    top, left = (images.shape[2] - square) // 2, (images.shape[3] - square) // 2
    square_images = to_float01(images[:, :, top : top + square, left : left + square])  # B C square square
    if square == size:
        return square_images
    return F.interpolate(square_images, (size, size), mode="bilinear", antialias=True).clamp_(0, 1)


def hflip(images: Tensor, selected: Tensor) -> Tensor:
    """Flip the selected images (B, bool) horizontally: B C H W of any type."""
    return apply_to_selected(images, selected, lambda images: images.flip(3))


def rotate90(images: Tensor, num_turns: Tensor) -> Tensor:
    """Rotate each image counterclockwise by a multiple of 90 degrees.

    Args:
        images: B C S S of any type.
        num_turns: B, int64 in 0..3: multiples of 90 degrees.

    Raises:
        ValueError: The images are not square.
    """
    if images.shape[2] != images.shape[3]:
        raise ValueError(f"rotation needs square images, got {images.shape[2]} x {images.shape[3]}: crop first")
    for turns in (1, 2):  # 3 is 1 + 2
        selected = num_turns.bitwise_and(turns) > 0  # B
        images = apply_to_selected(images, selected, lambda images, k=turns: images.rot90(k, (2, 3)))
    return images
