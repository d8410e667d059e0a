"""Sinkhorn-Knopp: assignments of images to prototypes in which every prototype gets an equal share of the images.

    Q = diag(u) exp(S / t) diag(v)       with rows that sum to 1 and columns that sum to (images / prototypes)

Q is found by scaling columns and rows in turn. Scores that all favor one prototype are thereby separated. So the
assignments cannot collapse to one prototype, as those of a plain softmax can.

Cuturi, "Sinkhorn distances", 2013 (https://arxiv.org/abs/1306.0895); as targets of a pretext task in Caron et al.,
"Unsupervised learning of visual features by contrasting cluster assignments" (SwAV), 2020
(https://arxiv.org/abs/2006.09882).
"""

import torch
from torch import Tensor

from headway.distributed import all_gather_rows
from headway.nn.numerics import at_least_fp32, no_autocast


@torch.no_grad()
@no_autocast
def sinkhorn(scores: Tensor, temperature: float = 0.05, num_iterations: int = 3) -> Tensor:
    """Balanced assignments of the rows of all processes.

    Args:
        scores: B K, this process's images (or tokens) by prototypes. B may differ between processes and may be 0.
        temperature: t > 0. The lower it is, the harder is the assignment.
        num_iterations: Rounds of scaling columns, then rows; 0 gives the plain softmax.

    Returns:
        B K, float32 or wider, without gradient. Rows sum to 1; columns over all processes sum to about
        (rows of all processes) / K.
    """
    # In logarithms no score overflows, and no prototype's sum is too small to divide by.
    log_q = at_least_fp32(scores) / temperature  # B K
    for _ in range(num_iterations):
        column_sums, _ = all_gather_rows(log_q.logsumexp(0, keepdim=True))  # processes K
        log_q = (log_q - column_sums.logsumexp(0)).log_softmax(1)  # B K
    return log_q.softmax(1)
