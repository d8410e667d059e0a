"""Prints the result of ``headway compare``."""

from typing import Any

from rich.table import Table

from headway.api.compare import ComparePreview, CompareResult
from headway.cli.console import print_line, print_table
from headway.reports.leaderboard import plural, remarks
from headway.reports.steps import steps_sentence


def print_result(result: CompareResult | ComparePreview) -> None:
    """Print the leaderboard and the verdict."""
    if isinstance(result, ComparePreview):
        return  # compare has printed it
    answer = result.to_dict()
    print_table(_leaderboard_table(answer))
    continued = [claim["sentence"] for claim in result.continued_baselines.values()]
    on_labels = {name: [count] for name, count in result.steps["on_labels"].items()}
    both_sides = steps_sentence(result.steps["pretraining"], on_labels)
    for line in filter(None, (*remarks(answer), both_sides, result.unequal, *continued, result.sentence)):
        print_line(line)
    print_line(f"Everything is in {result.out}: runs/, results/, report.json.")


def _leaderboard_table(answer: dict[str, Any]) -> Table:
    """Rows, best first, each with its gain over training from scratch."""
    count = answer["details"]["labels_per_class"]
    title = f"{plural(count, 'label')} per class; gain: points over training from scratch"
    table = Table("", "right, %", "95 %", "gain", "95 %", title=title)
    for row in answer["rows"]:
        gain = row["gain"]
        paired = (f"{gain['points']:+.1f}", f"{gain['low']:.1f} to {gain['high']:.1f}") if gain else ("", "")
        table.add_row(row["name"], f"{row['accuracy']:.1f}", f"{row['low']:.1f} to {row['high']:.1f}", *paired)
    return table
