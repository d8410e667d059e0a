"""How well clusters of features agree with classes, without any training on labels.

k-means makes as many clusters as there are classes, on features scaled to unit length. Three scores compare them with
the classes; none depends on how clusters are numbered.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from threadpoolctl import threadpool_limits
from torch import Tensor

from headway.utils.threads import unstalled_threads

N_INIT = 5
"""k-means starts so many times; the run with the least inertia counts (it uses no label)."""


class ClusteringScores(NamedTuple):
    """Agreement of clusters with classes.

    Attributes:
        nmi: Normalized mutual information, I / ((H(clusters) + H(classes)) / 2), from 0 to 1.
        ari: Adjusted Rand index: 1 where they are the same, about 0 by chance.
        accuracy: Per cent of images in the right cluster under the best one-to-one matching of clusters and classes
            (Kuhn, "The Hungarian method for the assignment problem", 1955, https://doi.org/10.1002/nav.3800020109).
    """

    nmi: float
    ari: float
    accuracy: float


def kmeans(features: Tensor, n_clusters: int, seed: int = 0) -> Tensor:
    """The cluster of each image: N D -> N, int64 in 0..n_clusters-1.

    Args:
        features: N D, of any length; they are normalized here, so only directions count.
        n_clusters: Number of clusters, at most N.
        seed: Of the random starts.

    Raises:
        ValueError: There are more clusters than images.
    """
    from sklearn.cluster import KMeans  # imported late: it takes a second

    if not 1 <= n_clusters <= len(features):
        raise ValueError(f"{len(features)} images cannot make {n_clusters} clusters")
    directions = F.normalize(features.float(), dim=1).numpy()  # N D
    with threadpool_limits(unstalled_threads()):
        found = KMeans(n_clusters, n_init=N_INIT, random_state=seed % 2**32).fit(directions)
    return torch.from_numpy(found.labels_.astype(np.int64))


def clustering_scores(clusters: Tensor, labels: Tensor) -> ClusteringScores:
    """Compare clusters with classes; both N, int64."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score  # imported late: it takes a second

    found, truth = clusters.numpy(), labels.numpy()
    return ClusteringScores(
        float(normalized_mutual_info_score(truth, found)),
        float(adjusted_rand_score(truth, found)),
        matched_accuracy(clusters, labels),
    )


def matched_accuracy(clusters: Tensor, labels: Tensor) -> float:
    """Per cent right under the best one-to-one matching of clusters to classes; unmatched clusters count as wrong."""
    from sklearn.metrics.cluster import contingency_matrix

    table = contingency_matrix(labels.numpy(), clusters.numpy())  # classes x clusters
    return 100.0 * float(table[linear_sum_assignment(table, maximize=True)].sum()) / len(labels)
