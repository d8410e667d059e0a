"""Pretext tasks: one file per task, and a dictionary of their recipes."""

import inspect
from collections import Counter

from headway.config import Recipe
from headway.errors import HeadwayError, unknown_name_error
from headway.pretext import (
    barlow_twins,
    byol,
    colorization,
    data2vec,
    diet,
    dino,
    dinov2,
    ibot,
    ijepa,
    inpainting,
    jigsaw,
    lejepa,
    mae,
    moco_v3,
    relative_position,
    rotation,
    simclr,
    simmim,
    simsiam,
    swav,
    vicreg,
)
from headway.pretext.combined import combine
from headway.utils.user_object import load_object

_MODULES = (
    rotation, relative_position, jigsaw, colorization, inpainting, simclr, mae, dino, moco_v3, byol, simsiam,
    barlow_twins, vicreg, swav, ibot, dinov2, ijepa, simmim, data2vec, lejepa, diet,
)  # fmt: skip
TASKS: dict[str, Recipe] = {module.__name__.rpartition(".")[2]: module.RECIPE for module in _MODULES}


AUTO = "auto"
"""``headway pretrain auto`` chooses task, backbone and view size by rules (headway/train/plan/auto.py)."""


def find_recipe(task: str) -> Recipe:
    """The recipe of a task.

    Args:
        task: A name in TASKS, a user's recipe as ``my_package.my_file:RECIPE``, or a combination ``a+b`` of these.

    Raises:
        HeadwayError: Where no such task, module or recipe exists.
    """
    if task in TASKS:
        return TASKS[task]
    if task == AUTO:
        raise HeadwayError(
            "task-invalid",
            f"{AUTO} is no task: it chooses task, backbone and view size for headway pretrain; name a task here "
            "(compare takes a run that auto made as --baselines RUN)",
        )
    if "+" in task:
        parts = task.split("+")
        names = [part.partition(":")[0].rpartition(".")[2] for part in parts]  # of a user's recipe, its file
        if not all(names):
            raise HeadwayError(
                "task-invalid", f"cannot train '{task}': + joins the names of tasks, such as rotation+mae"
            )
        duplicates = [name for name, count in Counter(names).items() if count > 1]
        if duplicates:
            raise HeadwayError(
                "name-clash",
                f"cannot train '{task}': two of its tasks are called '{duplicates[0]}'; name each task "
                "once, and rename one of two files with the same name",
            )
        return combine({name: find_recipe(part) for name, part in zip(names, parts, strict=True)})
    if ":" not in task:
        raise unknown_name_error("task", task, TASKS, hint="(or give your own as my_package.my_file:RECIPE)")
    return load_object("task", task, Recipe)


def describe_task(recipe: Recipe) -> tuple[str, str, str]:
    """Summary, link to the paper, and file of a task, read from the docstring of its file."""
    module = inspect.getmodule(type(recipe.task))
    text = inspect.getdoc(module) or ""
    summary = text.partition("\n")[0].partition(": ")[2] or text.partition("\n")[0]
    link = next((part.strip("().,;") for part in text.split() if "arxiv.org" in part or "doi.org" in part), "")
    name = (module.__name__ if module else type(recipe.task).__module__).replace(".", "/")
    return summary, link, f"{name}.py"
