"""``headway attend``: see what a vision transformer attends to, and what each attention head is worth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from tyro.conf import Positional

from headway.backbones.load import build_backbone
from headway.cli.screen import counting, name_skipped, note
from headway.data.decode import decode, fit
from headway.data.open import open_source
from headway.data.source import Source, Unreadable
from headway.downstream.classifier import RECORD, Classifier, load_classifier, refuse_existing
from headway.downstream.features import extract
from headway.downstream.labelled import Labelled, gather_labelled
from headway.downstream.swap import load_run, view_size
from headway.errors import HeadwayError
from headway.files import write_text, write_whole
from headway.measure.attention import Importance, importance, profile
from headway.measure.knn import knn_scores
from headway.measure.listen import attentions_of, heads_of, look, steps_of
from headway.reports.attention_explain import write_explanation
from headway.reports.attention_page import Attended, Pictured, write_attention_page
from headway.reports.attention_sheet import write_maps, write_numbers, write_table
from headway.reports.lesson import Explained
from headway.train.planning import spread
from headway.views.pixels import to_unit

MOST = 24
"""Pictures that are shown, at most."""
JUDGED = 1000
"""Labelled pictures to vote and held-out pictures to recognise, at most, spread evenly."""
PROFILED = 128
"""Held-out pictures over which distance and entropy are averaged, at most."""
SHOWN = 336
"""Side in pixels of a picture on a page, about."""


class Network(NamedTuple):
    """What was asked to be looked at.

    Attributes:
        name: As a person typed it, without folders.
        backbone: The network, in evaluation mode.
        classifier: Its output layer and class names, where it is a classifier.
        size: Side in pixels of the view that it is shown.
        tokens: Names of its prefix tokens.
    """

    name: str
    backbone: Any
    classifier: Classifier | None
    size: int
    tokens: tuple[str, ...]


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
        test: Held-out pictures; none: the fifth of the labelled ones that ``transfer`` sets aside with the same seed.
        seed: Of that split.
        pretrained: Fetch timm's weights for timm:NAME; without, it has fresh ones.

    Returns:
        out, model, pictures, layers, attention_heads, distance (pixels) and entropy (bits), each layers by attention
        heads, and, with data, accuracy (per cent), held_out (pictures) and importance (points lost, layers by attention
        heads). With explain: out, model, picture, layer, attention_head (the one followed), token.
    """
    file = refuse_existing(Path(out))
    if file.suffix not in ((".html",) if explain else (".html", "")):
        raise HeadwayError(f"--out '{out}' is neither a page (.html) nor a folder" if not explain else
                           f"--explain writes a page: end --out '{out}' in .html")  # fmt: skip
    _check_together(explain, layer, data, test)
    pictures = _read([images] if isinstance(images, (str, Path)) else images)
    if explain and len(pictures) > 1:
        raise HeadwayError(f"--explain walks one picture through a layer, got {len(pictures)}")
    network = _load(model, size, pretrained)
    views = torch.stack([fit(picture, network.size) for _, picture in pictures])  # B 3 S S
    seen = [look(network.backbone, to_unit(view[None])) for view in views]
    grid = seen[0].grid
    side = grid[0] * max(round(SHOWN / grid[0]), 1)
    shown = [
        Pictured(name, fit(picture, side).permute(1, 2, 0).numpy(), one)
        for (name, picture), one in zip(pictures, seen, strict=True)
    ]
    token = _token(patch, network, grid)
    if explain:
        return _explain(network, shown[0], views[:1], token, layer, file)
    held = _held_out(network, data, test, seed) if data is not None else None
    worth = _importance(network, held) if held else None
    kind = profile(network.backbone, to_unit(spread(held.test_images, PROFILED) if held else views))
    count = min(len(held.test_images), PROFILED) if held else len(views)
    attentions = attentions_of(network.backbone)
    heads = heads_of(attentions[0])
    attended = Attended(
        title=f"Attention of {network.name}",
        claim=f"{getattr(network.backbone, 'name', '')}: {len(attentions)} layers of {heads} attention heads; "
              f"{grid[0] * grid[1]} patches of {network.backbone.patch_size} pixels"
              + (f", and {', '.join(network.tokens)}" if network.tokens else "") + ".",
        tokens=network.tokens, start=token, pictures=shown, profile=kind,
        profiled=f"{count} {'held-out ' if held else ''}picture{'s' if count > 1 else ''}", importance=worth,
        recogniser=_recogniser(network),
        note=f"The network sees the central square of each picture at {network.size} x {network.size} pixels. "
             "Made by headway attend; the pictures carry no data of their files.",
    )  # fmt: skip
    if file.suffix == ".html":
        write_text(file, write_attention_page(attended))
    else:
        _write_folder(attended, file)
    answer = {
        "out": str(file), "model": model, "pictures": len(shown), "layers": len(attentions), "attention_heads": heads,
        "distance": _rounded(kind.distance), "entropy": _rounded(kind.entropy),
    }  # fmt: skip
    if worth:
        lost = [[cell.mean for cell in row] for row in worth.loss]
        answer |= {"accuracy": round(worth.accuracy, 2), "held_out": worth.pictures, "importance": _rounded(lost)}
    return answer


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


