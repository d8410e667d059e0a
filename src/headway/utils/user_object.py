"""Objects of a user's own, named on the command line as ``my_package.my_file:NAME``."""

import importlib
import os
import sys
from typing import Any

from headway.errors import HeadwayError


def load_object(what: str, path: str, kind: type) -> Any:
    """Import a module, also from the current folder, and return an object in it.

    Args:
        what: What the object is, for messages, such as task.
        path: module:NAME.
        kind: The class that it must be an instance of.

    Raises:
        HeadwayError: The module cannot be imported, has no such name, or it is of another class.
    """
    module_name, _, attribute = path.partition(":")
    try:
        sys.path.insert(0, os.getcwd())  # finds a file in the current folder
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # a user's file may raise anything
        raise HeadwayError(
            "own-object",
            f"cannot load {what} '{path}': {error}; it must name an importable module and a {kind.__name__} in it",
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(found, kind):
        raise HeadwayError(
            "own-object", f"cannot load {what} '{path}': it is a {type(found).__name__}, not a headway.{kind.__name__}"
        )
    return found
