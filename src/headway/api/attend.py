"""``attend``: attention maps of a vision transformer, and the importance of each attention head."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from headway.api.result import OPTIONAL, Result
from headway.utils.notes import note_skipped
from headway.utils.progress import ProgressCallback, stage_progress

if TYPE_CHECKING:
    from headway.data.sources.base import DataLike


@dataclass(frozen=True, repr=False)
class AttendResult(Result):
    """Attention in all layers."""

    out: str
    """The page or folder."""
    model: str
    """The model."""
    images: int
    """Images that are shown."""
    layers: int
    """Layers of the network."""
    attention_heads: int
    """Attention heads of a layer."""
    distance: list[list[float]]
    """Attention distance in pixels, layers by attention heads."""
    entropy: list[list[float]]
    """Entropy in bits, layers by attention heads."""
    accuracy: float | None = field(default=None, metadata=OPTIONAL)
    """With labeled images: in percent, with all attention heads."""
    held_out: int | None = field(default=None, metadata=OPTIONAL)
    """With labeled images: held-out images."""
    importance: list[list[float]] | None = field(default=None, metadata=OPTIONAL)
    """With labeled images: points of accuracy lost without an attention head, layers by attention heads."""


@dataclass(frozen=True, repr=False)
class AttendStepsResult(Result):
    """The steps of one attention layer, as ``explain`` shows them."""

    out: str
    """The page."""
    model: str
    """The network."""
    image: str
    """The image."""
    layer: int
    """The layer, counted from 1."""
    attention_head: int
    """The attention head that is shown, counted from 1."""
    token: str
    """The patch whose attention is shown."""


def attend(
    model: str,
    images: tuple[str, ...],
    *,
    out: str | Path,
    query_patch: str | None = None,
    size: int = 0,
    explain: bool = False,
    layer: int | None = None,
    data: DataLike | None = None,
    test: DataLike | None = None,
    labels: str | Path | None = None,
    group_by: str = "",
    seed: int = 0,
    pretrained: bool = True,
    progress: ProgressCallback | None = None,
) -> AttendResult | AttendStepsResult:
    """Show what a vision transformer attends to, image by image and attention head by attention head.

    Example: headway attend runs/photos cat.jpg dog.jpg --out attention.html

    Example: headway attend models/photos cat.jpg --data labeled --out attention.html

    Example: headway attend runs/photos cat.jpg --explain --out steps.html

    Args:
        model: A run folder, a classifier that ``headway transfer`` made, or timm:NAME.
        images: Images to show.
        out: A self-contained page (.html), or a folder of PNG files; it must not exist.
        query_patch: ROW,COLUMN, counted from 1, of the patch whose attention is shown first; none: the class token, or
            the mean over all patches where there is none.
        size: Side in pixels of the square view (a larger one has more patches); 0: the network's own.
        explain: Instead, show every step of one attention layer on one image, with its numbers.
        layer: With --explain, the layer, counted from 1; none: the middle one.
        data: Labeled images; where given, each attention head is ablated in turn, and the loss of accuracy is measured
            on held-out images: of the classifier, or of k-NN where the model is no classifier.
        test: Held-out images; none: the fifth of the labeled images that ``transfer`` holds out with the same data,
            labels, group_by and seed (of a classifier it is checked that it is the same fifth).
        labels: A CSV with file,label that labels the images of ``data`` by name.
        group_by: Keeps images of one animal, patient or camera on one side of the split: a column of the table, or a
            regular expression on names, whose first parentheses are the group.
        seed: Seed of that split.
        pretrained: Fetch timm's weights for timm:NAME; without, its weights are random.
        progress: Called with the progress of each stage; none: silent.
    """
    from headway.attention_viz.report import AttendRequest, write_attention, write_explanation
    from headway.errors import HeadwayError
    from headway.utils.files import refuse_existing

    file = refuse_existing(Path(out))
    if explain and file.suffix != ".html":
        raise HeadwayError("output-format", f"--explain writes a page: end --out '{out}' in .html")
    if file.suffix not in (".html", ""):
        raise HeadwayError("output-format", f"--out '{out}' is neither a page (.html) nor a folder")
    if layer is not None and not explain:
        raise HeadwayError("options-conflict", "--layer goes with --explain; without it all layers are shown")
    if explain and data is not None:
        raise HeadwayError(
            "options-conflict", "--explain and --data exclude one another: --explain shows the steps of one layer"
        )
    if test is not None and data is None:
        raise HeadwayError("options-conflict", "--test goes with --data, the labeled images")
    paths = [images] if isinstance(images, (str, Path)) else list(images)
    request = AttendRequest.load(str(model), paths, size, pretrained, query_patch)
    if explain:
        return AttendStepsResult(**write_explanation(request, layer, file))
    held_out = importance = None
    if data is not None:
        held_out = request.held_out(data, test, seed, stage_progress(progress, "decoding"), labels, group_by)
        note_skipped(held_out.skipped)
        importance = request.importance(held_out, stage_progress(progress, "ablating attention heads"))
    return AttendResult(**write_attention(request, held_out, importance, file))
