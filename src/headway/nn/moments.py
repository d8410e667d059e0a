"""Second moments of projections over the batch of all processes, differentiable."""

from torch import Tensor

from headway.distributed import all_counts, all_mean, all_sum
from headway.nn.numerics import full_precision, wide


@full_precision
def centred(x: Tensor) -> Tensor:
    """Take the mean over the rows of all processes away: B D -> B D, float32 or wider."""
    return wide(x) - all_mean(wide(x))


@full_precision
def cross_covariance(x: Tensor, y: Tensor, spare: int = 0) -> Tensor:
    """sum_b x_b y_b^T / (pictures - spare) over all processes: B D and B E -> D E.

    Args:
        x: B D, centred.
        y: B E, centred, of the same pictures.
        spare: 1 for the unbiased estimate, which needs two pictures.
    """
    return all_sum(x.T @ y) / (sum(all_counts(len(x), x.device)) - spare)
