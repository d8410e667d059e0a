"""How a picture is coloured: brightness, contrast, saturation, hue, grey, solarised. All of it on [0, 1].

Each operation takes one parameter a picture and equals torchvision's functional of the same parameter to within 2/255.
Saturation, hue and grey mean something for three channels only; pictures of other channels pass them unchanged.
"""

import torch
from torch import Tensor

from headway.draws import Draws
from headway.views.pixels import each, on_chosen

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in lightness (ITU-R BT.601), with the digits that torchvision uses."""


def lightness(images: Tensor) -> Tensor:
    """B H W: the weighted mean of red, green and blue; for other channels than three their plain mean."""
    if images.shape[1] != 3:
        return images.mean(1)
    red, green, blue = images.unbind(1)
    return (red * LUMA[0]).add_(green * LUMA[1]).add_(blue * LUMA[2])


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Scale each picture by its factor (B, 0 or more): 0 is black, 1 leaves it."""
    return (images * each(factor)).clamp_(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch each picture about its mean lightness (B, 0 or more): 0 is flat, 1 leaves it."""
    # Two steps: summing a picture in one goes in another order where it is alone in its batch.
    mean = lightness(images).mean(2).mean(1)  # B
    return (images * each(factor)).add_(each((1 - factor) * mean)).clamp_(0, 1)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch colours about the lightness of each pixel (B, 0 or more): 0 is grey, 1 leaves it."""
    if images.shape[1] != 3:
        return images
    grey_part = lightness(images).mul_(1 - factor[:, None, None])  # B H W
    return (images * each(factor)).add_(grey_part[:, None]).clamp_(0, 1)


def hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the colour wheel of each picture by ``shift`` (B, whole turns, in [-0.5, 0.5]).

    The hexagonal wheel of Smith, "Color gamut transform pairs", 1978 (https://doi.org/10.1145/800248.807361), there and
    back at once and without branches. With v = max(r, g, b), m = min(r, g, b) and chroma c = v - m, the hue in turns is
    t = sign(g - b) ((v - r) + (g - m) + (b - m)) / 6c; a channel whose own hue is o then shines with
    v - c clamp(2 - 6 |t - o - 1/2|, 0, 1), the distance taken round the wheel.
    """
    if images.shape[1] != 3:
        return images
    red, green, blue = images.unbind(1)  # B H W each
    value = torch.maximum(torch.maximum(red, green), blue)
    least = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - least
    sixths = (value - red).add_(green - least).add_(blue - least)  # times chroma, in [0, 3]
    turn = torch.copysign(sixths, green - blue).div_((6 * chroma).clamp_(min=1e-8)).add_(shift[:, None, None])  # B H W
    least_at = torch.arange(3, device=images.device) / 3 + 0.5  # the hues o + 1/2, where r, g and b are least
    distance = turn[:, None] - least_at[:, None, None]  # B 3 H W
    distance = distance.sub_(distance.round()).abs_()
    return distance.mul_(6).sub_(2).clamp_(-1, 0).mul_(chroma[:, None]).add_(value[:, None])


def jitter(
    images: Tensor,
    draws: Draws,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
    probability: float = 1.0,
) -> Tensor:
    """Colour jitter: the four operations, each with a random factor per picture, in random order.

    The order is drawn once a call from ``draws.step``, the same on every process and in every micro-batch; everything
    else per picture. Howard, "Some improvements on deep convolutional neural network based image classification", 2013
    (https://arxiv.org/abs/1312.5402).

    Args:
        images: B C H W, floating point in [0, 1].
        draws: Chance, per picture.
        brightness: Factors are uniform in [max(0, 1 - brightness), 1 + brightness].
        contrast: Likewise.
        saturation: Likewise.
        hue: Shifts are uniform in [-hue, hue] turns; at most 0.5.
        probability: Of each picture to be changed at all.
    """
    chosen = draws.chance(probability)  # B
    reach = (brightness, contrast, saturation, hue)
    factors = [draws.uniform(low=max(0.0, 1 - amount), high=1 + amount) for amount in reach[:3]]  # B each
    factors.append(draws.uniform(low=-hue, high=hue))  # B
    order = [i for i in draws.step.sample(range(4), 4) if reach[i] > 0]

    def change(pictures: Tensor, *parameters: Tensor) -> Tensor:
        for i in order:
            pictures = OPERATIONS[i](pictures, parameters[i])
        return pictures

    return on_chosen(images, chosen, change, *factors)


OPERATIONS = (brightness, contrast, saturation, hue)
"""What ``jitter`` shuffles."""


def grey(images: Tensor, which: Tensor) -> Tensor:
    """The chosen pictures (B, bool) without colour: all three channels become the lightness."""
    if images.shape[1] != 3:
        return images
    return on_chosen(images, which, lambda chosen: lightness(chosen)[:, None].expand_as(chosen))


def solarise(images: Tensor, which: Tensor, threshold: float = 0.5) -> Tensor:
    """The chosen pictures (B, bool) with every value of ``threshold`` or more inverted (x -> 1 - x)."""
    return on_chosen(images, which, lambda chosen: torch.where(chosen >= threshold, 1 - chosen, chosen))
