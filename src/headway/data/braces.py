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
    ordered = sorted(families.items(), key=lambda item: (-len(item[1]), item[0]))
    return [f"{before}{_brace(numbers)}{after}" for (before, after), numbers in ordered]


def _brace(numbers: list[str]) -> str:
    if len(numbers) == 1:
        return numbers[0]
    numbers = sorted(numbers, key=int)
    span = f"{{{numbers[0]}..{numbers[-1]}}}"
    gapless = int(numbers[-1]) - int(numbers[0]) + 1 == len(numbers)
    return span if gapless and expand(span) == numbers else "{" + ",".join(numbers) + "}"