def _read(images: Any) -> list[tuple[str, Tensor]]:
    """Name and pixels (3 H W) of every picture; raises HeadwayError for the first that cannot be read."""
    found = []
    for given in images:
        source = open_source(given)
        if len(found) + len(source) > MOST:
            raise HeadwayError(f"'{given}' brings the pictures to {len(found) + len(source)}; {MOST} are shown at most")
        for index in range(len(source)):
            try:
                found.append((Path(source.name(index)).name, decode(source.read(index))))
            except (Unreadable, OSError) as error:
                raise HeadwayError(f"cannot read '{source.name(index)}': {error}") from error
    if not found:
        raise HeadwayError("no pictures were given; name one or more after the model")
    return found


def _load(model: str, size: int, pretrained: bool) -> Network:
    classifier, name = None, model if model.startswith("timm:") else Path(model).resolve().name
    if size < 0:
        raise HeadwayError(f"--size must be 1 or more, or 0 for the network's own, got {size}")
    if model.startswith("timm:"):
        backbone: Any = build_backbone(model, size=size or _natural(model), pretrained=pretrained).eval()
    elif (Path(model) / RECORD).is_file():
        classifier = load_classifier(Path(model))
        backbone = classifier.backbone
    else:
        backbone, _ = load_run(Path(model))
    attentions_of(backbone)
    tokens = []
    if hasattr(backbone, "class_token"):
        tokens = ["class token"] * (backbone.class_token is not None)
        tokens += [f"register {i + 1}" for i in range(backbone.config.registers)]
    else:
        count = backbone.prefix_tokens
        first = getattr(backbone.network, "cls_token", None) is not None
        tokens = ["class token"] * first + [f"register {i + 1}" for i in range(count - first)]
    return Network(name, backbone, classifier, size or view_size(backbone), tuple(tokens))


def _natural(model: str) -> int:
    """The side that timm made the model for."""
    from timm.models import get_pretrained_cfg

    cfg = get_pretrained_cfg(model.removeprefix("timm:"))
    return int(cfg.input_size[-1]) if cfg else 224


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
    network: Network, picture: Pictured, view: Tensor, token: int | None, layer: int | None, file: Path
) -> dict[str, Any]:
    layers, (rows, columns) = len(picture.seen.weights), picture.seen.grid
    if layer is not None and not 1 <= layer <= layers:
        raise HeadwayError(f"there is no layer {layer}: this network has layers 1 to {layers}")
    number, prefix = layers // 2 if layer is None else layer - 1, len(network.tokens)
    if token is None or token < prefix:  # a patch in the middle is easier to follow than the class token
        token = prefix + rows // 2 * columns + columns // 2
    attention, x, steps, output = steps_of(network.backbone, to_unit(view), number)
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


