"""k-means clusters of images by the features of the same methods that a comparison has, scored by their classes."""

from torch import Tensor

from headway.backbones.extract import extract_features
from headway.data.dataset.subset import Images
from headway.evaluation.methods import PRETRAINED, RAW_PIXELS, UNTRAINED, RawPixels, reinitialize
from headway.metrics.clustering import ClusteringScores, clustering_scores, kmeans
from headway.protocol import Backbone
from headway.utils.progress import Progress


def cluster_images(
    backbone: Backbone, images: Images, labels: Tensor, *, repeats: int, seed: int, progress: Progress
) -> dict[str, list[ClusteringScores]]:
    """Cluster raw pixels, untrained and pretrained features into as many clusters as there are classes.

    Args:
        backbone: The pretrained backbone.
        images: N C S S, as a prediction sees them.
        labels: N, int64; k-means does not see them.
        repeats: Repetitions, each with other initial centers (and another untrained network).
        seed: Of the first repetition.
        progress: Called with the number of finished repetitions and of all of them.

    Returns:
        The scores of each repetition, by the name of the features.
    """
    num_clusters = len(labels.unique())
    networks = {
        RAW_PIXELS: lambda i: RawPixels(images.shape[1]),
        UNTRAINED: lambda i: reinitialize(backbone, i),
        PRETRAINED: lambda i: backbone,
    }
    scores: dict[str, list[ClusteringScores]] = {name: [] for name in networks}
    for number, (name, build) in enumerate(networks.items()):
        features: Tensor | None = None  # N D
        for i in range(seed, seed + repeats):
            if features is None or name == UNTRAINED:
                network = build(i)
                features = extract_features(network, images, network.image_size)
            scores[name].append(clustering_scores(kmeans(features, num_clusters, i), labels))
            progress(number * repeats + len(scores[name]), len(networks) * repeats)
    return scores
