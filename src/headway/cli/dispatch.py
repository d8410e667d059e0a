"""Parses the options of a verb, calls the verb's function and prints its result."""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin

import tyro

from headway.config import Recipe
from headway.distributed import rank
from headway.errors import HeadwayError
from headway.pretext import AUTO, find_recipe
from headway.train.run_dir.record import recipe_for
from headway.utils.files import to_json
from headway.utils.launcher import launcher_env


def run_verb(verb: str, argv: list[str]) -> int:
    """Parse the options, call the verb, print its result. Raises HeadwayError for bad input."""
    module = importlib.import_module(f"headway.cli.{verb}")
    function: Callable[..., dict[str, Any]] = getattr(module, verb)
    parsed = tyro.cli(
        _argument_collector(function, argv), prog=f"headway {verb}", args=argv, config=(tyro.conf.AvoidSubcommands,)
    )
    as_json = parsed.pop("json")
    if verb != "pretrain" and launcher_env().world_size > 1:
        raise HeadwayError(f"{verb} runs in one process; only pretrain runs in several")
    result = function(**parsed)
    if rank() > 0:
        return 0
    if as_json:
        print(to_json(result))
    else:
        module.print_result(result)
    sys.stdout.flush()
    return int(module.exit_code(result)) if hasattr(module, "exit_code") else 0


def _option_value(argv: list[str], option: str) -> str:
    """The value of an option, read before parsing: the run that it names holds the recipe's default values."""
    for i, word in enumerate(argv):
        if word == option and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return ""


def _command_line_type(annotation: Any) -> Any:
    """The part of an annotation that can be given as text: of ``str | Path | Source`` only ``str`` is left."""
    if get_origin(annotation) is Annotated:  # such as Positional
        inner, *metadata = get_args(annotation)
        return Annotated[_command_line_type(inner), *metadata]
    options = get_args(annotation) if isinstance(annotation, UnionType) else ()
    if str not in options:
        return annotation
    return str | None if NoneType in options else str


def _argument_collector(function: Callable[..., Any], argv: list[str]) -> Callable[..., dict[str, Any]]:
    """A function for tyro that returns its arguments: the verb's options, ``--json`` and the recipe's fields."""
    signature = inspect.signature(function)
    parameters = [p.replace(annotation=_command_line_type(p.annotation)) for p in signature.parameters.values()]
    if "recipe" in signature.parameters:
        task = argv[0] if argv and not argv[0].startswith("-") else None
        task = None if task == AUTO else task  # the recipe of auto depends on the images
        parameters = [p for p in parameters if p.name != "recipe" or task]
        if task:  # the fields of the recipe become options: --recipe.optim.lr, --recipe.task.temperature
            resumed_run = _option_value(argv, "--out") if "--resume" in argv else ""
            run = _option_value(argv, "--continue-from") or _option_value(argv, "--reproduce")
            recipe = recipe_for(task, find_recipe(task), run, resumed_run)
            task_type: Any = type(recipe.task)  # so that the fields of the task become options
            parameters = [
                p.replace(default=recipe, annotation=Recipe[task_type]) if p.name == "recipe" else p for p in parameters
            ]
    help_json = tyro.conf.arg(help="Make the last line of standard output one JSON object.")
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters.append(inspect.Parameter("json", kind, default=False, annotation=Annotated[bool, help_json]))

    def collect(*args: Any, **kwargs: Any) -> dict[str, Any]:
        names = [p.name for p in parameters if p.kind is not kind]
        return {**dict(zip(names, args, strict=False)), **kwargs}

    wrapped: Any = functools.wraps(function)(collect)
    del wrapped.__wrapped__  # otherwise tyro reads the annotations of the verb's function
    wrapped.__signature__ = signature.replace(parameters=parameters, return_annotation=dict)
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapped
