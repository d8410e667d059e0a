"""The augmentations that joint-embedding tasks share: crop, mirror, jitter, grey, blur, solarise, in this order.

SimCLR: Chen et al., "A simple framework for contrastive learning of visual representations", 2020
(https://arxiv.org/abs/2002.05709). BYOL: Grill et al., "Bootstrap your own latent", 2020 (https://arxiv.org/abs/2006.07733).
"""

from dataclasses import dataclass, replace

from torch import Tensor

from headway.draws import Draws
from headway.errors import HeadwayError
from headway.views.blur import gaussian_blur
from headway.views.colour import grey, jitter, solarise
from headway.views.geometry import random_resized_crop
from headway.views.pixels import on_chosen


@dataclass(frozen=True)
class Augment:
    """Settings of one kind of view. Called with pictures, draws and a side, it deals the view."""

    scale: tuple[float, float] = (0.08, 1.0)
    """Area of the crop as a share of the picture's."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width / height of the crop."""
    flip: float = 0.5
    """Probability of mirroring left to right."""
    jitter: float = 0.8
    """Probability of colour jitter."""
    brightness: float = 0.8
    """Reach of the factor on brightness."""
    contrast: float = 0.8
    """Reach of the factor on contrast."""
    saturation: float = 0.8
    """Reach of the factor on saturation."""
    hue: float = 0.2
    """Reach of the turn of the colour wheel, in turns; at most 0.5."""
    grey: float = 0.2
    """Probability of losing colour."""
    blur: float = 0.5
    """Probability of Gaussian blur."""
    sigma: tuple[float, float] = (0.1, 2.0)
    """Width of the blur in pixels; its kernel is a tenth of the view."""
    solarise: float = 0.0
    """Probability of inverting the brighter half of the values."""

    def __post_init__(self) -> None:
        for name in ("flip", "jitter", "grey", "blur", "solarise"):
            if not 0 <= getattr(self, name) <= 1:
                raise HeadwayError(f"augment {name} is a probability in [0, 1], got {getattr(self, name)}")
        for name in ("brightness", "contrast", "saturation", "hue"):
            most = 0.5 if name == "hue" else float("inf")
            if not 0 <= getattr(self, name) <= most:
                raise HeadwayError(f"augment {name} must be between 0 and {most}, got {getattr(self, name)}")
        for name, most in (("scale", 1.0), ("ratio", float("inf")), ("sigma", float("inf"))):
            low, high = getattr(self, name)
            if not 0 < low <= high <= most:
                raise HeadwayError(f"augment {name} needs 0 < low <= high <= {most}, got {low}, {high}")

    def __call__(self, images: Tensor, draws: Draws, side: int) -> Tensor:
        """Deal one view of each picture.

        Args:
            images: B C H W, uint8 or floating point in [0, 1].
            draws: Chance, per picture; every call deals another view.
            side: Of the square view, in pixels.

        Returns:
            B C side side, float32 in [0, 1].
        """
        view = random_resized_crop(images, draws, side, self.scale, self.ratio, self.flip)
        if self.jitter:
            reach = (self.brightness, self.contrast, self.saturation, self.hue)
            view = jitter(view, draws, *reach, probability=self.jitter)
        if self.grey:
            view = grey(view, draws.chance(self.grey))
        kernel = 2 * (side // 20) + 1  # the odd number next to a tenth of the side
        if self.blur and kernel > 1:
            which, sigma = draws.chance(self.blur), draws.uniform(low=self.sigma[0], high=self.sigma[1])  # B each
            view = on_chosen(view, which, lambda chosen, width: gaussian_blur(chosen, width, kernel), sigma)
        if self.solarise:
            view = solarise(view, draws.chance(self.solarise))
        return view


def simclr(side: int, strength: float | None = None) -> Augment:
    """SimCLR's views: strong jitter, and up to 32 pixels half of it and no blur, as the paper does on CIFAR-10 (B.9).

    Args:
        side: Of the view, in pixels.
        strength: Factor on the jitter (the paper's s); None means 0.5 up to 32 pixels and 1 above.
    """
    small = side <= 32
    s = strength if strength is not None else (0.5 if small else 1.0)
    reach = 0.8 * s
    return Augment(brightness=reach, contrast=reach, saturation=reach, hue=0.2 * s, blur=0.0 if small else 0.5)


def simsiam(side: int) -> Augment:
    """SimSiam's views: milder crops and jitter than SimCLR's; no blur up to 32 pixels."""
    blur = 0.0 if side <= 32 else 0.5
    return Augment(scale=(0.2, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur=blur)


def byol(side: int) -> tuple[Augment, Augment]:
    """BYOL's two kinds of views (its table 6): always blurred, and seldom blurred but sometimes solarised.

    Up to 32 pixels neither is blurred: a blur there takes away the object, not the texture.
    """
    base = Augment(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    small = side <= 32
    return replace(base, blur=0.0 if small else 1.0), replace(base, blur=0.0 if small else 0.1, solarise=0.2)
