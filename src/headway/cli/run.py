"""From words on the command line to a call of the verb's function, and from its answer to the screen."""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin

import tyro

from headway.config import Recipe
from headway.distributed import announced, rank
from headway.errors import HeadwayError
from headway.files import to_json
from headway.pretext import AUTO, find_recipe
from headway.train.record import recipe_for


def run_verb(verb: str, arguments: list[str]) -> int:
    """Parse, call, print. Raises HeadwayError for what the user can mend."""
    module = importlib.import_module(f"headway.cli.{verb}")
    function: Callable[..., dict[str, Any]] = getattr(module, verb)
    parsed = tyro.cli(
        _with_options(function, arguments), prog=f"headway {verb}", args=arguments, config=(tyro.conf.AvoidSubcommands,)
    )
    as_json = parsed.pop("json")
    if verb != "pretrain" and announced().processes > 1:
        raise HeadwayError(f"{verb} works in one process; of the verbs, pretrain alone runs in several")
    answer = function(**parsed)
    if rank() > 0:
        return 0
    if as_json:
        print(to_json(answer))
    else:
        getattr(module, "tell", module.show)(answer)  # a file whose verb is show prints by tell
    sys.stdout.flush()
    return int(module.exit_code(answer)) if hasattr(module, "exit_code") else 0


def _value(arguments: list[str], option: str) -> str:
    """What an option is given, before anything is parsed: the run that it names has the recipe's defaults."""
    for place, word in enumerate(arguments):
        if word == option and place + 1 < len(arguments):
            return arguments[place + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return ""


def _recipe_type(recipe: Recipe) -> Any:
    """The recipe's type with its task's, so that the task's fields become options."""
    task: Any = type(recipe.task)
    return Recipe[task]


def _typed(annotation: Any) -> Any:
    """What can be typed of an annotation: of text, paths and Python objects only text is left."""
    if get_origin(annotation) is Annotated:  # Positional, say
        inner, *marks = get_args(annotation)
        return Annotated[_typed(inner), *marks]
    options = get_args(annotation) if isinstance(annotation, UnionType) else ()
    if str not in options:
        return annotation
    return str | None if NoneType in options else str


def _with_options(function: Callable[..., Any], arguments: list[str]) -> Callable[..., dict[str, Any]]:
    """A function that gives back its arguments: the verb's own, ``--json``, and the task's recipe as the default."""
    signature = inspect.signature(function)
    parameters = [p.replace(annotation=_typed(p.annotation)) for p in signature.parameters.values()]
    if "recipe" in signature.parameters:
        task = arguments[0] if arguments and not arguments[0].startswith("-") else None
        task = None if task == AUTO else task  # its recipe is known once the pictures are
        parameters = [p for p in parameters if p.name != "recipe" or task]
        if task:  # the recipe's own fields become options: --recipe.optim.lr, --recipe.task.temperature
            begun = _value(arguments, "--out") if "--resume" in arguments else ""
            run = _value(arguments, "--extend") or _value(arguments, "--repeat")
            recipe = recipe_for(task, find_recipe(task), run, begun)
            parameters = [
                p.replace(default=recipe, annotation=_recipe_type(recipe)) if p.name == "recipe" else p
                for p in parameters
            ]
    help_json = tyro.conf.arg(help="Make the last line of standard output one JSON object.")
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters.append(inspect.Parameter("json", kind, default=False, annotation=Annotated[bool, help_json]))

    def collect(*given: Any, **named: Any) -> dict[str, Any]:
        names = [p.name for p in parameters if p.kind is not kind]
        return {**dict(zip(names, given, strict=False)), **named}

    like: Any = functools.wraps(function)(collect)
    del like.__wrapped__  # or annotations would be read from there
    like.__signature__ = signature.replace(parameters=parameters, return_annotation=dict)
    like.__annotations__ = {p.name: p.annotation for p in parameters}
    return like
