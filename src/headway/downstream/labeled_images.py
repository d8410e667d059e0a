"""What always travels together to a training on labels: the images, their labels, and how the network sees them."""

from dataclasses import dataclass, replace

from torch import Tensor

from headway.data.dataset.subset import Images, subset
from headway.downstream.heads.frozen import LabeledFeatures
from headway.downstream.targets import SINGLE, Target


@dataclass(frozen=True)
class LabeledImages:
    """Images to learn from, with their labels."""

    images: Images
    """N C H W, as stored to be trained on: larger than the view, where crops are cut from them."""
    labels: Tensor
    """N or N K, as ``target`` encodes them."""
    class_names: tuple[str, ...]
    """K names."""
    size: int
    """Side in pixels of the square view that the backbone sees."""
    groups: Tensor | None = None
    """N, int64: no fold separates images of equal group; None: every image is a group of its own."""
    at_view_size: Images | None = None
    """N C S S, the same images decoded to the view, as a prediction sees them; None: ``images`` are."""
    target: Target = SINGLE
    """What the labels mean."""

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def view_images(self) -> Images:
        """N C H W, the images as a prediction sees them: features and held-out folds are computed on these."""
        return self.images if self.at_view_size is None else self.at_view_size

    def with_features(self, features: Tensor) -> LabeledFeatures:
        """The features of these images (N D) with their labels."""
        return LabeledFeatures(features, self.labels, self.num_classes, self.groups, self.target)

    def subset(self, indices: Tensor) -> "LabeledImages":
        """Some of the images; their pixels are not copied."""
        return replace(
            self, images=subset(self.images, indices), labels=self.labels[indices],
            groups=None if self.groups is None else self.groups[indices],
            at_view_size=None if self.at_view_size is None else subset(self.at_view_size, indices),
        )  # fmt: skip
