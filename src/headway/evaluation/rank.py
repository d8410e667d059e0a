"""The images and the probes of ``headway rank``."""

from collections.abc import Sequence
from typing import Any

from headway.backbones.input_size import STORAGE_SCALE, storage_side
from headway.data.dataset.image_store import ImageStore, build_store, median_short_side
from headway.data.dataset.subset import evenly_spaced_indices
from headway.data.decoding.pixel_format import PixelFormat, pixel_format_of
from headway.data.open import open_source, open_test_source
from headway.data.sources.base import DataLike, Source
from headway.downstream.heads.registry import HEADS
from headway.downstream.labeled_split import LabeledSplit, load_labeled_split
from headway.downstream.transfer import train_classifier
from headway.errors import HeadwayError
from headway.evaluation.label_free import MAX_IMAGES
from headway.metrics.intervals import accuracy, accuracy_interval
from headway.utils.notes import note_skipped
from headway.utils.progress import Progress


def load_rank_images(source: Source, size: int, progress: Progress) -> ImageStore:
    """At most ``MAX_IMAGES``, evenly spaced, stored larger than the crops of this size.

    Raises:
        HeadwayError: There are fewer than ten.
    """
    side = storage_side(median_short_side(source)[0], size, STORAGE_SCALE)
    store = build_store(source, side, indices=evenly_spaced_indices(len(source), MAX_IMAGES), progress=progress)
    if len(store.images) < 10:
        raise HeadwayError(
            "too-few-images", f"{len(store.images)} images are too few for a spectrum; give about a thousand"
        )
    return store


def linear_probe_accuracies(
    backbones: Sequence[Any], labeled: DataLike, test: DataLike | None, seed: int, progress: Progress
) -> list[dict[str, float]]:
    """Accuracy of a linear probe on each backbone, with its interval over test images: accuracy, low, high."""
    accuracies, splits = [], dict[tuple[int, PixelFormat], LabeledSplit]()
    for done, backbone in enumerate(backbones, 1):
        size = backbone.image_size
        key = size, pixel_format_of(backbone.input_spec)
        if key not in splits:
            source = open_source(labeled, labeled=True, backbone=backbone)
            test_source = open_test_source(test, backbone=backbone)
            splits[key] = load_labeled_split(source, test_source, size, seed=seed)
            note_skipped(splits[key].skipped)
        split = splits[key]
        if not len(split.test_labels):
            raise HeadwayError("too-few-images", "no images are left to test on; label more, or give --test")
        classifier, _ = train_classifier(backbone, split.training_set(size), HEADS["linear"], seed=seed)
        correct = classifier.predict_proba(split.test_images).argmax(1) == split.test_labels
        low, high = accuracy_interval(correct, split.interval_groups())
        accuracies.append({"accuracy": accuracy(correct), "low": low, "high": high})
        progress(done, len(backbones))
    return accuracies
