"""The look at a data set as one HTML page: every name escaped, pictures made anew from pixels.

So none of them says where, when or by whom it was taken.
"""

import html
from typing import Any

import numpy as np
from torch import Tensor

from headway.data.check import thumbnail
from headway.data.ingest import load
from headway.data.source import Unreadable
from headway.reports.check import Looked, near_families, plainly, twins
from headway.reports.page import colours, data_uri, document

SHOWN, THUMBNAIL = 120, 112
"""Pictures on the contact sheet, and their longer side in pixels."""
FAMILIES, MEMBERS = 12, 6
"""Families of duplicates that are shown, and pictures of each."""
ROWS = 200
"""Lines of a table, at most."""
DIM = 0.35
"""Brightness of what lies beyond the central square."""
STYLE = """
main { display: block } h2 { margin: 2.5rem 0 .75rem; font-size: 1.25rem }
table { border-collapse: collapse; font-size: .9rem } td, th { padding: .2rem 1.5rem .2rem 0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere } th { color: var(--faint); font-weight: normal; white-space: nowrap }
.findings li { margin: .3rem 0 } .clean { color: var(--right) }
.sheet { display: flex; flex-wrap: wrap; gap: .6rem; align-items: flex-end }
.sheet figure { width: 112px } .sheet img { margin: 0;
  outline: 1px solid var(--line) }
.sheet figcaption { min-height: 0; margin-top: .2rem; overflow: hidden; font-size: .7rem; text-overflow: ellipsis;
  white-space: nowrap }
.pairs { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin-bottom: 1rem }
.family { margin-bottom: .75rem; padding-bottom: .75rem; border-bottom: 1px solid var(--line) }
.bar { height: .8rem; min-width: 1px; border-radius: 2px; background: var(--faint) }
.bars td:last-child { width: 24rem }
.more { color: var(--faint) }
"""


def write_check_page(answer: dict[str, Any], looked: Looked, tested: Looked | None, pictures: bool) -> str:
    """The page.

    Args:
        answer: What ``headway check`` returns.
        looked: The data.
        tested: The test set, where there is one.
        pictures: Whether pictures are shown.
    """
    told, shown = answer["findings"], tested if pictures else None
    kept = _safe(f"{answer['kept'][0].upper()}{answer['kept'][1:]}.") if answer["kept"] else ""
    listed = "".join(f"<li>{_safe(sentence)}</li>" for sentence in told)
    head = f'<ul class="findings">{listed}</ul>' if told else '<p class="clean">Nothing to see to.</p>'
    parts = [
        f'<header><h1>{_safe(answer["data"])}</h1><p class="claim">{answer["read"]:,} pictures read of '
        f"{answer['files']:,} files</p>{head}</header><main>",
        _section("What they are", _facts(answer)),
        _section("What a test set of them is", _facts(answer["test"])) if tested else "",
        _section("Classes", _bars(answer["classes"])),
    ]
    if pictures:
        parts += [
            _section("Contact sheet", _sheet(looked), "Spread evenly over the data. Training keeps the bright square."),
            _section("Equal in every pixel", _families(looked, twins(looked.seen.contents))),
            _section("Nearly alike", _families(looked, near_families(looked.seen))),
        ]
    leaked = answer.get("leakage") or {"exact": [], "near": []}
    parts += [
        _section("In the test set and in the data, equal in every pixel", _both(looked, shown, leaked["exact"])),
        _section("In the test set and nearly in the data", _both(looked, shown, leaked["near"])),
        _section("Unreadable", _table(answer["skipped"][: answer["unreadable"]])),
        _section("Passed over", _table(answer["skipped"][answer["unreadable"] :])),
        "" if pictures else _section("Equal in every pixel", _names(answer["exact_duplicates"])),
        "" if pictures else _section("Nearly alike", _names(answer["near_duplicates"])),
        _section("Very small", _names(answer["tiny"])),
        _section("Extreme shapes", _names(answer["extreme"])),
        _section("Hardly more than one colour", _names(answer["plain"])),
        _section("Notes", _table(answer["notes"])),
        f"</main><footer><p>{kept}</p></footer>",
    ]
    return document(f"{plainly(answer['data'])}: a look at the data", "\n".join(parts), STYLE)


def _safe(text: object) -> str:
    return html.escape(plainly(str(text)))


def _section(title: str, body: str, note: str = "") -> str:
    """Empty where there is nothing to say."""
    more = f'<p class="more">{html.escape(note)}</p>' if note else ""
    return f"<section><h2>{html.escape(title)}</h2>{more}{body}</section>" if body else ""


