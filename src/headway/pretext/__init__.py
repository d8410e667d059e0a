"""Pretext tasks: one file a game, and this one visible dictionary of recipes."""

import importlib
import inspect
import os
import sys

from headway.config import Recipe
from headway.errors import HeadwayError, unknown
from headway.pretext import dino, mae, rotation, simclr

TASKS: dict[str, Recipe] = {
    "rotation": rotation.RECIPE,
    "simclr": simclr.RECIPE,
    "mae": mae.RECIPE,
    "dino": dino.RECIPE,
}


def find_recipe(task: str) -> Recipe:
    """The recipe called ``task``: a name in TASKS, or a user's own as ``my_package.my_file:RECIPE``.

    Raises:
        HeadwayError: Where no such task, module or recipe exists.
    """
    if task in TASKS:
        return TASKS[task]
    if "+" in task:
        raise HeadwayError(f"cannot train '{task}': combinations of tasks are not built yet; name one task")
    if ":" not in task:
        raise unknown("task", task, TASKS, hint="(or give your own as my_package.my_file:RECIPE)")
    module_name, _, attribute = task.partition(":")
    try:
        sys.path.insert(0, os.getcwd())  # a file beside the person who typed its name
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # whatever a stranger's file may raise
        raise HeadwayError(
            f"cannot load task '{task}': {error}; it must name an importable module and a Recipe in it"
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(found, Recipe):
        raise HeadwayError(f"cannot load task '{task}': it is a {type(found).__name__}, not a headway.Recipe")
    return found


def source_of(recipe: Recipe) -> tuple[str, str, str]:
    """Where a task comes from: (its claim, its paper's link, its file), read from the head of its file."""
    module = inspect.getmodule(type(recipe.task))
    text = inspect.getdoc(module) or ""
    claim = text.partition("\n")[0].partition(": ")[2] or text.partition("\n")[0]
    link = next((part.strip("().,") for part in text.split() if "arxiv.org" in part or "doi.org" in part), "")
    name = (module.__name__ if module else type(recipe.task).__module__).replace(".", "/")
    return claim, link, f"{name}.py"
