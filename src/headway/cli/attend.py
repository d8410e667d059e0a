"""``headway attend``: attention maps of a vision transformer, and the importance of each attention head."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tyro.conf import Positional

from headway.attention_viz.analysis import attention_head_importance, attention_statistics
from headway.attention_viz.attention_hooks import AttentionMaps, attention_layers, attention_maps, trace_attention
from headway.attention_viz.held_out import describe_predictor, load_held_out, make_correctness_fn
from headway.attention_viz.maps_html import AttentionImage, AttentionReport, attention_html
from headway.attention_viz.maps_png import write_attention_pngs
from headway.attention_viz.model import AttentionModel, load_attention_model
from headway.attention_viz.tutorial import tutorial_html
from headway.attention_viz.tutorial_parts import WorkedExample
from headway.cli.console import print_line, print_skipped, progress_bar
from headway.data.dataset.decode_all import load_image
from headway.data.dataset.subset import subsample_evenly
from headway.data.decoding.decode import center_crop_resize
from headway.data.decoding.pixel_format import pixel_format_of
from headway.data.open import open_source
from headway.data.sources.base import DataLike
from headway.errors import HeadwayError, UnreadableImageError
from headway.reports.html import to_rgb
from headway.transforms.pixels import to_float01
from headway.utils.files import refuse_existing, write_text

MAX_IMAGES = 24
"""Images shown at most."""
MAX_PROFILE_IMAGES = 128
"""Held-out images at most over which attention distance and entropy are averaged."""
DISPLAY_SIZE = 336
"""Approximate side in pixels of an image on a page."""


def attend(
    model: Positional[str],
    images: Positional[tuple[str, ...]],
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
) -> dict[str, Any]:
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

    Returns:
        out, model, images, layers, attention_heads, distance (pixels) and entropy (bits), each layers by attention
        heads, and, with data, accuracy (percent), held_out (images) and importance (points lost, layers by attention
        heads). With explain: out, model, image, layer, attention_head (the one shown), token.
    """
    file = refuse_existing(Path(out))
    if explain and file.suffix != ".html":
        raise HeadwayError(f"--explain writes a page: end --out '{out}' in .html")
    if file.suffix not in (".html", ""):
        raise HeadwayError(f"--out '{out}' is neither a page (.html) nor a folder")
    if layer is not None and not explain:
        raise HeadwayError("--layer goes with --explain; without it all layers are shown")
    if explain and data is not None:
        raise HeadwayError("--explain and --data exclude one another: --explain shows the steps of one layer")
    if test is not None and data is None:
        raise HeadwayError("--test goes with --data, the labeled images")
    network = load_attention_model(str(model), size, pretrained)
    named_images = _read_images([images] if isinstance(images, (str, Path)) else images, network)
    if explain and len(named_images) > 1:
        raise HeadwayError(f"--explain shows the steps on one image, got {len(named_images)}")
    views = to_float01(torch.stack([center_crop_resize(x, network.image_size) for _, x in named_images]))  # B C S S
    displayed = [
        _display_image(name, image, attention_maps(network.backbone, view[None]))
        for (name, image), view in zip(named_images, views, strict=True)
    ]
    grid = displayed[0].maps.grid
    token = _query_token(query_patch, network, grid)
    if explain:
        return _explain(network, displayed[0], views, token, layer, file)
    held_out = importance = None
    if data is not None:
        with progress_bar("decoding") as progress:
            held_out = load_held_out(network, data, test, seed, progress, labels=labels, group_by=group_by)
        print_skipped(held_out.skipped)
        with progress_bar("ablating attention heads") as progress:
            importance = attention_head_importance(
                network.backbone, make_correctness_fn(network, held_out), progress, held_out.interval_groups()
            )
    profiled = to_float01(subsample_evenly(held_out.test_images, MAX_PROFILE_IMAGES)) if held_out else views
    report = AttentionReport(
        title=f"Attention of {network.name}", subtitle=_network_summary(network, grid),
        prefix_names=network.prefix_names, initial_token=token, images=displayed,
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
    return _to_result(file, str(model), report)


def print_result(result: dict[str, Any]) -> None:
    """Print the result in a few lines."""
    if "token" in result:
        head = f"layer {result['layer']}, attention head {result['attention_head']}"
        return print_line(f"{head}, {result['token']}: open {result['out']}")
    layers, heads = result["layers"], result["attention_heads"]
    print_line(f"{result['images']} images, {layers} layers of {heads} attention heads")
    for title, name in (("distance in pixels, by layer", "distance"), ("entropy in bits, by layer", "entropy")):
        print_line(f"{title}: " + ", ".join(f"{sum(row) / heads:.1f}" for row in result[name]))
    if "importance" in result:
        drops = [(drop, i + 1, j + 1) for i, row in enumerate(result["importance"]) for j, drop in enumerate(row)]
        drop, i, j = max(drops)
        print_line(
            f"accuracy {result['accuracy']:.1f} % on {result['held_out']} held-out images; the largest drop "
            f"({drop:+.1f} points) is without attention head {j} of layer {i}"
        )
    print_line(f"open {result['out']}")


def _read_images(images: Any, network: AttentionModel) -> list[tuple[str, Tensor]]:
    """Name and pixels (C H W, in the network's pixel format) of each image; HeadwayError for unreadable ones."""
    pixel_format = pixel_format_of(network.backbone.input_spec)
    found: list[tuple[str, Tensor]] = []
    for path in images:
        source = open_source(path)
        if (total := len(found) + len(source)) > MAX_IMAGES:
            raise HeadwayError(f"with '{path}' there are {total} images; {MAX_IMAGES} are shown at most")
        for i in range(len(source)):
            try:
                pixels = load_image(source, i, pixel_format, network.image_size).pixels
            except UnreadableImageError as error:
                raise HeadwayError(f"cannot read '{source.name(i)}': {error}") from error
            found.append((Path(source.name(i)).name, pixels))
    if not found:
        raise HeadwayError("no images were given; name one or more after the model")
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
        raise HeadwayError(f"--query-patch is ROW,COLUMN counted from 1, such as 3,5; got '{query_patch}'")
    row, column = (int(part) for part in parts)
    if not (1 <= row <= grid[0] and 1 <= column <= grid[1]):
        raise HeadwayError(f"there is no patch {row},{column}: this view has {grid[0]} rows and {grid[1]} columns")
    return len(network.prefix_names) + (row - 1) * grid[1] + column - 1


def _explain(
    network: AttentionModel, image: AttentionImage, views: Tensor, token: int | None, layer: int | None, file: Path
) -> dict[str, Any]:
    num_layers, (rows, columns) = len(image.maps.weights), image.maps.grid
    if layer is not None and not 1 <= layer <= num_layers:
        raise HeadwayError(f"there is no layer {layer}: this network has layers 1 to {num_layers}")
    index, num_prefix = num_layers // 2 if layer is None else layer - 1, len(network.prefix_names)
    if token is None or token < num_prefix:  # a patch in the middle is easier to follow than the class token
        token = num_prefix + rows // 2 * columns + columns // 2
    attention, x, trace, output = trace_attention(network.backbone, views, index)
    is_rotary = getattr(network.backbone.config, "pos_embed", "learned") == "rotary"
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
