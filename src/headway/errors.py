"""Errors that a person can act on: what failed, what was given, what to do."""

import difflib
from collections.abc import Iterable


class HeadwayError(Exception):
    """Something the user can mend. The command line prints its text as one line and exits with code 2."""


def unknown(kind: str, given: str, known: Iterable[str], hint: str = "") -> HeadwayError:
    """The error for a name that nobody knows, with the nearest names that somebody does.

    Args:
        kind: What the name names ("task", "backbone").
        given: The name as typed.
        known: Every name that would have worked.
        hint: What to do instead, added at the end.
    """
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    advice = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return HeadwayError(f"unknown {kind} '{given}': {advice}{' ' + hint if hint else ''}")
