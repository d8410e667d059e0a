"""What always travels together to a training on labels: the images, their labels, and how the network sees them."""

from dataclasses import dataclass, replace

from torch import Tensor

from headway.data.dataset.subset import Images, subset


@dataclass(frozen=True)
class LabeledImages:
    """Images to learn from, with their labels."""

    images: Images
    """N C H W, as stored."""
    labels: Tensor
    """N, int64 in 0..K-1; or N K of 0 and 1, where an image may have several labels."""
    class_names: tuple[str, ...]
    """K names."""
    size: int
    """Side in pixels of the square view that the backbone sees."""
    groups: Tensor | None = None
    """N, int64: no fold separates images of equal group; None: every image is a group of its own."""

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several labels."""
        return self.labels.dim() == 2

    def subset(self, indices: Tensor) -> "LabeledImages":
        """Some of the images; their pixels are not copied."""
        return replace(
            self, images=subset(self.images, indices), labels=self.labels[indices], groups=self.groups_of(indices)
        )

    def groups_of(self, indices: Tensor | slice) -> Tensor | None:
        """The groups of some of the images; None where there are none."""
        return None if self.groups is None else self.groups[indices]
