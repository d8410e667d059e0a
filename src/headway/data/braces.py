"""Many names as one pattern, as a shell writes them: 'x-{0..2}.tar' and '{a,b}.tar', any number of braces."""

import itertools
import re
from collections import defaultdict

from headway.errors import HeadwayError

MOST = 100_000
"""Names that one pattern may stand for."""


def expand(pattern: str) -> list[str]:
    """The names that a pattern stands for; '{00..10}' keeps its zeros.

    Raises:
        HeadwayError: More than MOST names.
    """
    choices: list[list[str]] = []
    for part in re.split(r"(\{[^{}]*\})", pattern):
        numbers = re.fullmatch(r"\{(\d{1,18})\.\.(\d{1,18})\}", part)
        if numbers:
            first, last = int(numbers[1]), int(numbers[2])
            if abs(last - first) >= MOST:
                raise HeadwayError(f"'{pattern}' stands for more than {MOST:,} tars")
            width = len(numbers[1]) if numbers[1].startswith("0") else 0
            step = 1 if last >= first else -1
            choices.append([str(number).zfill(width) for number in range(first, last + step, step)])
        else:
            choices.append(part[1:-1].split(",") if part.startswith("{") and "," in part else [part])
    names = ["".join(parts) for parts in itertools.islice(itertools.product(*choices), MOST + 1)]
    if len(names) > MOST:
        raise HeadwayError(f"'{pattern}' stands for more than {MOST:,} tars")
    return names


def contract(names: list[str]) -> list[str]:
    """Patterns for these names, most names first: t-0.tar, t-1.tar, x.tar -> t-{0..1}.tar, x.tar."""
    families: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in names:
        match = re.fullmatch(r"(.*?)(\d+)(\D*)", name)
        before, number, after = match.groups() if match else (name, "", "")
        families[before, after].append(number)
    found = []
    for (before, after), numbers in families.items():
        numbers.sort(key=lambda number: int(number or 0))
        first, last = numbers[0], numbers[-1]
        gapless = int(last or 0) - int(first or 0) + 1 == len(numbers)
        inner = f"{{{first}..{last}}}" if gapless and _padded(numbers) else "{" + ",".join(numbers) + "}"
        found.append((-len(numbers), before + (inner if len(numbers) > 1 else first) + after))
    return [pattern for _, pattern in sorted(found)]


def _padded(numbers: list[str]) -> bool:
    """Whether all are written as ``expand`` would: as wide as the first if that begins with a zero, else bare."""
    width = len(numbers[0]) if numbers[0].startswith("0") else 0
    return all(number == str(int(number)).zfill(width) for number in numbers)
