"""What a look at a data set comes to: facts as plain data, and findings in sentences that a person can act on."""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from headway.data.check import Seen
from headway.data.form import Form
from headway.data.source import Source, group_of, passed_of
from headway.data.twins import families, near_pairs

TINY = 16
"""Short side in pixels below which a picture is called very small."""
LONG = 4.0
"""Longer side / shorter side beyond which a shape is called extreme: the central square shows less than a quarter."""
FEW, UNEVEN = 5, 10.0
"""Pictures below which a class is called small, and largest class / smallest class beyond which classes are uneven."""
EMPTY = "a folder without pictures"


class Looked(NamedTuple):
    """A data set and what the pass over it saw.

    Attributes:
        data: As it was given.
        source: The pictures.
        form: Channels and range in which they were read.
        seen: What the pass saw.
    """

    data: str
    source: Source
    form: Form
    seen: Seen

    @property
    def names(self) -> list[str]:
        """Of the readable pictures, in order."""
        return [self.source.name(index) for index in self.seen.kept]

    @property
    def labels(self) -> list[str | None]:
        """Likewise."""
        return [self.source.label(index) for index in self.seen.kept] if self.source.classes else []


def facts(looked: Looked) -> dict[str, Any]:
    """Everything that is counted, as plain data; lists of names are whole."""
    source, seen, names = looked.source, looked.seen, looked.names
    passed = passed_of(source)
    skipped = [*seen.skipped, *((name, reason) for name, reason in passed)]
    short, long = np.minimum(seen.heights, seen.widths), np.maximum(seen.heights, seen.widths)
    exact = twins(seen.contents)
    return {
        "data": looked.data,
        "files": len(source) + len(passed),
        "read": len(seen.kept),
        "unreadable": len(seen.skipped),
        "skipped": [{"file": name, "reason": reason} for name, reason in skipped],
        "notes": [{"file": name, "note": note} for name, note in seen.notes],
        "formats": _counted(seen.kinds),
        "sizes": {"width": _spread(seen.widths), "height": _spread(seen.heights), "short_side": _spread(short)},
        "aspect": _spread(np.round(long / np.maximum(short, 1), 2)),
        "channels": _counted(seen.channels.tolist()),
        "bits": _counted(seen.bits.tolist()),
        "stored": {"channels": looked.form.channels, "span": looked.form.span},
        "mean": [round(value, 4) for value in seen.mean],
        "std": [round(value, 4) for value in seen.std],
        "orientation": _counted(turn for turn in seen.turns.tolist() if turn > 1),
        "tiny": [names[place] for place in np.flatnonzero(short < TINY)],
        "extreme": [names[place] for place in np.flatnonzero(long > LONG * short)],
        "plain": [names[place] for place in np.flatnonzero(seen.looks == 0)],
        "classes": _classes(looked),
        "groups": len({group_of(source, index) for index in seen.kept} - {None}),
        "exact_duplicates": [[names[place] for place in family] for family in exact],
        "near_duplicates": [[names[place] for place in family] for family in near_families(seen)],
        "contradictions": [[names[p] for p in family] for family in exact if len(_labels_of(looked, family)) > 1],
    }


def leakage(train: Looked, test: Looked) -> dict[str, Any]:
    """Which test pictures are also among those to train on: equal in every pixel, nearly alike, or of one group."""
    count = len(train.seen.contents)
    first: dict[int, int] = {}
    for place, content in enumerate(train.seen.contents.tolist()):
        first.setdefault(content, place)
    exact = {p: first[c] for p, c in enumerate(test.seen.contents.tolist()) if c in first}
    pairs = near_pairs(np.concatenate([train.seen.looks, test.seen.looks]))
    both = np.append(train.seen.contents, test.seen.contents)
    near: dict[int, int] = {}
    for family in families(pairs, len(both)):
        ours = [place for place in family if place < count]
        for place in family:
            if ours and place >= count and place - count not in exact:
                near[place - count] = ours[0]
    here, there = train.names, test.names
    groups = {group_of(train.source, i) for i in train.seen.kept} & {group_of(test.source, i) for i in test.seen.kept}
    return {
        "exact": [{"test": there[t], "data": here[d]} for t, d in exact.items()],
        "near": [{"test": there[t], "data": here[d]} for t, d in sorted(near.items())],
        "groups": sorted(group for group in groups if group is not None),
    }


