"""Sinkhorn and Knopp: shares of pictures in prototypes, such that every prototype gets equally many pictures.

    Q = diag(u) exp(S / t) diag(v)       with rows that sum to 1 and columns that sum to (pictures / prototypes)

found by scaling columns and rows in turn. Scores that all favour one prototype are thereby told apart: the codes cannot
collapse, which a plain softmax would let them do.

Cuturi, "Sinkhorn distances", 2013 (https://arxiv.org/abs/1306.0895); as a game's targets in Caron et al., "Unsupervised
learning of visual features by contrasting cluster assignments" (SwAV), 2020 (https://arxiv.org/abs/2006.09882).
"""

import torch
from torch import Tensor

from headway.distributed import all_rows
from headway.nn.numerics import full_precision, wide


@torch.no_grad()
@full_precision
def sinkhorn(scores: Tensor, temperature: float = 0.05, iterations: int = 3) -> Tensor:
    """Balanced assignments of the rows of all processes.

    Args:
        scores: B K, this process's pictures (or tokens) by prototypes; B may differ between processes and may be 0.
        temperature: t > 0: the lower, the harder the assignment.
        iterations: Rounds of scaling columns, then rows; 0 gives the plain softmax.

    Returns:
        B K, float32 or wider, without gradient; rows sum to 1, columns over all processes to about (rows of all) / K.
    """
    # Logarithms throughout: no score is too large, and no prototype too unpopular, to be divided by its sum.
    shares = wide(scores) / temperature  # B K
    for _ in range(iterations):
        everywhere, _ = all_rows(shares.logsumexp(0, keepdim=True))  # processes K
        shares = (shares - everywhere.logsumexp(0)).log_softmax(1)  # B K
    return shares.softmax(1)
