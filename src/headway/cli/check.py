"""``headway check``: look at pictures before anything is trained on them."""

from pathlib import Path
from typing import Any

from rich.console import Console
from tyro.conf import Positional

from headway.cli.screen import counting
from headway.data.check import inspect
from headway.data.form import MOST_CHANNELS, Form
from headway.data.open import open_source
from headway.data.source import Source
from headway.data.survey import Survey, survey
from headway.downstream.classifier import refuse_existing
from headway.errors import HeadwayError
from headway.files import write_text
from headway.pretext import find_recipe
from headway.reports.check import Looked, facts, findings, leakage, plainly
from headway.reports.check_page import SHOWN, THUMBNAIL, write_check_page
from headway.train.job import Job, main_size, stored_side

LINES = 5
"""Names that are printed of each kind; --json and the page have more."""


def check(
    data: Positional[str | Path | Source],
    *,
    test: str | Path | Source | None = None,
    out: str | Path | None = None,
    pictures: bool = True,
    channels: int = 0,
) -> dict[str, Any]:
    """Look at pictures before anything is trained on them: what they are, what is broken, what is there twice.

    Exit code 0: nothing to see to; 1: findings; 2: nothing readable.

    Example: headway check photos --test photos-to-test-on --out check.html

    Args:
        data: A folder, a tar or brace pattern of tars ('train-{0..4}.tar.gz'), a CSV with a column "file", one picture.
        test: Pictures to test on later: none of them should be among the data.
        out: An HTML page to write that holds everything; it must not exist.
        pictures: Whether the page shows pictures.
        channels: Channels of the data set; 0: as most pictures have. With N, N equal pages of a TIFF are one picture.

    Returns:
        files, read, skipped (file, reason), notes (file, note), findings, and counts of what the pictures are.
    """
    page = refuse_existing(Path(out)) if out is not None else None
    if page and page.suffix != ".html":
        raise HeadwayError(f"--out '{out}' does not end in .html, the one format that check writes")
    source = open_source(data, labelled=None)
    surveyed = _survey(source, channels)
    form = surveyed.form if surveyed else Form(channels or 3)
    looked = _look("checking", data, source, form, SHOWN if page and pictures else 0)
    answer = facts(looked)
    tested = None
    if test is not None:
        tested = _look("checking the test set", test, open_source(test, labelled=None), form, 0)
        answer |= {"test": facts(tested), "leakage": leakage(looked, tested)}
    answer |= {"kept": _kept(surveyed), "findings": findings(answer), "out": None if page is None else str(page)}
    if page:
        write_text(page, write_check_page(answer, looked, tested, pictures))
    return answer


def exit_code(answer: dict[str, Any]) -> int:
    """0 clean, 1 findings, 2 nothing readable."""
    return 2 if not answer["read"] else 1 if answer["findings"] else 0


def show(answer: dict[str, Any]) -> None:
    """Print the answer: counts, then what somebody should look at."""
    print = Console(soft_wrap=True, highlight=False, markup=False).print
    for part, title in ((answer, ""), (answer.get("test"), "test set: ")):
        if part:
            for line in summary(part):
                print(title + line)
    if answer["kept"]:
        print(answer["kept"])
    print("")
    for sentence in answer["findings"]:
        print(f"- {plainly(sentence)}")
    for title, names in _examples(answer):
        print(f"\n{title}")
        for name in names[:LINES]:
            print(f"  {name}")
        if len(names) > LINES:
            print(f"  ... and {len(names) - LINES:,} more" + ("" if answer["out"] else " (--json names them all)"))
    if not answer["findings"]:
        print("Nothing to see to.")
    if answer["out"]:
        print(f"\nThe page is {answer['out']}")


