"""Prints the result of ``headway tasks``."""

from rich.console import Console

from headway.api.tasks import TasksResult


def print_result(result: TasksResult) -> None:
    """Print the result, three lines per task."""
    console = Console(highlight=False, soft_wrap=True)
    for row in result.tasks:
        console.print(f"[bold]{row['name']}[/bold]  {row['summary']}\n    {row['paper']}\n    {row['file']}")
