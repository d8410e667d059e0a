"""Shell-style brace patterns: 'x-{0..2}.tar' and '{a,b}.tar', with any number of braces."""

import itertools
import re
from collections import defaultdict

from headway.errors import HeadwayError

MAX_NAMES = 100_000
"""A pattern may expand to at most this many names."""


def expand_braces(pattern: str) -> list[str]:
    """Expand a pattern to names; '{00..10}' keeps its leading zeros.

    Raises:
        HeadwayError: The pattern expands to more than MAX_NAMES names.
    """
    choices: list[list[str]] = []
    for part in re.split(r"(\{[^{}]*\})", pattern):
        numbers = re.fullmatch(r"\{(\d{1,18})\.\.(\d{1,18})\}", part)
        if numbers:
            first, last = int(numbers[1]), int(numbers[2])
            if abs(last - first) >= MAX_NAMES:
                raise HeadwayError("value-unreadable", f"'{pattern}' expands to more than {MAX_NAMES:,} names")
            width = len(numbers[1]) if numbers[1].startswith("0") else 0
            step = 1 if last >= first else -1
            choices.append([str(number).zfill(width) for number in range(first, last + step, step)])
        else:
            choices.append(part[1:-1].split(",") if part.startswith("{") and "," in part else [part])
    names = ["".join(parts) for parts in itertools.islice(itertools.product(*choices), MAX_NAMES + 1)]
    if len(names) > MAX_NAMES:
        raise HeadwayError("value-unreadable", f"'{pattern}' expands to more than {MAX_NAMES:,} names")
    return names


def to_brace_patterns(names: list[str]) -> list[str]:
    """Brace patterns that cover these names, in descending order of names covered.

    For example, t-0.tar, t-1.tar, x.tar become t-{0..1}.tar, x.tar.
    """
    numbers_by_affix: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in names:
        match = re.fullmatch(r"(.*?)(\d+)(\D*)", name)
        before, number, after = match.groups() if match else (name, "", "")
        numbers_by_affix[before, after].append(number)
    ordered = sorted(numbers_by_affix.items(), key=lambda item: (-len(item[1]), item[0]))
    return [f"{before}{_brace_group(numbers)}{after}" for (before, after), numbers in ordered]


def _brace_group(numbers: list[str]) -> str:
    if len(numbers) == 1:
        return numbers[0]
    numbers = sorted(numbers, key=int)
    sequence = f"{{{numbers[0]}..{numbers[-1]}}}"
    gapless = int(numbers[-1]) - int(numbers[0]) + 1 == len(numbers)
    return sequence if gapless and expand_braces(sequence) == numbers else "{" + ",".join(numbers) + "}"
