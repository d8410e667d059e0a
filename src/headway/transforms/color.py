"""Color transforms of images in [0, 1]: brightness, contrast, saturation, hue, grayscale, solarize.

Each operation takes one parameter per image and equals torchvision's function of the same name to within 2/255.
Saturation, hue and grayscale are defined for three channels only; they leave other images unchanged.
"""

import torch
from torch import Tensor

from headway.rng import SampleRNG
from headway.transforms.pixels import apply_to_selected, per_image

LUMA_WEIGHTS = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in grayscale (ITU-R BT.601), with the digits that torchvision uses."""


def to_grayscale(images: Tensor) -> Tensor:
    """Return B H W: the weighted mean of red, green and blue, or the mean of all channels unless there are three."""
    if images.shape[1] != 3:
        return images.mean(1)
    red, green, blue = images.unbind(1)
    return (red * LUMA_WEIGHTS[0]).add_(green * LUMA_WEIGHTS[1]).add_(blue * LUMA_WEIGHTS[2])


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply each image by its factor (B, 0 or more): 0 gives black, 1 changes nothing."""
    return (images * per_image(factor)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Scale each image's differences from its mean gray (B, 0 or more): 0 gives one gray, 1 changes nothing."""
    # Two steps, since the order of a single sum over an image depends on the batch size.
    mean = to_grayscale(images).mean(2).mean(1)  # B
    return (images * per_image(factor)).add_(per_image((1 - factor) * mean)).clamp_(0, 1)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Scale colors' differences from the gray of their pixel (B, 0 or more): 0 gives grayscale, 1 changes nothing."""
    if images.shape[1] != 3:
        return images
    gray_part = to_grayscale(images).mul_(1 - factor[:, None, None])  # B H W
    return (images * per_image(factor)).add_(gray_part[:, None]).clamp_(0, 1)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue of each image by ``shift`` (B, fractions of the color wheel, in [-0.5, 0.5]).

    The hexagonal color wheel of Smith, "Color gamut transform pairs", 1978 (https://doi.org/10.1145/800248.807361),
    converted there and back in one step and without branches. With v = max(r, g, b), m = min(r, g, b) and chroma
    c = v - m, the hue as a fraction of the wheel is t = sign(g - b) ((v - r) + (g - m) + (b - m)) / 6c. A channel of
    hue o has the value v - c clamp(2 - 6 |t - o - 1/2|, 0, 1), with the distance measured around the wheel.
    """
    if images.shape[1] != 3:
        return images
    red, green, blue = images.unbind(1)  # B H W each
    value = torch.maximum(torch.maximum(red, green), blue)
    minimum = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - minimum
    sixths = (value - red).add_(green - minimum).add_(blue - minimum)  # times chroma, in [0, 3]
    hue = torch.copysign(sixths, green - blue).div_((6 * chroma).clamp_(min=1e-8)).add_(shift[:, None, None])  # B H W
    minimum_hue = torch.arange(3, device=images.device) / 3 + 0.5  # the hues o + 1/2, where r, g and b are minimal
    distance = hue[:, None] - minimum_hue[:, None, None]  # B 3 H W
    distance = distance.sub_(distance.round()).abs_()
    return distance.mul_(6).sub_(2).clamp_(-1, 0).mul_(chroma[:, None]).add_(value[:, None])


def color_jitter(
    images: Tensor,
    rng: SampleRNG,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
    probability: float = 1.0,
) -> Tensor:
    """Apply color jitter: the four operations in random order, each with a random parameter per image.

    The order is drawn once per step, the same on every process and in every micro-batch;
    everything else is drawn per image. Howard, "Some improvements on deep convolutional neural network based image
    classification", 2013 (https://arxiv.org/abs/1312.5402).

    Args:
        images: B C H W, floating point in [0, 1].
        rng: Random numbers of each image.
        brightness: Factors are uniform in [max(0, 1 - brightness), 1 + brightness].
        contrast: Likewise.
        saturation: Likewise.
        hue: Shifts are uniform in [-hue, hue]; at most 0.5.
        probability: Probability that an image is changed at all.
    """
    selected = rng.bernoulli("jitter", probability)  # B
    strengths = (brightness, contrast, saturation, hue)
    names = ("brightness", "contrast", "saturation")
    factors = [  # B each
        rng.uniform(name, low=max(0.0, 1 - strength), high=1 + strength)
        for name, strength in zip(names, strengths[:3], strict=True)
    ]
    factors.append(rng.uniform("hue", low=-hue, high=hue))  # B
    order = [i for i in rng.for_step("jitter order").sample(range(4), 4) if strengths[i] > 0]

    def jitter(images: Tensor, *parameters: Tensor) -> Tensor:
        for i in order:
            images = JITTER_OPERATIONS[i](images, parameters[i])
        return images

    return apply_to_selected(images, selected, jitter, *factors)


JITTER_OPERATIONS = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
"""The operations that ``color_jitter`` applies in random order."""


def grayscale(images: Tensor, selected: Tensor) -> Tensor:
    """Convert the selected images (B, bool) to grayscale, with three equal channels."""
    if images.shape[1] != 3:
        return images
    return apply_to_selected(images, selected, lambda images: to_grayscale(images)[:, None].expand_as(images))


def solarize(images: Tensor, selected: Tensor, threshold: float = 0.5) -> Tensor:
    """Invert (x -> 1 - x) all values of ``threshold`` or more in the selected images (B, bool)."""
    return apply_to_selected(images, selected, lambda images: torch.where(images >= threshold, 1 - images, images))
