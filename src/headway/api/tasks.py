"""``tasks``: lists the pretext tasks."""

from __future__ import annotations

from dataclasses import dataclass

from headway.api.result import Result


@dataclass(frozen=True, repr=False)
class TasksResult(Result):
    """The pretext tasks."""

    tasks: list[dict[str, str]]
    """Of each: name, summary, paper, file."""


def tasks() -> TasksResult:
    """List the pretext tasks: name, summary, paper and file.

    Example: headway tasks --json
    """
    from headway.pretext import TASKS, describe_task

    rows = []
    for name, recipe in TASKS.items():
        summary, paper, file = describe_task(recipe)
        rows.append({"name": name, "summary": summary, "paper": paper, "file": file})
    return TasksResult(rows)
