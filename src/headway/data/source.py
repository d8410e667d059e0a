"""Where pictures come from: a list of files, read one at a time. Whatever has these five members is a source."""

import errno
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol, runtime_checkable

from headway.hashing import hashed


class Unreadable(Exception):
    """One picture that cannot be had; the text is the reason. It is skipped, counted and named; the rest goes on."""


@runtime_checkable
class Source(Protocol):
    """Pictures as they lie: encoded, named, labelled or not.

    Beside these members a source may offer ``image(i)``, the decoded picture (C H W, any numbers), which is used
    instead of decoding ``read(i)``; ``group(i)``, a name shared by pictures that must stay on one side of a split (one
    animal, one camera); ``stamp()``, a text that changes whenever the bytes behind it may have, without which no cache
    is kept; ``passed``, (name, reason) of what lay beside the pictures and is none; ``form``, the channels and range
    (``data.form.Form``) in which its pictures are wanted; and ``stored``, the form that ``image(i)`` has already.

    Attributes:
        classes: The names of the K classes; None where nothing is labelled.
    """

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the K classes; None where nothing is labelled."""
        ...

    def __len__(self) -> int:
        """How many pictures there are, unreadable ones included."""
        ...

    def read(self, index: int) -> bytes:
        """The encoded picture. Called from several threads at a time. Raises Unreadable or OSError."""
        ...

    def name(self, index: int) -> str:
        """What a person calls the picture; with slashes, relative to the data."""
        ...

    def label(self, index: int) -> str | None:
        """The name of its class, one of ``classes``; None where it has no label."""
        ...


def group_of(source: Source, index: int) -> str | None:
    """The picture's group; None where the source knows of none."""
    group = getattr(source, "group", None)
    return group(index) if group else None


def stamp_of(source: Source) -> str | None:
    """A text that changes whenever the bytes behind the source may have; None where the source cannot tell."""
    stamp = getattr(source, "stamp", None)
    return stamp() if stamp else None


def passed_of(source: Source) -> Sequence[tuple[str, str]]:
    """(name, reason) of what lies beside the pictures and is none, as far as the source knows."""
    found: Sequence[tuple[str, str]] = getattr(source, "passed", ())
    return found


def reason_of(error: Exception) -> str:
    """Why a file cannot be had, in plain words."""
    number = getattr(error, "errno", None)
    known = {
        errno.ENOENT: "no such file, or a link to nothing",
        errno.ELOOP: "a link that leads back to itself",
        errno.EACCES: "no permission to read it",
        errno.EPERM: "no permission to read it",
        errno.ENAMETOOLONG: "its name is too long",
    }
    return known.get(number or 0) or getattr(error, "strerror", None) or str(error) or type(error).__name__


def in_order(labels: Sequence[str | None]) -> tuple[str, ...]:
    """The distinct labels, sorted; as numbers where all are numbers, so that 10 follows 9."""
    names = {label for label in labels if label is not None}
    return tuple(
        sorted(names, key=(lambda name: (int(name), name)) if all(name.isdecimal() for name in names) else None)
    )


class Chosen:
    """Some pictures of a source, with labels and groups of their own where they are given.

    Args:
        source: The pictures.
        indices: Which of them, in order.
        labels: One a chosen picture, in place of the source's.
        groups: One a chosen picture, in place of the source's.
        form: Channels and range, in place of the source's.
    """

    def __init__(
        self,
        source: Source,
        indices: Sequence[int],
        labels: Sequence[str] | None = None,
        groups: Sequence[str | None] | None = None,
        form: object = None,
    ):
        self.source, self.indices, self.labels, self.groups = source, indices, labels, groups
        self.form, self.passed = form or getattr(source, "form", None), passed_of(source)
        self.stored = getattr(source, "stored", None)
        self.classes = source.classes if labels is None else in_order(labels)
        decoded = getattr(source, "image", None)
        if decoded:
            self.image = lambda index: decoded(indices[index])

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> bytes:
        """The encoded picture."""
        return self.source.read(self.indices[index])

    def name(self, index: int) -> str:
        """Its name in the source."""
        return self.source.name(self.indices[index])

    def label(self, index: int) -> str | None:
        """The label given here, else the source's."""
        return self.source.label(self.indices[index]) if self.labels is None else self.labels[index]

    def group(self, index: int) -> str | None:
        """The group given here, else the source's."""
        return group_of(self.source, self.indices[index]) if self.groups is None else self.groups[index]

    def stamp(self) -> str | None:
        """The source's stamp: which pictures are chosen shows in their names."""
        return stamp_of(self.source)


def in_form(source: Source, form: object) -> Chosen:
    """All pictures of a source in a ``Form`` of another's: one number means one brightness everywhere."""
    return Chosen(source, range(len(source)), form=form)


def evenly(count: int, most: int) -> list[int]:
    """At most so many of the positions 0..count-1, spread evenly over them, ascending.

    One of each of ``most`` stretches of equal length, by a hash: where classes take turns, a fixed stride would meet
    the same ones always.
    """
    some = min(count, most)
    ends = [place * count // some for place in range(some + 1)] if some else []
    return [low + hashed("evenly", low) % (high - low) for low, high in pairwise(ends)]
