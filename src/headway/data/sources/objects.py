"""Sources that a user's program passes: of the class ``Source``, or with the members of one."""

from typing import Any

from headway.data.sources.base import Source, SourceKind


class SourceLike(Source):
    """A source around an object that has ``len()``, ``read``, ``name`` and any other members of ``Source``.

    Args:
        data: The object; members of ``Source`` that it lacks have their defaults.
    """

    def __init__(self, data: Any):
        self.data: Any = data
        for member in vars(Source).keys() - Source.__abstractmethods__:
            if not member.startswith("_") and hasattr(data, member):
                setattr(self, member, getattr(data, member))

    def __len__(self) -> int:
        return len(self.data)

    def read(self, index: int) -> bytes:
        """The encoded image."""
        return self.data.read(index)

    def name(self, index: int) -> str:
        """The image's name."""
        return self.data.name(index)


def is_source_like(data: Any) -> bool:
    """Whether an object has what a source must have."""
    return all(callable(getattr(data, member, None)) for member in Source.__abstractmethods__)


SOURCE = SourceKind(lambda data: isinstance(data, Source), lambda data, labeled, group_column: data)
SOURCE_LIKE = SourceKind(is_source_like, lambda data, labeled, group_column: SourceLike(data))
