"""Means and covariances of projections over the batch of all processes, differentiable."""

from torch import Tensor

from headway.distributed import all_gather_int, all_mean, all_sum
from headway.nn.numerics import at_least_fp32, no_autocast


@no_autocast
def center_batch(x: Tensor) -> Tensor:
    """Subtract the mean over the rows of all processes: B D -> B D, float32 or wider."""
    return at_least_fp32(x) - all_mean(at_least_fp32(x))


@no_autocast
def cross_covariance(x: Tensor, y: Tensor, correction: int = 0) -> Tensor:
    """sum_b x_b y_b^T / (images - correction) over all processes: B D and B E -> D E.

    Args:
        x: B D, centered.
        y: B E, centered, of the same images.
        correction: 1 for the unbiased estimate, which needs two images.
    """
    return all_sum(x.T @ y) / (sum(all_gather_int(len(x), x.device)) - correction)
