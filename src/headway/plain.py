"""Configs as plain data and back: what JSON can hold, and nothing that a stranger's record could have run."""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin
from typing import get_type_hints as hints_of

from headway.errors import HeadwayError


def describe(thing: Any) -> Any:
    """Plain data that says what a config is, as it reads back from JSON: dataclasses become dictionaries with their
    type's name, tuples lists.
    """
    if hasattr(thing, "__dataclass_fields__"):
        fields = {name: describe(getattr(thing, name)) for name in thing.__dataclass_fields__}
        return {"type": _name(type(thing)), **fields}
    if isinstance(thing, (list, tuple)):
        return [describe(item) for item in thing]
    return thing


def misfit(plain: Any, hint: Any, key: str = "") -> str | None:
    """Why plain data, as JSON gives it back, is not of a declared type ("job.seed is 'x', not int"); None where it is.

    Args:
        plain: The data.
        hint: A type as fields are declared with, or a mapping from the keys that a dictionary must have to theirs.
        key: Where the data stand, for the sentence.
    """
    if not isinstance(hint, Mapping):
        return None if _fits(plain, hint) else f"{key} is {plain!r:.60}, not {_words(hint)}"
    if not isinstance(plain, dict):
        return f"{key or 'it'} is {plain!r:.60}, not a dictionary"
    for name, inner in hint.items():
        where = f"{key}.{name}" if key else name
        if name not in plain:
            return f"{where} is missing"
        if fault := misfit(plain[name], inner, where):
            return fault
    return None


def _fits(plain: Any, hint: Any) -> bool:
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(plain, option) for option in inner)
    if kind is Literal:
        return isinstance(plain, str) and plain in inner
    if hint in (None, NoneType):
        return plain is None
    if hint in (bool, int, str):
        return type(plain) is hint  # a bool is no number here
    if hint is float:
        return type(plain) in (int, float)
    if kind in (list, tuple):
        if not isinstance(plain, (list, tuple)):
            return False
        if kind is tuple and Ellipsis not in inner:
            return len(plain) == len(inner) and all(map(_fits, plain, inner))
        return all(_fits(item, inner[0]) for item in plain)
    if kind is dict:
        return isinstance(plain, dict) and all(_fits(value, inner[1]) for value in plain.values())
    return not hasattr(hint, "__dataclass_fields__") or isinstance(plain, dict)


def _words(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint).replace("typing.", "")


def recall(plain: Any, like: Any, hint: Any = Any, key: str = "recipe") -> Any:
    """The config of which ``describe`` gave plain data, also after a trip through JSON.

    Nothing is imported by a name in ``plain``: a record may be a stranger's. Types come from ``like`` and from what the
    fields of its type are declared to hold.

    Args:
        plain: What ``describe`` gave.
        like: A config of the same type, the recipe's default say; fields that ``plain`` lacks are taken from it.
        hint: The declared type of the field that holds it.
        key: Where ``plain`` stands, for the errors.

    Raises:
        HeadwayError: A type or a field that ``like`` does not know of, or a value that a field cannot hold.
    """
    declared = _configs(hint) or not hasattr(like, "__dataclass_fields__")  # a Recipe's task is of any type
    if fault := misfit(plain, hint if declared else type(like), key):
        raise HeadwayError(fault)
    if isinstance(plain, list):
        known = like if isinstance(like, tuple) else ()
        inner: Any = Union[tuple(_configs(hint)) or (Any,)]  # noqa: UP007  # the rest was looked at with the list
        return tuple(
            recall(item, known[i] if i < len(known) else None, inner, f"{key}[{i}]") for i, item in enumerate(plain)
        )
    if not isinstance(plain, dict):
        return plain
    fields = dict(plain)
    named = fields.pop("type", None)
    kind = next((kind for kind in (type(like), *_configs(hint)) if _name(kind) == named), None)
    if kind is None:
        raise HeadwayError(f"{key} is a {named} where {_name(type(like))} was expected")
    hints = hints_of(kind)
    mine = like if isinstance(like, kind) else None
    if odd := fields.keys() - kind.__dataclass_fields__.keys():
        raise HeadwayError(f"{key} is a {named}, which has no {', '.join(sorted(odd))}")
    defaults = {name: getattr(mine, name) for name in kind.__dataclass_fields__ if mine is not None}
    given = {name: recall(fields[name], defaults.get(name), hints[name], f"{key}.{name}") for name in fields}
    try:
        return kind(**{**defaults, **given})
    except (HeadwayError, TypeError, ValueError) as error:
        raise HeadwayError(f"{key}: {error}") from error


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _configs(hint: Any) -> list[Any]:
    """The dataclasses in a declared type, ``Augment | None`` or ``tuple[Rule, ...]`` say."""
    return (
        [hint]
        if hasattr(hint, "__dataclass_fields__")
        else [kind for part in get_args(hint) for kind in _configs(part)]
    )
