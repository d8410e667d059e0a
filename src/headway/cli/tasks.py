"""``headway tasks``: what pretext tasks there are."""

from typing import Any

from rich.console import Console

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
    """Print the answer, three lines a task."""
    console = Console(highlight=False, soft_wrap=True)
    for row in answer["tasks"]:
        console.print(f"[bold]{row['name']}[/bold]  {row['claim']}\n    {row['paper']}\n    {row['file']}")
