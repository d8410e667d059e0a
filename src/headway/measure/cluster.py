"""How well do clusters that nobody named agree with classes? The contrast to learning from labels.

k-means with as many clusters as classes, on features brought to unit length; three numbers say how it agrees, and none
of them cares how clusters are numbered.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from threadpoolctl import threadpool_limits
from torch import Tensor

STARTS = 5
"""k-means is begun so many times; the tightest clusters count (no label is looked at)."""


class Agreement(NamedTuple):
    """Clusters against classes.

    Attributes:
        nmi: Normalised mutual information, I / ((H(clusters) + H(classes)) / 2), from 0 to 1.
        ari: Adjusted Rand index: 1 where they are the same, about 0 by chance.
        accuracy: Per cent of pictures in the right cluster when clusters and classes are matched one to one as well as
            can be (Kuhn, "The Hungarian method for the assignment problem", 1955,
            https://doi.org/10.1002/nav.3800020109).
    """

    nmi: float
    ari: float
    accuracy: float


def kmeans(features: Tensor, clusters: int, seed: int = 0) -> Tensor:
    """The cluster of each picture: N D -> N, int64 in 0..clusters-1.

    Args:
        features: N D, of any length (they are normalised here, so that only directions count).
        clusters: How many, at most N.
        seed: Of the starts.

    Raises:
        ValueError: More clusters than pictures.
    """
    if not 1 <= clusters <= len(features):
        raise ValueError(f"{len(features)} pictures cannot make {clusters} clusters")
    directions = F.normalize(features.float(), dim=1).numpy()  # N D
    with threadpool_limits(torch.get_num_threads()):
        found = KMeans(clusters, n_init=STARTS, random_state=seed % 2**32).fit(directions)
    return torch.from_numpy(found.labels_.astype(np.int64))


def agreement(clusters: Tensor, labels: Tensor) -> Agreement:
    """Compare clusters with classes; both N, int64."""
    found, truth = clusters.numpy(), labels.numpy()
    return Agreement(
        float(normalized_mutual_info_score(truth, found)),
        float(adjusted_rand_score(truth, found)),
        matched_accuracy(clusters, labels),
    )


def matched_accuracy(clusters: Tensor, labels: Tensor) -> float:
    """Per cent right under the best matching of clusters to classes, one to one; those left over are wrong."""
    table = contingency_matrix(labels.numpy(), clusters.numpy())  # classes x clusters
    return 100.0 * float(table[linear_sum_assignment(table, maximize=True)].sum()) / len(labels)
