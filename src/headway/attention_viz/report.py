"""What ``headway attend`` shows: the network and the images that were asked for, and the pages made of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from headway.attention_viz.analysis import AttentionHeadImportance, attention_head_importance, attention_statistics
from headway.attention_viz.attention_hooks import AttentionMaps, attention_layers, attention_maps, trace_attention
from headway.attention_viz.held_out import describe_predictor, load_held_out, make_correctness_fn
from headway.attention_viz.maps_html import AttentionImage, AttentionReport, attention_html
from headway.attention_viz.maps_png import write_attention_pngs
from headway.attention_viz.model import AttentionModel, load_attention_model
from headway.attention_viz.tutorial import tutorial_html
from headway.attention_viz.tutorial_parts import WorkedExample
from headway.data.dataset.decode_all import load_image
from headway.data.dataset.subset import subsample_evenly
from headway.data.decoding.decode import center_crop_resize
from headway.data.decoding.pixel_format import pixel_format_of
from headway.data.open import open_source
from headway.data.sources.base import DataLike
from headway.downstream.labeled_split import LabeledSplit
from headway.errors import HeadwayError, UnreadableImageError
from headway.reports.html import to_rgb
from headway.transforms.pixels import to_float01
from headway.utils.files import write_text
from headway.utils.progress import Progress

MAX_IMAGES = 24
"""Images shown at most."""
MAX_PROFILE_IMAGES = 128
"""Held-out images at most over which attention distance and entropy are averaged."""
DISPLAY_SIZE = 336
"""Approximate side in pixels of an image on a page."""


class AttendRequest(NamedTuple):
    """A network, and the images whose attention is shown.

    Attributes:
        model: The model as the user named it.
        network: The network.
        images: The images with their attention maps.
        views: B C S S in [0, 1], as the network sees them.
        token: Index of the query token, prefix tokens included; None: the mean over all patches.
    """

    model: str
    network: AttentionModel
    images: list[AttentionImage]
    views: Tensor
    token: int | None

    @classmethod
    def load(
        cls, model: str, paths: Sequence[Any], size: int, pretrained: bool, query_patch: str | None
    ) -> "AttendRequest":
        """Load the network and the images; arguments as for ``headway attend``."""
        network = load_attention_model(model, size, pretrained)
        named = _read_images(paths, network)
        views = to_float01(torch.stack([center_crop_resize(x, network.image_size) for _, x in named]))  # B C S S
        shown = [
            _display_image(name, image, attention_maps(network.backbone, view[None]))
            for (name, image), view in zip(named, views, strict=True)
        ]
        return cls(model, network, shown, views, _query_token(query_patch, network, shown[0].maps.grid))

    def held_out(
        self, data: DataLike, test: DataLike | None, seed: int, progress: Progress, labels: str | Path | None,
        group_by: str,
    ) -> LabeledSplit:  # fmt: skip
        """The labeled images on which attention heads are ablated; arguments as for ``headway attend``."""
        return load_held_out(self.network, data, test, seed, progress, labels=labels, group_by=group_by)

    def importance(self, held_out: LabeledSplit, progress: Progress) -> AttentionHeadImportance:
        """The loss of accuracy without each attention head."""
        correct = make_correctness_fn(self.network, held_out)
        return attention_head_importance(self.network.backbone, correct, progress, held_out.interval_groups())


def write_attention(
    request: AttendRequest, held_out: LabeledSplit | None, importance: AttentionHeadImportance | None, file: Path
) -> dict[str, Any]:
    """Write the page, or a folder of PNG files. Returns the fields of the result."""
    network, grid = request.network, request.images[0].maps.grid
    profiled = to_float01(subsample_evenly(held_out.test_images, MAX_PROFILE_IMAGES)) if held_out else request.views
    report = AttentionReport(
        title=f"Attention of {network.name}", subtitle=_network_summary(network, grid),
        prefix_names=network.prefix_names, initial_token=request.token, images=request.images,
        statistics=attention_statistics(network.backbone, profiled),
        statistics_scope=f"{len(profiled)} {'held-out ' if held_out else ''}image{'s' if len(profiled) > 1 else ''}",
        importance=importance, predictor=describe_predictor(network),
        note=f"The network sees the central square of each image at {network.image_size} x {network.image_size} "
             "pixels. Made by headway attend; the images carry no metadata of their files.",
    )  # fmt: skip
    if file.suffix == ".html":
        write_text(file, attention_html(report))
    else:
        write_attention_pngs(report, file)
    return _to_result(file, request.model, report)


def write_explanation(request: AttendRequest, layer: int | None, file: Path) -> dict[str, Any]:
    """Write the page that shows every step of one attention layer. Returns the fields of the result.

    Args:
        request: The network and one image.
        layer: The layer, counted from 1; None: the middle one.
        file: The page to write.
    """
    if len(request.images) > 1:
        raise HeadwayError("value-out-of-range", f"--explain shows the steps on one image, got {len(request.images)}")
    network, image, token = request.network, request.images[0], request.token
    num_layers, (rows, columns) = len(image.maps.weights), image.maps.grid
    if layer is not None and not 1 <= layer <= num_layers:
        raise HeadwayError(
            "value-out-of-range", f"there is no layer {layer}: this network has layers 1 to {num_layers}"
        )
    index, num_prefix = num_layers // 2 if layer is None else layer - 1, len(network.prefix_names)
    if token is None or token < num_prefix:  # a patch in the middle is easier to follow than the class token
        token = num_prefix + rows // 2 * columns + columns // 2
    attention, x, trace, output = trace_attention(network.backbone, request.views, index)
    is_rotary = network.backbone.is_rotary
    page, head = tutorial_html(WorkedExample(
        network.name, image.name, image.pixels, (rows, columns), network.backbone.patch_size, network.prefix_names,
        index, num_layers, token, attention, x[0], trace, output[0], is_rotary,
    ))  # fmt: skip
    write_text(file, page)
    row, column = divmod(token - num_prefix, columns)
    return {
        "out": str(file), "model": network.name, "image": image.name, "layer": index + 1,
        "attention_head": head + 1, "token": f"patch {row + 1},{column + 1}",
    }  # fmt: skip


def _read_images(images: Any, network: AttentionModel) -> list[tuple[str, Tensor]]:
    """Name and pixels (C H W, in the network's pixel format) of each image; HeadwayError for unreadable ones."""
    pixel_format = pixel_format_of(network.backbone.input_spec)
    found: list[tuple[str, Tensor]] = []
    for path in images:
        source = open_source(path)
        if (total := len(found) + len(source)) > MAX_IMAGES:
            raise HeadwayError(
                "value-out-of-range", f"with '{path}' there are {total} images; {MAX_IMAGES} are shown at most"
            )
        for i in range(len(source)):
            try:
                pixels = load_image(source, i, pixel_format, network.image_size).pixels
            except UnreadableImageError as error:
                raise HeadwayError("unreadable-image", f"cannot read '{source.name(i)}': {error}") from error
            found.append((Path(source.name(i)).name, pixels))
    if not found:
        raise HeadwayError("missing-argument", "no images were given; name one or more after the model")
    return found


def _display_image(name: str, image: Tensor, maps: AttentionMaps) -> AttentionImage:
    """The central square at about ``DISPLAY_SIZE`` pixels, a multiple of the number of patches."""
    side = maps.grid[0] * max(round(DISPLAY_SIZE / maps.grid[0]), 1)
    return AttentionImage(name, to_rgb(center_crop_resize(image, side)), maps)


def _network_summary(network: AttentionModel, grid: tuple[int, int]) -> str:
    layers = attention_layers(network.backbone)
    prefix = f" and the {', '.join(network.prefix_names)}" if network.prefix_names else ""
    return (
        f"{network.backbone.name}: {len(layers)} layers of {layers[0].num_heads} attention heads over "
        f"{grid[0] * grid[1]} patches of {network.backbone.patch_size} x {network.backbone.patch_size} pixels{prefix}."
    )


def _query_token(query_patch: str | None, network: AttentionModel, grid: tuple[int, int]) -> int | None:
    """Index of the query token, prefix tokens included; None: the mean over all patches."""
    if query_patch is None:
        return 0 if network.prefix_names[:1] == ("class token",) else None
    parts = query_patch.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise HeadwayError(
            "value-unreadable", f"--query-patch is ROW,COLUMN counted from 1, such as 3,5; got '{query_patch}'"
        )
    row, column = (int(part) for part in parts)
    if not (1 <= row <= grid[0] and 1 <= column <= grid[1]):
        raise HeadwayError(
            "value-out-of-range",
            f"there is no patch {row},{column}: this view has {grid[0]} rows and {grid[1]} columns",
        )
    return len(network.prefix_names) + (row - 1) * grid[1] + column - 1


def _to_result(file: Path, model: str, report: AttentionReport) -> dict[str, Any]:
    statistics, importance = report.statistics, report.importance
    result = {
        "out": str(file), "model": model, "images": len(report.images), "layers": len(statistics.distance),
        "attention_heads": len(statistics.distance[0]), "distance": _rounded(statistics.distance),
        "entropy": _rounded(statistics.entropy),
    }  # fmt: skip
    if importance:
        drops = [[interval.mean for interval in row] for row in importance.accuracy_drop]
        result |= {
            "accuracy": round(importance.accuracy, 2),
            "held_out": importance.images,
            "importance": _rounded(drops),
        }
    return result


def _rounded(rows: list[list[float]]) -> list[list[float]]:
    return [[round(value, 3) for value in row] for row in rows]
