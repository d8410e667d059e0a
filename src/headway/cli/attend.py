"""``headway attend``: see what a vision transformer attends to, and what each attention head is worth."""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from tyro.conf import Positional

from headway.cli.screen import counting, name_skipped
from headway.data.decode import fit
from headway.data.form import form_of
from headway.data.ingest import load
from headway.data.open import open_source
from headway.data.source import Source, Unreadable
from headway.downstream.classifier import refuse_existing
from headway.downstream.network import Network, load_network
from headway.downstream.recognise import held_out, recogniser, recogniser_name
from headway.errors import HeadwayError
from headway.files import write_text
from headway.measure.attention import importance, profile
from headway.measure.listen import Look, attentions_of, heads_of, look, steps_of
from headway.reports.attention_explain import write_explanation
from headway.reports.attention_page import Attended, Pictured, write_attention_page
from headway.reports.attention_sheet import write_sheets
from headway.reports.lesson import Explained
from headway.reports.page import colours
from headway.train.planning import spread
from headway.views.pixels import to_unit

MOST = 24
"""Pictures that are shown, at most."""
PROFILED = 128
"""Held-out pictures over which distance and entropy are averaged, at most."""
SHOWN = 336
"""Side in pixels of a picture on a page, about."""


def attend(
    model: Positional[str],
    images: Positional[tuple[str, ...]],
    *,
    out: str | Path,
    patch: str | None = None,
    size: int = 0,
    explain: bool = False,
    layer: int | None = None,
    data: str | Path | Source | None = None,
    test: str | Path | Source | None = None,
    labels: str | Path | None = None,
    group_by: str = "",
    seed: int = 0,
    pretrained: bool = True,
) -> dict[str, Any]:
    """See what a vision transformer attends to, picture by picture and attention head by attention head.

    Example: headway attend runs/photos cat.jpg dog.jpg --out attention.html

    Example: headway attend models/photos cat.jpg --data labelled --out attention.html

    Example: headway attend runs/photos cat.jpg --explain --out steps.html

    Args:
        model: A run folder, a classifier that ``headway transfer`` made, or timm:NAME.
        images: Pictures to look at.
        out: A page that holds everything (.html), or a folder of PNG files; it must not exist.
        patch: ROW,COLUMN of the patch whose attention is shown at first, counted from 1; none: the class token, or the
            mean of all patches where there is none.
        size: Side in pixels of the square view; 0: the one that the network was made for. A larger one has more
            patches.
        explain: Instead, walk one picture through one layer, a step at a time, with its real numbers.
        layer: With --explain, which layer, counted from 1; none: one in the middle.
        data: Labelled pictures; given, each attention head is silenced in turn, and what the main task loses is counted
            on held-out pictures: by the classifier, or by k-NN where there is none.
        test: Held-out pictures; none: the fifth of the labelled ones that ``transfer`` sets aside with the same data,
            labels, group_by and seed (of a classifier it is checked that it is the same fifth).
        labels: A CSV with file,label that labels the pictures of ``data`` by name.
        group_by: What keeps pictures of one animal, patient or camera on one side of the split: a column of the table,
            or a regular expression on names, whose first parentheses are the group.
        seed: Of that split.
        pretrained: Fetch timm's weights for timm:NAME; without, it has fresh ones.

    Returns:
        out, model, pictures, layers, attention_heads, distance (pixels) and entropy (bits), each layers by attention
        heads, and, with data, accuracy (per cent), held_out (pictures) and importance (points lost, layers by attention
        heads). With explain: out, model, picture, layer, attention_head (the one followed), token.
    """
    file = refuse_existing(Path(out))
    if explain and file.suffix != ".html":
        raise HeadwayError(f"--explain writes a page: end --out '{out}' in .html")
    if file.suffix not in (".html", ""):
        raise HeadwayError(f"--out '{out}' is neither a page (.html) nor a folder")
    _check_together(explain, layer, data, test)
    network = load_network(str(model), size, pretrained)
    pictures = _read([images] if isinstance(images, (str, Path)) else images, network)
    if explain and len(pictures) > 1:
        raise HeadwayError(f"--explain walks one picture through a layer, got {len(pictures)}")
    views = to_unit(torch.stack([fit(picture, network.size) for _, picture in pictures]))  # B C S S
    shown = [
        _pictured(name, picture, look(network.backbone, view[None]))
        for (name, picture), view in zip(pictures, views, strict=True)
    ]
    token = _token(patch, network, shown[0].seen.grid)
    if explain:
        return _explain(network, shown[0], views, token, layer, file)
    held = worth = None
    if data is not None:
        with counting("decoding") as progress:
            held = held_out(network, data, test, seed, progress, labels=labels, group_by=group_by)
        name_skipped(held.skipped)
        with counting("silencing attention heads") as progress:
            worth = importance(network.backbone, recogniser(network, held), progress, held.tested_together())
    over = to_unit(spread(held.test_images, PROFILED)) if held else views
    attended = Attended(
        title=f"Attention of {network.name}", claim=_claim(network, shown[0].seen.grid), tokens=network.tokens,
        start=token, pictures=shown, profile=profile(network.backbone, over),
        profiled=f"{len(over)} {'held-out ' if held else ''}picture{'s' if len(over) > 1 else ''}", importance=worth,
        recogniser=recogniser_name(network),
        note=f"The network sees the central square of each picture at {network.size} x {network.size} pixels. "
             "Made by headway attend; the pictures carry no data of their files.",
    )  # fmt: skip
    if file.suffix == ".html":
        write_text(file, write_attention_page(attended))
    else:
        write_sheets(attended, file)
    return _answer(file, str(model), attended)


