"""Augmentations of joint-embedding tasks: crop, flip, color jitter, grayscale, blur, solarize, in this order.

SimCLR: Chen et al., "A simple framework for contrastive learning of visual representations", 2020
(https://arxiv.org/abs/2002.05709). BYOL: Grill et al., "Bootstrap your own latent", 2020 (https://arxiv.org/abs/2006.07733).
"""

from dataclasses import dataclass, replace

from torch import Tensor

from headway.errors import HeadwayError
from headway.rng import SampleRNG
from headway.transforms.color import color_jitter, grayscale, solarize
from headway.transforms.geometry import random_resized_crop
from headway.transforms.pixels import apply_to_selected
from headway.transforms.resample import gaussian_blur


@dataclass(frozen=True)
class Augment:
    """Parameters of one kind of view. Calling it with images, an RNG and a size makes the view."""

    scale: tuple[float, float] = (0.08, 1.0)
    """Range of the crop's area as a fraction of the image's."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Range of the crop's width / height."""
    flip_prob: float = 0.5
    """Probability of a horizontal flip."""
    jitter_prob: float = 0.8
    """Probability of color jitter."""
    brightness: float = 0.8
    """Brightness is multiplied by up to 1 +- this."""
    contrast: float = 0.8
    """Contrast is multiplied by up to 1 +- this."""
    saturation: float = 0.8
    """Saturation is multiplied by up to 1 +- this."""
    hue: float = 0.2
    """Hue is shifted by up to +- this, as a fraction of the color wheel; at most 0.5."""
    grayscale_prob: float = 0.2
    """Probability of conversion to grayscale."""
    blur_prob: float = 0.5
    """Probability of Gaussian blur."""
    sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's standard deviation in pixels; the kernel is a tenth of the view."""
    solarize_prob: float = 0.0
    """Probability of solarization, which inverts values of 0.5 or more."""

    def __post_init__(self) -> None:
        for name in ("flip_prob", "jitter_prob", "grayscale_prob", "blur_prob", "solarize_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise HeadwayError(
                    "value-out-of-range", f"augment {name} is a probability in [0, 1], got {getattr(self, name)}"
                )
        for name in ("brightness", "contrast", "saturation", "hue"):
            upper = 0.5 if name == "hue" else float("inf")
            if not 0 <= getattr(self, name) <= upper:
                raise HeadwayError(
                    "value-out-of-range", f"augment {name} must be between 0 and {upper}, got {getattr(self, name)}"
                )
        for name, upper in (("scale", 1.0), ("ratio", float("inf")), ("sigma", float("inf"))):
            low, high = getattr(self, name)
            if not 0 < low <= high <= upper:
                raise HeadwayError(
                    "value-out-of-range", f"augment {name} needs 0 < low <= high <= {upper}, got {low}, {high}"
                )

    def __call__(self, images: Tensor, rng: SampleRNG, size: int) -> Tensor:
        """Make one view of each image.

        Args:
            images: B C H W, uint8 or floating point in [0, 1].
            rng: Random numbers of each image; fold in a name for every further view.
            size: Side of the square view in pixels.

        Returns:
            B C size size, float32 in [0, 1].
        """
        view = random_resized_crop(images, rng, size, self.scale, self.ratio, self.flip_prob)
        if self.jitter_prob:
            strengths = (self.brightness, self.contrast, self.saturation, self.hue)
            view = color_jitter(view, rng, *strengths, probability=self.jitter_prob)
        if self.grayscale_prob:
            view = grayscale(view, rng.bernoulli("grayscale", self.grayscale_prob))
        kernel = 2 * (size // 20) + 1  # an odd number near a tenth of the size
        if self.blur_prob and kernel > 1:
            selected = rng.bernoulli("blur", self.blur_prob)  # B
            sigma = rng.uniform("blur sigma", low=self.sigma[0], high=self.sigma[1])  # B
            view = apply_to_selected(view, selected, lambda images, sigma: gaussian_blur(images, sigma, kernel), sigma)
        if self.solarize_prob:
            view = solarize(view, rng.bernoulli("solarize", self.solarize_prob))
        return view


def simclr_augment(size: int, strength: float | None = None) -> Augment:
    """Return SimCLR's augmentation, with strong color jitter.

    Up to 32 pixels the jitter is half as strong and there is no blur, as in the paper on CIFAR-10 (B.9).

    Args:
        size: Side of the view in pixels.
        strength: Factor on the color jitter (the paper's s); None means 0.5 up to 32 pixels and 1 above.
    """
    small = size <= 32
    s = strength if strength is not None else (0.5 if small else 1.0)
    jitter = 0.8 * s
    return Augment(brightness=jitter, contrast=jitter, saturation=jitter, hue=0.2 * s, blur_prob=0.0 if small else 0.5)


def simsiam_augment(size: int) -> Augment:
    """Return SimSiam's augmentation: larger crops and weaker jitter than SimCLR's; no blur up to 32 pixels."""
    blur = 0.0 if size <= 32 else 0.5
    return Augment(scale=(0.2, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur_prob=blur)


def byol_augments(size: int) -> tuple[Augment, Augment]:
    """Return BYOL's two augmentations (its table 6): one always blurs; the other blurs rarely and sometimes solarizes.

    Up to 32 pixels neither blurs, since a blur there removes the object, not only its texture.
    """
    base = Augment(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    small = size <= 32
    second = replace(base, blur_prob=0.0 if small else 0.1, solarize_prob=0.2)
    return replace(base, blur_prob=0.0 if small else 1.0), second
