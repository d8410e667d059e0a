"""Contrastive losses: each view must identify the other view of its image among all views of the batch.

With z of length 1, z+ its positive, negatives z- all other images of all processes and t the temperature,

    loss = - mean log  exp(z . z+ / t) / (exp(z . z+ / t) + sum exp(z . z- / t))

NT-Xent (SimCLR) draws keys and queries from one network and compares a view with all other views. InfoNCE (MoCo v3)
compares queries of a student with keys of a teacher, and multiplies the loss by 2 t.

Chen, Kornblith, Norouzi and Hinton, "A simple framework for contrastive learning of visual representations", 2020
(https://arxiv.org/abs/2002.05709); van den Oord, Li and Vinyals, "Representation learning with contrastive predictive
coding", 2018 (https://arxiv.org/abs/1807.03748); Chen, Xie and He 2021 (https://arxiv.org/abs/2104.02057).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.distributed import all_gather_rows, duplicate_mask
from headway.nn.numerics import l2_normalize, no_autocast


@no_autocast
def nt_xent(
    first: Tensor, second: Tensor, temperature: float, sample_index: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The normalized, temperature-scaled cross-entropy of SimCLR's equation 1.

    Args:
        first: B D, projections of one view of each of this process's images; not normalized.
        second: B D, those of the other view.
        temperature: t > 0.
        sample_index: B, int64: the image of each row. Views of the same image are no negatives. None: all images
            differ.

    Returns:
        The mean loss over this process's 2B views against those of all processes, and the share of views whose nearest
        view is the other view of the same image.
    """
    count = len(first)
    pairs, start = all_gather_rows(torch.cat([l2_normalize(first), l2_normalize(second)], dim=1))  # A 2*D
    gathered = torch.cat(pairs.chunk(2, dim=1))  # 2*A D, of the A images of all processes
    total = len(pairs)
    here = torch.arange(start, start + count, device=first.device)  # B
    anchors, positives = torch.cat([here, here + total]), torch.cat([here + total, here])  # 2*B each
    logits = gathered[anchors] @ gathered.T / temperature  # 2*B 2*A
    logits = logits.scatter(1, anchors[:, None], float("-inf"))  # a view is no negative of itself
    if sample_index is not None:
        logits = logits.masked_fill(duplicate_mask(sample_index).repeat(2, 2), float("-inf"))
    top1 = (logits.argmax(1) == positives).float().mean()
    return F.cross_entropy(logits, positives), top1


@no_autocast
def info_nce(
    queries: Tensor, keys: Tensor, temperature: float, sample_index: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The cross-entropy of identifying one's own key among those of all processes, times 2 t.

    Args:
        queries: B E, of this process's images; not normalized.
        keys: B E, of the same images, without gradient.
        temperature: t > 0.
        sample_index: B, int64: the image of each row. Keys of the same image are no negatives. None: all images differ.

    Returns:
        The mean loss over this process's queries, and the share of queries whose nearest key is their own.
    """
    gathered, start = all_gather_rows(l2_normalize(keys))  # A E, of the A images of all processes
    logits = l2_normalize(queries) @ gathered.T / temperature  # B A
    if sample_index is not None:
        logits = logits.masked_fill(duplicate_mask(sample_index), float("-inf"))
    own = torch.arange(start, start + len(queries), device=queries.device)  # B
    top1 = (logits.argmax(1) == own).float().mean()
    return 2 * temperature * F.cross_entropy(logits, own), top1
