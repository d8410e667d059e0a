"""Pretext tasks: one file a game, and this one visible dictionary of recipes."""

import importlib
import inspect
import os
import sys
from collections import Counter

from headway.config import Recipe
from headway.errors import HeadwayError, unknown
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

TASKS: dict[str, Recipe] = {
    "rotation": rotation.RECIPE,
    "relative_position": relative_position.RECIPE,
    "jigsaw": jigsaw.RECIPE,
    "colorization": colorization.RECIPE,
    "inpainting": inpainting.RECIPE,
    "simclr": simclr.RECIPE,
    "mae": mae.RECIPE,
    "dino": dino.RECIPE,
    "moco_v3": moco_v3.RECIPE,
    "byol": byol.RECIPE,
    "simsiam": simsiam.RECIPE,
    "barlow_twins": barlow_twins.RECIPE,
    "vicreg": vicreg.RECIPE,
    "swav": swav.RECIPE,
    "ibot": ibot.RECIPE,
    "dinov2": dinov2.RECIPE,
    "ijepa": ijepa.RECIPE,
    "simmim": simmim.RECIPE,
    "data2vec": data2vec.RECIPE,
    "lejepa": lejepa.RECIPE,
    "diet": diet.RECIPE,
}


AUTO = "auto"
"""What ``headway pretrain`` takes in place of a task: rules (headway/train/auto.py) choose one, and much else."""


def find_recipe(task: str) -> Recipe:
    """The recipe called ``task``: a name in TASKS, a user's own as ``my_package.my_file:RECIPE``, or ``a+b`` of them.

    Raises:
        HeadwayError: Where no such task, module or recipe exists.
    """
    if task in TASKS:
        return TASKS[task]
    if task == AUTO:
        raise HeadwayError(
            f"{AUTO} is no task of its own: it chooses task, network and view for headway pretrain; name a task here "
            "(compare takes a run that auto made as --public RUN)"
        )
    if "+" in task:
        parts = task.split("+")
        names = [part.partition(":")[0].rpartition(".")[2] for part in parts]  # a file's own, of a user's
        if not all(names):
            raise HeadwayError(f"cannot train '{task}': + joins the names of tasks, such as rotation+mae")
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise HeadwayError(
                f"cannot train '{task}': two of its games are called '{twice[0]}'; name each game once, and where two "
                "files are called alike rename one"
            )
        return combine({name: find_recipe(part) for name, part in zip(names, parts, strict=True)})
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
