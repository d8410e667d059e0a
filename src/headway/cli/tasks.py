"""``headway tasks``: lists the pretext tasks."""

from typing import Any

from rich.console import Console

from headway.pretext import TASKS, describe_task


def tasks() -> dict[str, Any]:
    """List the pretext tasks: name, summary, paper and file.

    Example: headway tasks --json
    """
    rows = []
    for name, recipe in TASKS.items():
        summary, paper, file = describe_task(recipe)
        rows.append({"name": name, "summary": summary, "paper": paper, "file": file})
    return {"tasks": rows}


def print_result(result: dict[str, Any]) -> None:
    """Print the result, three lines per task."""
    console = Console(highlight=False, soft_wrap=True)
    for row in result["tasks"]:
        console.print(f"[bold]{row['name']}[/bold]  {row['summary']}\n    {row['paper']}\n    {row['file']}")