def twins(keys: np.ndarray) -> list[list[int]]:
    """Places of equal keys, family by family, in the order of their first."""
    order = np.argsort(keys, kind="stable")
    cuts = np.flatnonzero(keys[order][1:] != keys[order][:-1]) + 1
    found = [part.tolist() for part in np.split(order, cuts) if len(part) > 1]
    return sorted(found)


def near_families(seen: Seen) -> list[list[int]]:
    """Pictures that look alike, one for each content: exact copies are told of elsewhere."""
    _, first = np.unique(seen.contents, return_index=True)
    first = np.sort(first)
    return [first[family].tolist() for family in families(near_pairs(seen.looks[first]), len(first))]


def findings(found: dict[str, Any]) -> list[str]:
    """What somebody should look at, in sentences; an empty list means that the data are clean."""
    told = []

    def tell(what: str, count: int, more: str = "") -> None:
        if count:
            told.append(f"{what}: {count:,}{more}")

    tell("unreadable", found["unreadable"], f" of {found['files']:,} files")
    tell("folders without pictures", sum(row["reason"] == EMPTY for row in found["skipped"]))
    tell("copies of other pictures, equal in every pixel", _extra(found["exact_duplicates"]))
    tell("equal pictures in different classes", len(found["contradictions"]))
    tell("nearly like other pictures", _extra(found["near_duplicates"]))
    tell(f"very small, below {TINY} pixels", len(found["tiny"]))
    tell(f"over {LONG:g} times as long as wide, most of it cut away", len(found["extreme"]))
    tell("hardly more than one colour", len(found["plain"]))
    classes = found["classes"]
    if classes:
        small = [name for name, count in classes.items() if count < FEW]
        tell(f"classes of fewer than {FEW} pictures", len(small), f" ({_some(small)})")
        most, least = max(classes.values()), min(classes.values())
        if least and most > UNEVEN * least:
            told.append(f"uneven classes: the largest has {most / least:.0f} times the pictures of the smallest")
    leaked = found.get("leakage")
    if leaked:
        tested = found["test"]
        tell("test pictures that are among the data, equal in every pixel", len(leaked["exact"]))
        tell("test pictures that look nearly like some of the data", len(leaked["near"]))
        tell("groups that are on both sides", len(leaked["groups"]), f" ({_some(leaked['groups'])})")
        strange = sorted(set(tested["classes"]) - set(classes)) if classes else []
        tell("classes of the test set that the data have not", len(strange), f" ({_some(strange)})")
        tell("unreadable in the test set", tested["unreadable"], f" of {tested['files']:,} files")
    return told


def plainly(name: str) -> str:
    """A name that can be printed anywhere: control characters and bytes that are no text are written as escapes."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _extra(families_: list[list[str]]) -> int:
    """Pictures that could go without a look being lost."""
    return sum(len(family) - 1 for family in families_)


def _classes(looked: Looked) -> dict[str, int]:
    """Readable pictures of every class, in the classes' order; empty where there are fewer than two."""
    counts = Counter(label for label in looked.labels if label is not None)
    return {name: counts[name] for name in looked.source.classes or ()} if len(looked.source.classes or ()) > 1 else {}


def _labels_of(looked: Looked, places: list[int]) -> set[str | None]:
    return (
        {looked.source.label(looked.seen.kept[place]) for place in places} - {None} if looked.source.classes else set()
    )


def _counted(values: Any) -> dict[str, int]:
    return {str(value): count for value, count in Counter(values).most_common()}


def _spread(values: np.ndarray) -> dict[str, float]:
    """Smallest, median and largest."""
    if not len(values):
        return {}
    return {"least": values.min().item(), "median": float(np.median(values)), "most": values.max().item()}