def summary(part: dict[str, Any]) -> list[str]:
    """What the pictures are, in a few lines."""
    left = len(part["skipped"]) - part["unreadable"]
    lines = [f"{part['read']:,} pictures read of {part['files']:,} files in {part['data']}; "
             f"{part['unreadable']:,} unreadable, {left:,} passed over"]  # fmt: skip
    if not part["read"]:
        return lines
    width, height = part["sizes"]["width"], part["sizes"]["height"]
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in part["formats"].items())
    lines.append(
        f"{kinds}; {width['least']} to {width['most']} pixels wide (median {width['median']:g}), "
        f"{height['least']} to {height['most']} high (median {height['median']:g})"
    )
    channels = ", ".join(f"{count:,} of {number}" for number, count in part["channels"].items())
    bits = ", ".join(f"{count:,} of {number}" for number, count in part["bits"].items())
    mean, std = (" ".join(f"{value:.3f}" for value in part[name]) for name in ("mean", "std"))
    lines.append(f"channels: {channels}; bits a channel: {bits}; mean {mean}, deviation {std} (white is 1)")
    if part["orientation"]:
        lines.append(f"turned upright by EXIF: {sum(part['orientation'].values()):,}")
    if part["classes"]:
        counts = part["classes"].values()
        lines.append(f"{len(counts)} classes of {min(counts):,} to {max(counts):,} pictures")
    if part["groups"]:
        lines.append(f"{part['groups']:,} groups, which no split takes apart")
    return lines


def _survey(source: Source, channels: int) -> Survey | None:
    """Size and form by a sample; none where nothing in it can be read (the pass will say why)."""
    try:
        return survey(source, channels)
    except HeadwayError:
        if not 0 <= channels <= MOST_CHANNELS:
            raise
        return None


def _look(title: str, data: str | Path | Source, source: Source, form: Form, shown: int) -> Looked:
    count = min(shown, len(source))
    places = [place * len(source) // count for place in range(count)]
    with counting(title) as progress:
        seen = inspect(source, form, show=places, side=THUMBNAIL, progress=progress)
    return Looked(str(data) if isinstance(data, (str, Path)) else type(data).__name__, source, form, seen)


def _kept(surveyed: Survey | None) -> str:
    """What a run with every default keeps of a picture."""
    if surveyed is None:
        return ""
    job = Job(task="", recipe=find_recipe("simclr"))
    try:
        size, _ = main_size(surveyed.natural, job)
    except HeadwayError as error:
        return f"pretraining as it stands would refuse them: {error}"
    side = stored_side(surveyed.natural, size, job.recipe.detail)
    return (
        f"pretraining keeps the central square of each, stored at {side} x {side} pixels for views of {size} x {size}; "
        f"--size changes it"
    )


def _examples(answer: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Names for a person to start with."""
    unreadable = answer["skipped"][: answer["unreadable"]]
    passed = answer["skipped"][answer["unreadable"] :]
    leaked = answer.get("leakage") or {"exact": [], "near": []}
    same = [" = ".join(map(plainly, family)) for family in answer["exact_duplicates"]]
    near = [" ~ ".join(map(plainly, family)) for family in answer["near_duplicates"]]
    both = [f"{plainly(row['test'])} {sign} {plainly(row['data'])}"
            for sign, rows in (("=", leaked["exact"]), ("~", leaked["near"])) for row in rows]  # fmt: skip
    found = [
        ("unreadable:", [f"{plainly(row['file'])}: {row['reason']}" for row in unreadable]),
        ("passed over:", [f"{plainly(row['file'])}: {row['reason']}" for row in passed]),
        ("equal in every pixel:", same), ("nearly alike:", near), ("in the test set and in the data:", both),
        ("very small:", list(map(plainly, answer["tiny"]))), ("extreme shapes:", list(map(plainly, answer["extreme"]))),
        ("hardly more than one colour:", list(map(plainly, answer["plain"]))),
        ("notes:", [f"{plainly(row['file'])}: {row['note']}" for row in answer["notes"]]),
    ]  # fmt: skip
    return [(title, names) for title, names in found if names]
