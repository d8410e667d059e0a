"""Gaussian blur with a width of its own for each picture."""

from torch import Tensor

from headway.views.resample import blur_taps, separable


def gaussian_blur(images: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blur each picture; its edges are mirrored.

    Args:
        images: B C H W, floating point in [0, 1].
        sigma: B, standard deviation in pixels, more than 0.
        kernel: Taps in each direction, an odd number below twice the shorter side.

    Returns:
        B C H W in [0, 1], within 2/255 of torchvision's ``gaussian_blur`` with the same kernel.

    Raises:
        ValueError: For an even kernel, or one that reaches past the mirror image.
    """
    height, width = images.shape[2:]
    return separable(images, blur_taps(sigma, height, kernel), blur_taps(sigma, width, kernel)).clamp_(0, 1)