def _facts(part: dict[str, Any]) -> str:
    def counted(name: str) -> str:
        return ", ".join(f"{count:,} x {key}" for key, count in part[name].items())

    def spread(values: dict[str, float]) -> str:
        return f"{values['least']:g} to {values['most']:g}, median {values['median']:g}" if values else ""

    def spread_of(span: tuple[float, float] | None) -> str:
        return f"{span[0]:g} and {span[1]:g}" if span else ""

    mean, std = (", ".join(f"{value:.3f}" for value in part[name]) for name in ("mean", "std"))
    rows = {
        "formats": counted("formats"), "width in pixels": spread(part["sizes"]["width"]),
        "height in pixels": spread(part["sizes"]["height"]), "longer side / shorter side": spread(part["aspect"]),
        "channels": counted("channels"), "bits a channel": counted("bits"),
        "values that become 0 and 1": spread_of(part["stored"]["span"]),
        "mean of each channel": mean, "deviation of each channel": std,
        "turned upright by EXIF orientation": counted("orientation"), "groups": part["groups"] or "",
    }  # fmt: skip
    cells = (f"<tr><th>{html.escape(name)}</th><td>{_safe(value)}</td></tr>" for name, value in rows.items() if value)
    return f"<table>{''.join(cells)}</table>" if part["read"] else ""


def _bars(classes: dict[str, int]) -> str:
    most = max(classes.values(), default=0) or 1
    rows = [
        f"<tr><th>{_safe(name)}</th><td>{count:,}</td>"
        f'<td><div class="bar" style="width: {100 * count / most:.1f}%"></div></td></tr>'
        for name, count in list(classes.items())[:ROWS]
    ]
    return f'<table class="bars">{"".join(rows)}</table>{_rest(len(classes))}' if rows else ""


def _table(rows: list[dict[str, str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    lines = ["".join(f"<td>{_safe(value)}</td>" for value in row.values()) for row in rows[:ROWS]]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>{_rest(len(rows))}"


def _names(names: list[str] | list[list[str]]) -> str:
    lines = [_safe(name if isinstance(name, str) else " = ".join(name)) for name in names[:ROWS]]
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>{_rest(len(names))}" if lines else ""


def _rest(count: int, shown: int = ROWS) -> str:
    return f'<p class="more">and {count - shown:,} more; --json names them all</p>' if count > shown else ""


def _sheet(looked: Looked) -> str:
    names = looked.names
    figures = [
        _figure(names[place], picture) for place, picture in zip(looked.seen.shown, looked.seen.sheet, strict=True)
    ]
    return f'<div class="sheet">{"".join(figures)}</div>' if figures else ""


def _families(looked: Looked, families: list[list[int]]) -> str:
    """The first families, their pictures read once more."""
    rows = []
    for family in families[:FAMILIES]:
        figures = "".join(_again(looked, place) for place in family[:MEMBERS])
        more = f'<p class="more">and {len(family) - MEMBERS:,} more</p>' if len(family) > MEMBERS else ""
        rows.append(f'<div class="family"><div class="sheet">{figures}</div>{more}</div>')
    return "".join(rows) + _rest(len(families), FAMILIES) if rows else ""


def _both(looked: Looked, tested: Looked | None, rows: list[dict[str, str]]) -> str:
    """Pictures of the test set beside those of the data, where pictures are shown, and all their names."""
    if tested is None or not rows:
        return _table(rows)
    here, there = looked.names, tested.names
    pairs = []
    for row in rows[:FAMILIES]:
        figures = _again(tested, there.index(row["test"])) + _again(looked, here.index(row["data"]))
        pairs.append(f'<div class="sheet pair">{figures}</div>')
    return f'<div class="pairs">{"".join(pairs)}</div>{_table(rows)}'


def _again(looked: Looked, place: int) -> str:
    name = looked.source.name(looked.seen.kept[place])
    try:
        picture = load(looked.source, looked.seen.kept[place], looked.form).pixels
    except Unreadable:  # gone since
        return ""
    return _figure(name, thumbnail(picture, THUMBNAIL))


def _figure(name: str, picture: Tensor) -> str:
    pixels = _dimmed(colours(picture))  # h w 3
    safe = _safe(name)
    height, width = pixels.shape[:2]
    larger = max(THUMBNAIL // max(height, width), 1)  # by a whole factor, so that no pixel is blurred
    return (
        f'<figure><img width="{larger * width}" height="{larger * height}" alt="" src="{data_uri(pixels)}">'
        f'<figcaption title="{safe}">{safe}</figcaption></figure>'
    )


def _dimmed(pixels: np.ndarray) -> np.ndarray:
    """The picture with its central square bright, as training keeps it, and the rest dim."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    dim = (pixels * DIM).astype(np.uint8)
    dim[top : top + short, left : left + short] = pixels[top : top + short, left : left + short]
    return dim
