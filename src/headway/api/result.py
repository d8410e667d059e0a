"""The base of the results that verbs return: frozen dataclasses whose ``to_dict()`` is what ``--json`` prints."""

from collections.abc import Sized
from dataclasses import dataclass, fields
from typing import Any

INTERNAL = {"json": False}
"""Metadata of a field that is no part of the JSON, such as a network."""
OPTIONAL = {"optional": True}
"""Metadata of a field that is left out of the JSON where it does not apply, which is where it is None."""
MAX_TEXT = 60
"""Characters of a value in the readable form of a result."""


@dataclass(frozen=True, repr=False)
class Result:
    """The base of all results."""

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data, as ``--json`` prints it."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.metadata.get("json", True)}
        absent = {entry.name for entry in fields(self) if "optional" in entry.metadata}
        return {name: value for name, value in values.items() if value is not None or name not in absent}

    def __repr__(self) -> str:
        """One line: numbers and short texts as they are, of collections the length."""
        parts = [f"{name}={_short(value)}" for name, value in self.to_dict().items()]
        return f"{type(self).__name__}({', '.join(parts)})"


def _short(value: Any) -> str:
    if isinstance(value, Sized) and not isinstance(value, str):
        return f"<{len(value)} {'entries' if isinstance(value, dict) else 'items'}>"
    text = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."
