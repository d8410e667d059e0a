"""Cross-entropies of self-distillation: a student predicts its teacher's assignments to K prototypes.

    cross-view   mean over images and pairs of crops x != x' of  - sum_k P_t(x)[k] log P_s(x')[k]
    token        mean over tokens p of                           - sum_k P_t(p)[k] log P_s(p)[k]

The first is the loss of DINO (https://arxiv.org/abs/2104.14294) and, with codes as targets, of SwAV
(https://arxiv.org/abs/2006.09882). iBOT (https://arxiv.org/abs/2111.07832) and DINOv2 (https://arxiv.org/abs/2304.07193)
add the second on masked patches.
"""

import math

import torch
from torch import Tensor

from headway.nn.numerics import no_autocast


def default_num_prototypes(num_images: int) -> int:
    """K for so many images: the power of two nearest to a sixteenth of them, from 64 to 65,536."""
    return int(2 ** min(max(round(math.log2(max(num_images, 1) / 16)), 6), 16))


@no_autocast
def cross_view_entropy(teacher: Tensor, student: Tensor) -> Tensor:
    """The mean of - sum_k P_t log P_s over images and over pairs of different crops.

    Args:
        teacher: 2 B K, probabilities on the global crops.
        student: V B K, log-probabilities on all crops, the global ones first and in the same order.
    """
    pairs = -torch.einsum("tbk,vbk->tv", teacher, student) / teacher.shape[1]  # 2 V
    different = ~torch.eye(*pairs.shape, dtype=torch.bool, device=pairs.device)
    return pairs[different].mean()


@no_autocast
def token_cross_entropy(teacher: Tensor, student: Tensor) -> Tensor:
    """The mean of - sum_k P_t log P_s over tokens: both M K, probabilities and log-probabilities."""
    return -(teacher * student).sum(-1).mean()
