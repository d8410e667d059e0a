"""``headway tasks``: what pretext tasks there are."""

from typing import Any

from rich.console import Console
from rich.table import Table

from headway.pretext import TASKS, source_of


def tasks() -> dict[str, Any]:
    """List the pretext tasks: name, idea, paper and file.

    Example: headway tasks --json
    """
    rows = []
    for name, recipe in TASKS.items():
        claim, paper, file = source_of(recipe)
        rows.append({"name": name, "claim": claim, "paper": paper, "file": file})
    return {"tasks": rows}


def show(answer: dict[str, Any]) -> None:
    """Print the answer as a table."""
    table = Table("task", "idea", "paper", "file")
    for row in answer["tasks"]:
        table.add_row(row["name"], row["claim"], row["paper"], row["file"])
    Console().print(table)