def show(answer: dict[str, Any]) -> None:
    """Print the answer as a few lines."""
    print = Console(soft_wrap=True, highlight=False, markup=False).print
    if "token" in answer:
        place = f"layer {answer['layer']}, attention head {answer['attention_head']}, {answer['token']}"
        print(f"{place}: open {answer['out']}")
        return
    layers, heads = answer["layers"], answer["attention_heads"]
    print(f"{answer['pictures']} pictures, {layers} layers of {heads} attention heads")
    for words, name in (("distance in pixels, by layer", "distance"), ("entropy in bits, by layer", "entropy")):
        print(f"{words}: " + ", ".join(f"{sum(row) / heads:.1f}" for row in answer[name]))
    if "importance" in answer:
        cells = [(lost, i + 1, j + 1) for i, row in enumerate(answer["importance"]) for j, lost in enumerate(row)]
        lost, i, j = max(cells)
        print(
            f"{answer['accuracy']:.1f} % of {answer['held_out']} held-out pictures; most is lost ({lost:+.1f} points) "
            f"where attention head {j} of layer {i} is silenced"
        )
    print(f"open {answer['out']}")


def _check_together(explain: bool, layer: int | None, data: object, test: object) -> None:
    if layer is not None and not explain:
        raise HeadwayError("--layer goes with --explain; without it all layers are shown")
    if explain and data is not None:
        raise HeadwayError("--explain and --data exclude one another: explain walks one picture through a layer")
    if test is not None and data is None:
        raise HeadwayError("--test goes with --data, the labelled pictures that it tests on")


def _read(images: Any, network: Network) -> list[tuple[str, Tensor]]:
    """Name and pixels (C H W, as the network was shown its own) of each; HeadwayError for what cannot be read."""
    form = form_of(network.backbone.inputs)
    found: list[tuple[str, Tensor]] = []
    for given in images:
        source = open_source(given)
        if len(found) + len(source) > MOST:
            raise HeadwayError(f"'{given}' brings the pictures to {len(found) + len(source)}; {MOST} are shown at most")
        for index in range(len(source)):
            try:
                found.append((Path(source.name(index)).name, load(source, index, form, network.size).pixels))
            except Unreadable as error:
                raise HeadwayError(f"cannot read '{source.name(index)}': {error}") from error
    if not found:
        raise HeadwayError("no pictures were given; name one or more after the model")
    return found


def _pictured(name: str, picture: Tensor, seen: Look) -> Pictured:
    """The picture in a side that is good to look at and that the patches divide."""
    side = seen.grid[0] * max(round(SHOWN / seen.grid[0]), 1)
    return Pictured(name, colours(fit(picture, side)), seen)


def _claim(network: Network, grid: tuple[int, int]) -> str:
    attentions = attentions_of(network.backbone)
    others = f" and the {', '.join(network.tokens)}" if network.tokens else ""
    return (
        f"{network.backbone.name}: {len(attentions)} layers of {heads_of(attentions[0])} attention heads that look at "
        f"{grid[0] * grid[1]} patches of {network.backbone.patch_size} pixels a side{others}."
    )


def _token(patch: str | None, network: Network, grid: tuple[int, int]) -> int | None:
    """The token that is asked, prefix tokens counted; None: the mean of all patches."""
    if patch is None:
        return 0 if network.tokens[:1] == ("class token",) else None
    parts = patch.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise HeadwayError(f"--patch is ROW,COLUMN counted from 1, such as 3,5; got '{patch}'")
    row, column = (int(part) for part in parts)
    if not (1 <= row <= grid[0] and 1 <= column <= grid[1]):
        raise HeadwayError(
            f"there is no patch {row},{column}: this view has {grid[0]} rows and {grid[1]} columns of them"
        )
    return len(network.tokens) + (row - 1) * grid[1] + column - 1


def _explain(
    network: Network, picture: Pictured, views: Tensor, token: int | None, layer: int | None, file: Path
) -> dict[str, Any]:
    layers, (rows, columns) = len(picture.seen.weights), picture.seen.grid
    if layer is not None and not 1 <= layer <= layers:
        raise HeadwayError(f"there is no layer {layer}: this network has layers 1 to {layers}")
    number, prefix = layers // 2 if layer is None else layer - 1, len(network.tokens)
    if token is None or token < prefix:  # a patch in the middle is easier to follow than the class token
        token = prefix + rows // 2 * columns + columns // 2
    attention, x, steps, output = steps_of(network.backbone, views, number)
    turned = getattr(network.backbone.config, "positions", "learned") == "rotary"
    page, head = write_explanation(Explained(
        network.name, picture.name, picture.pixels, (rows, columns), network.backbone.patch_size, network.tokens,
        number, layers, token, attention, x[0], steps, output[0], turned,
    ))  # fmt: skip
    write_text(file, page)
    place = divmod(token - prefix, columns)
    return {
        "out": str(file), "model": network.name, "picture": picture.name, "layer": number + 1,
        "attention_head": head + 1, "token": f"patch {place[0] + 1},{place[1] + 1}",
    }  # fmt: skip


def _answer(file: Path, model: str, attended: Attended) -> dict[str, Any]:
    def rounded(rows: list[list[float]]) -> list[list[float]]:
        return [[round(value, 3) for value in row] for row in rows]

    kind, worth = attended.profile, attended.importance
    answer = {
        "out": str(file), "model": model, "pictures": len(attended.pictures), "layers": len(kind.distance),
        "attention_heads": len(kind.distance[0]), "distance": rounded(kind.distance), "entropy": rounded(kind.entropy),
    }  # fmt: skip
    if worth:
        lost = [[cell.mean for cell in row] for row in worth.loss]
        answer |= {"accuracy": round(worth.accuracy, 2), "held_out": worth.pictures, "importance": rounded(lost)}
    return answer
