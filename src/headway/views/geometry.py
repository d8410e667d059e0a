"""Where a picture is looked at: crops, mirrors, quarter turns.

Random resized crop: Szegedy et al., "Going deeper with convolutions", 2015 (https://arxiv.org/abs/1409.4842).
Boxes are B 4: top, left, height, width in pixels.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from headway.draws import Draws
from headway.views.pixels import in_parts, on_chosen, to_unit
from headway.views.resample import resize_taps, separable


def crop_resize(images: Tensor, boxes: Tensor, side: int, flip: Tensor | None = None) -> Tensor:
    """Cut a box of its own from each picture and resize it, bilinearly, antialiased when it shrinks.

    Args:
        images: B C H W, uint8 or floating point in [0, 1].
        boxes: B 4, pixels, fractions allowed; within the picture, height and width more than 0.
        side: Of the square result, in pixels.
        flip: B, bool: which results are mirrored left to right.

    Returns:
        B C side side, float32 in [0, 1]; within 2/255 of torchvision's ``resized_crop`` with the same box.
    """

    def cut(pictures: Tensor, box: Tensor, mirror: Tensor | None = None) -> Tensor:
        top, left, tall, wide = box.float().unbind(1)  # B each
        rows = resize_taps(top, tall, pictures.shape[2], side)
        columns = resize_taps(left, wide, pictures.shape[3], side, mirror)
        return separable(to_unit(pictures), rows, columns).clamp_(0, 1)  # rounding may step over 1 by a hair

    return in_parts(cut, images, boxes, *([] if flip is None else [flip]))


def random_boxes(
    draws: Draws,
    height: int,
    width: int,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    tries: int = 10,
) -> Tensor:
    """Boxes of random area, shape and place, as torchvision's ``RandomResizedCrop`` draws them.

    All tries are drawn at once and the first that fits is taken; where none fits, the largest central box of an allowed
    shape.

    Args:
        draws: Chance, per picture.
        height: Of the pictures, in pixels.
        width: Of the pictures, in pixels.
        scale: Area of the box as a share of the picture's, uniform in this range.
        ratio: Width / height, log-uniform in this range.
        tries: How often to try.

    Returns:
        B 4, float32 of whole numbers.
    """
    area = height * width * draws.uniform(tries, low=scale[0], high=scale[1])  # B tries
    shape = torch.exp(draws.uniform(tries, low=math.log(ratio[0]), high=math.log(ratio[1])))  # B tries
    wide, tall = (area * shape).sqrt().round(), (area / shape).sqrt().round()  # B tries
    fits = (wide >= 1) & (wide <= width) & (tall >= 1) & (tall <= height)  # B tries
    first = fits.int().argmax(1, keepdim=True)  # B 1
    none = ~fits.any(1)  # B
    wide = wide.gather(1, first)[:, 0].masked_fill(none, min(width, round(height * ratio[1])))  # B
    tall = tall.gather(1, first)[:, 0].masked_fill(none, min(height, round(width / ratio[0])))  # B
    place = draws.uniform(2)  # B 2
    top = torch.where(none, ((height - tall) / 2).floor(), (place[:, 0] * (height - tall + 1)).floor())  # B
    left = torch.where(none, ((width - wide) / 2).floor(), (place[:, 1] * (width - wide + 1)).floor())  # B
    # A product just below a whole number may round up to it: the box stays inside.
    return torch.stack([top.minimum(height - tall), left.minimum(width - wide), tall, wide], dim=1)  # B 4


def random_resized_crop(
    images: Tensor,
    draws: Draws,
    side: int,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> Tensor:
    """B C side side: a random box of each picture, mirrored with probability ``flip``. See ``random_boxes``."""
    boxes = random_boxes(draws, images.shape[2], images.shape[3], scale, ratio)  # B 4
    return crop_resize(images, boxes, side, draws.chance(flip) if flip else None)


def centre_resize(images: Tensor, side: int) -> Tensor:
    """B C side side, float32 in [0, 1]: the central square of each picture, resized and antialiased, without chance."""
    square = min(images.shape[2:])
    top, left = (images.shape[2] - square) // 2, (images.shape[3] - square) // 2
    square_images = to_unit(images[:, :, top : top + square, left : left + square])  # B C square square
    if square == side:
        return square_images
    return F.interpolate(square_images, (side, side), mode="bilinear", antialias=True).clamp_(0, 1)


def flip(images: Tensor, which: Tensor) -> Tensor:
    """B C H W of any type: the chosen pictures (B, bool) mirrored left to right."""
    return on_chosen(images, which, lambda chosen: chosen.flip(3))


def quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Turn each picture counter-clockwise, exactly.

    Args:
        images: B C S S of any type.
        turns: B, int64 in 0..3, quarter turns.

    Raises:
        ValueError: If the pictures are not square.
    """
    if images.shape[2] != images.shape[3]:
        raise ValueError(f"quarter turns need square pictures, got {images.shape[2]} x {images.shape[3]}: crop first")
    for bit, turn in ((1, 1), (2, 2)):  # 3 is one quarter and two more
        images = on_chosen(images, turns.bitwise_and(bit) > 0, lambda chosen, k=turn: chosen.rot90(k, (2, 3)))
    return images
