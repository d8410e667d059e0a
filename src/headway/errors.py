"""Errors that a user can act on: each message says what failed, what was given and what to do."""

import difflib
import errno
from collections.abc import Iterable


class HeadwayError(Exception):
    """An error that the user can correct. The command line prints its text as one line and exits with code 2."""


class UnreadableImageError(Exception):
    """One image cannot be read; the text is the reason. Callers skip, count and report the image, and go on."""


def unknown_name_error(kind: str, given: str, known: Iterable[str], hint: str = "") -> HeadwayError:
    """Make the error for an unknown name. Its text suggests the most similar known names.

    Args:
        kind: What the name stands for ("task", "backbone").
        given: The name as the user typed it.
        known: All valid names.
        hint: Advice to add at the end of the text.
    """
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    advice = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return HeadwayError(f"unknown {kind} '{given}': {advice}{' ' + hint if hint else ''}")


def error_reason(error: Exception) -> str:
    """The reason why a file cannot be read, in plain words."""
    number = getattr(error, "errno", None)
    known = {
        errno.ENOENT: "no such file, or a link to nothing",
        errno.ELOOP: "a link that leads back to itself",
        errno.EACCES: "no permission to read it",
        errno.EPERM: "no permission to read it",
        errno.ENAMETOOLONG: "its name is too long",
    }
    return known.get(number or 0) or getattr(error, "strerror", None) or str(error) or type(error).__name__
