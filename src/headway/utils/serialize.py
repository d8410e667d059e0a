"""Convert configs to plain data that JSON can hold, and back. Reading data from an unknown source runs no code."""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from headway.errors import HeadwayError


def serialize(value: Any) -> Any:
    """Convert a config to plain data, in the form in which JSON gives it back.

    A dataclass becomes a dictionary with its fields and the name of its type; a tuple becomes a list.
    """
    if hasattr(value, "__dataclass_fields__"):
        fields = {name: serialize(getattr(value, name)) for name in value.__dataclass_fields__}
        return {"type": _type_name(type(value)), **fields}
    if isinstance(value, (list, tuple)):
        return [serialize(item) for item in value]
    return value


def type_mismatch(data: Any, type_hint: Any, key: str = "") -> str | None:
    """Check plain data, as JSON gives it back, against a declared type.

    Args:
        data: The data.
        type_hint: The declared type of a field, or a mapping from the required keys of a dictionary to their types.
        key: Path of the data in the record, for the message.

    Returns:
        What is wrong ("config.seed is 'x', not int"), or None if the data match.
    """
    if not isinstance(type_hint, Mapping):
        return None if _matches_type(data, type_hint) else f"{key} is {data!r:.60}, not {_type_text(type_hint)}"
    if not isinstance(data, dict):
        return f"{key or 'it'} is {data!r:.60}, not a dictionary"
    for name, inner in type_hint.items():
        where = f"{key}.{name}" if key else name
        if name not in data:
            return f"{where} is missing"
        if problem := type_mismatch(data[name], inner, where):
            return problem
    return None


def _matches_type(data: Any, type_hint: Any) -> bool:
    kind, inner = get_origin(type_hint), get_args(type_hint)
    if kind in (Union, UnionType):
        return any(_matches_type(data, option) for option in inner)
    if kind is Literal:
        return isinstance(data, str) and data in inner
    if type_hint in (None, NoneType):
        return data is None
    if type_hint in (bool, int, str):
        return type(data) is type_hint  # so that a bool does not pass as an int
    if type_hint is float:
        return type(data) in (int, float)
    if kind in (list, tuple):
        if not isinstance(data, (list, tuple)):
            return False
        if kind is tuple and Ellipsis not in inner:
            return len(data) == len(inner) and all(map(_matches_type, data, inner))
        return all(_matches_type(item, inner[0]) for item in data)
    if kind is dict:
        return isinstance(data, dict) and all(_matches_type(value, inner[1]) for value in data.values())
    return not hasattr(type_hint, "__dataclass_fields__") or isinstance(data, dict)


def _type_text(type_hint: Any) -> str:
    if get_origin(type_hint) is None:
        return getattr(type_hint, "__name__", str(type_hint))
    return str(type_hint).replace("typing.", "")


def deserialize(data: Any, default: Any, type_hint: Any = Any, key: str = "recipe") -> Any:
    """Rebuild a config from the plain data that ``serialize`` made, also after it was written to JSON and read back.

    The record may come from an unknown source. So no name in ``data`` is imported: the types come from ``default`` and
    from the declared types of its fields.

    Args:
        data: The output of ``serialize``.
        default: A config of the same type, such as the recipe's default. It supplies the fields that ``data`` lacks.
        type_hint: The declared type of the field that holds the config.
        key: Path of ``data`` in the record, for error messages.

    Raises:
        HeadwayError: A type or field is unknown, or a value has the wrong type for its field.
    """
    # The task of a Recipe is declared as Any: there, the type of the default counts.
    declared = _dataclasses_in(type_hint) or not hasattr(default, "__dataclass_fields__")
    if problem := type_mismatch(data, type_hint if declared else type(default), key):
        raise HeadwayError("config-invalid", problem)
    if isinstance(data, list):
        known = default if isinstance(default, tuple) else ()
        inner: Any = Union[tuple(_dataclasses_in(type_hint)) or (Any,)]  # noqa: UP007  # plain items are checked already
        return tuple(
            deserialize(item, known[i] if i < len(known) else None, inner, f"{key}[{i}]") for i, item in enumerate(data)
        )
    if not isinstance(data, dict):
        return data
    fields = dict(data)
    type_name = fields.pop("type", None)
    kind = next((kind for kind in (type(default), *_dataclasses_in(type_hint)) if _type_name(kind) == type_name), None)
    if kind is None:
        raise HeadwayError("config-invalid", f"{key} is a {type_name} where {_type_name(type(default))} was expected")
    hints = get_type_hints(kind)
    base = default if isinstance(default, kind) else None
    if unknown := fields.keys() - kind.__dataclass_fields__.keys():
        raise HeadwayError("config-invalid", f"{key} is a {type_name}, which has no {', '.join(sorted(unknown))}")
    defaults = {name: getattr(base, name) for name in kind.__dataclass_fields__ if base is not None}
    given = {name: deserialize(fields[name], defaults.get(name), hints[name], f"{key}.{name}") for name in fields}
    try:
        return kind(**{**defaults, **given})
    except (HeadwayError, TypeError, ValueError) as error:
        raise HeadwayError("config-invalid", f"{key}: {error}") from error


def _type_name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _dataclasses_in(type_hint: Any) -> list[Any]:
    """The dataclasses in a declared type, such as ``Augment | None`` or ``tuple[Rule, ...]``."""
    if hasattr(type_hint, "__dataclass_fields__"):
        return [type_hint]
    return [kind for part in get_args(type_hint) for kind in _dataclasses_in(part)]
