"""The leaderboard of a comparison as a person reads it: a table, and what to know before the verdict."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from headway.verdict.trial import PIXEL, UNTRAINED


def leaderboard_table(answer: dict[str, Any]) -> Table:
    """Rows, best first, each with its gain over training from scratch."""
    count = answer["details"]["per_class"]
    title = f"{_counted(count, 'label')} a class; gain: points over training from scratch"
    table = Table("", "right, %", "95 %", "gain", "95 %", title=title)
    for row in answer["rows"]:
        gain = row["gain"]
        paired = (f"{gain['points']:+.1f}", f"{gain['low']:.1f} to {gain['high']:.1f}") if gain else ("", "")
        table.add_row(row["name"], f"{row['accuracy']:.1f}", f"{row['low']:.1f} to {row['high']:.1f}", *paired)
    return table


def remarks(answer: dict[str, Any]) -> Iterator[str]:
    """What a reader of the leaderboard should know before the verdict."""
    details, rows = answer["details"], {row["name"]: row["accuracy"] for row in answer["rows"]}
    seeds, draws = details["seeds"], details["draws"]
    scope = (
        f"{seeds} pretraining seeds, {_counted(seeds * draws, 'draw')} of labels"
        if seeds > 1
        else f"{_counted(draws, 'draw')} of labels for this one pretraining"
    )
    what = "seed" if seeds > 1 else "draw"
    allowed = (
        "allows for the best having been chosen, on folds of training labels: "
        f"each {what} is judged by what the folds of other {what}s choose."
        if max(seeds, draws) > 1
        else "is of the best on folds of these very labels, and says nothing about other labels."
    )
    yield (
        f"Intervals cover {scope} and {details['test_pictures']:,} test pictures. Each row's is its own; the verdict's "
        f"{allowed}"
    )
    if details["drawn_share"] > 0.5:
        yield (
            f"Every draw takes {100 * details['drawn_share']:.0f} % of the labelled pictures, so that draws are much "
            "alike: the intervals say little about other labels."
        )
    best = rows[answer["gain"]["contender"]]
    ahead = [name for name, accuracy in rows.items() if accuracy > best and name in (PIXEL, UNTRAINED)]
    if ahead:
        yield f"Yet a linear layer on {' and on '.join(ahead)} does better than {answer['gain']['contender']}."
    if details["shuffled_labels"]:
        yield "The labels were shuffled, so there was nothing to gain."


def conditions(per_class: int, seeds: int) -> str:
    """What the claim holds for."""
    one_run = ", for this one pretraining of each task" if seeds == 1 else ""
    return f"{_counted(per_class, 'label')} a class{one_run}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count > 1)}"