def _held_out(network: Network, data: Any, test: Any, seed: int) -> Labelled:
    source = open_source(data, labelled=True)
    held = open_source(test, labelled=True) if test is not None else None
    with counting("decoding") as progress:
        pictures = gather_labelled(source, held, network.size, seed=seed, progress=progress)
    name_skipped(pictures.skipped)
    if len(pictures.test_labels) < 2:
        raise HeadwayError("fewer than two pictures are left to test on; label more, or give --test")
    if network.classifier is not None:
        strange = sorted(set(pictures.classes) - set(network.classifier.classes))
        if strange:
            raise HeadwayError(f"the classifier does not know the classes {', '.join(strange[:5])}; "
                               f"it knows {', '.join(network.classifier.classes[:10])}")  # fmt: skip
        if pictures.aside:
            note(f"held out: the fifth that transfer sets aside of these pictures with --seed {seed}")
    return pictures._replace(
        images=spread(pictures.images, JUDGED), labels=spread(pictures.labels, JUDGED),
        test_images=spread(pictures.test_images, JUDGED), test_labels=spread(pictures.test_labels, JUDGED),
    )  # fmt: skip


def _importance(network: Network, held: Labelled) -> Importance:
    with counting("silencing attention heads") as progress:
        return importance(network.backbone, _recognise(network, held), progress)


def _recognise(network: Network, held: Labelled) -> Callable[[], Tensor]:
    """Which held-out pictures are recognised: by the classifier where there is one, else by k-NN."""
    classifier = network.classifier
    if classifier is not None:
        known = torch.tensor([classifier.classes.index(name) for name in held.classes])
        whole = classifier._replace(size=network.size)
        return lambda: whole.probabilities(held.test_images).argmax(1) == known[held.test_labels]

    def neighbours() -> Tensor:
        bank, queries = (extract(network.backbone, part, network.size) for part in (held.images, held.test_images))
        return knn_scores(bank, held.labels, queries, len(held.classes)).argmax(1) == held.test_labels

    return neighbours


def _recogniser(network: Network) -> str:
    if network.classifier is not None:
        return f"The model's own {network.classifier.kind} classifier recognises"
    return "k-NN (20 neighbours, features of the silenced network on both sides) recognises"


def _write_folder(attended: Attended, folder: Path) -> None:
    """A sheet a picture, the numbers as a picture and as a table."""
    start, tokens = attended.start, attended.tokens
    grid = attended.pictures[0].seen.grid
    who = "the mean of all patches"
    if start is not None:
        place = divmod(start - len(tokens), grid[1])
        who = f"the {tokens[start]}" if start < len(tokens) else f"the framed patch ({place[0] + 1},{place[1] + 1})"
    side = grid[0] * max(round(128 / grid[0]), 1)

    def write(temporary: Path) -> None:
        temporary.mkdir(parents=True)
        for number, picture in enumerate(attended.pictures, 1):
            small = torch.from_numpy(np.ascontiguousarray(picture.pixels)).permute(2, 0, 1)  # 3 S S
            smaller = picture._replace(pixels=fit(small, side).permute(1, 2, 0).numpy())
            name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in Path(picture.name).stem)
            sheet = write_maps(smaller, start, who, attended.title, attended.note)
            (temporary / f"{number:02d}-{name[:80]}.png").write_bytes(sheet)
        title = attended.title.replace("Attention", "Attention heads", 1)
        words = f"distance and entropy averaged over {attended.profiled}"
        if attended.importance:
            words += f"; {attended.importance.accuracy:.1f} % of {attended.importance.pictures} recognised with all"
        (temporary / "heads.png").write_bytes(write_numbers(attended.profile, attended.importance, title, words))
        (temporary / "heads.csv").write_text(write_table(attended.profile, attended.importance), encoding="utf-8")

    write_whole(folder, write)


def _rounded(rows: list[list[float]]) -> list[list[float]]:
    return [[round(value, 3) for value in row] for row in rows]
