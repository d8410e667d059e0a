"""Parses the options of a verb, calls the verb's function and prints its result."""

import functools
import importlib
import inspect
import sys
import typing
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import tyro

from headway.cli.console import is_first_process, notes_on_stderr, stderr_console
from headway.cli.progress_bar import ProgressBar
from headway.cli.verbs import VERBS, Verb
from headway.config import Recipe
from headway.errors import HeadwayError
from headway.utils.files import to_json
from headway.utils.launcher import launcher_env
from headway.utils.progress import ProgressEvent

COMMAND_LINE_NAMES = {"DataLike": str, "Recipe": Recipe}
"""What names in annotations stand for that the functions' modules do not import."""


def load_function(verb: Verb) -> Callable[..., Any]:
    """The function of a verb."""
    module, _, name = verb.function.partition(":")
    return getattr(importlib.import_module(module), name)


def run_verb(name: str, argv: list[str]) -> int:
    """Parse the options, call the verb, print its result. Raises HeadwayError for bad input."""
    verb = VERBS[name]
    function = load_function(verb)
    parsed = tyro.cli(
        _argument_collector(function, verb, argv),
        prog=f"headway {name}",
        args=argv,
        config=(tyro.conf.AvoidSubcommands,),
    )
    as_json = parsed.pop("json")
    if not verb.processes and launcher_env().world_size > 1:
        raise HeadwayError("options-conflict", f"{name} runs in one process; only pretrain runs in several")
    with notes_on_stderr(), ProgressBar(stderr_console) as bar:

        def progress(event: ProgressEvent) -> None:
            if is_first_process():
                bar(event)

        if "progress" in inspect.signature(function).parameters:
            parsed["progress"] = progress
        result = function(**parsed)
    if not is_first_process():
        return 0
    printer = importlib.import_module(verb.printer)
    if as_json:
        print(to_json(result.to_dict()))
    else:
        printer.print_result(result)
    sys.stdout.flush()
    return int(printer.exit_code(result)) if hasattr(printer, "exit_code") else 0


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
    options = get_args(annotation) if isinstance(annotation, UnionType) or get_origin(annotation) is Union else ()
    if str not in options:
        return annotation
    return str | None if NoneType in options else str


def _parameters(function: Callable[..., Any], positional: tuple[str, ...]) -> list[inspect.Parameter]:
    """The parameters that can be given on the command line, with the types that tyro reads."""
    hints = typing.get_type_hints(function, function.__globals__ | COMMAND_LINE_NAMES, include_extras=True)
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name != "progress":
            annotation = _command_line_type(hints[parameter.name])
            if parameter.name in positional:
                annotation = Annotated[annotation, tyro.conf.Positional]
            parameters.append(parameter.replace(annotation=annotation))
    return parameters


def _argument_collector(function: Callable[..., Any], verb: Verb, argv: list[str]) -> Callable[..., dict[str, Any]]:
    """A function for tyro that returns its arguments: the verb's options, ``--json`` and the recipe's fields."""
    signature, parameters = inspect.signature(function), _parameters(function, verb.positional)
    if "recipe" in signature.parameters:
        task = argv[0] if argv and not argv[0].startswith("-") else None
        task = None if task == "auto" else task  # the recipe of auto depends on the images
        parameters = [p for p in parameters if p.name != "recipe" or task]
        if task:  # the fields of the recipe become options: --recipe.optim.lr, --recipe.task.temperature
            resumed_run = _option_value(argv, "--out") if "--resume" in argv else ""
            run = _option_value(argv, "--continue-from") or _option_value(argv, "--reproduce")
            from headway.pretext import find_recipe
            from headway.train.run_dir.record import recipe_for

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
