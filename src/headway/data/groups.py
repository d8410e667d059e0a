"""Pictures that must stay on one side of every split, told by their names: of one animal, one patient, one camera."""

import re

from headway.data.source import Chosen, Source
from headway.errors import HeadwayError


def grouped(source: Source, pattern: str) -> Chosen:
    """The same pictures, each in the group that a pattern finds in its name.

    Args:
        source: The pictures.
        pattern: A regular expression. What its first parentheses match (all of it, where it has none) is the group;
            a picture whose name does not match stands alone.

    Raises:
        HeadwayError: No regular expression, or no name matches.
    """
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise HeadwayError(f"--group-by '{pattern}' is no regular expression: {error}") from error
    found = [wanted.search(source.name(index)) for index in range(len(source))]
    if not any(found):
        example = source.name(0) if len(source) else "none"
        raise HeadwayError(
            f"--group-by '{pattern}' is no column of a table and matches no name; names are like '{example}'"
        )
    groups = [None if match is None else match[1 if wanted.groups else 0] for match in found]
    return Chosen(source, range(len(source)), groups=groups)
