"""Prints the result of ``headway check``."""

from typing import Any

from headway.api.check import CheckResult
from headway.cli.console import print_line
from headway.reports.data_check import escape_unprintable

MAX_NAMES_PRINTED = 5
"""File names printed of each kind of finding; --json and the page hold more."""


def print_result(result: CheckResult) -> None:
    """Print the counts, then the findings with example files."""
    facts = result.to_dict()
    for part, title in ((facts, ""), (result.test, "test set: ")):
        if part:
            for line in summary(part):
                print_line(title + line)
    if result.pretrain_storage:
        print_line(result.pretrain_storage)
    print_line("")
    for sentence in result.findings:
        print_line(f"- {escape_unprintable(sentence)}")
    for title, names in _examples(facts):
        print_line(f"\n{title}")
        for name in names[:MAX_NAMES_PRINTED]:
            print_line(f"  {name}")
        if len(names) > MAX_NAMES_PRINTED:
            hint = "" if result.out else " (--json names them all)"
            print_line(f"  ... and {len(names) - MAX_NAMES_PRINTED:,} more{hint}")
    if not result.findings:
        print_line("No findings.")
    if result.out:
        print_line(f"\nThe page is {result.out}")


def exit_code(result: CheckResult) -> int:
    """0: no findings; 1: findings; 2: no readable image."""
    return 2 if not result.read else 1 if result.findings else 0


def summary(data_facts: dict[str, Any]) -> list[str]:
    """The counts of one data set, in a few lines."""
    ignored = len(data_facts["skipped"]) - data_facts["unreadable"]
    lines = [f"{data_facts['read']:,} images read of {data_facts['files']:,} files in {data_facts['data']}; "
             f"{data_facts['unreadable']:,} unreadable, {ignored:,} ignored"]  # fmt: skip
    if not data_facts["read"]:
        return lines
    width, height = data_facts["sizes"]["width"], data_facts["sizes"]["height"]
    formats = ", ".join(f"{name} {count:,}" for name, count in data_facts["formats"].items())
    lines.append(
        f"{formats}; {width['min']} to {width['max']} pixels wide (median {width['median']:g}), "
        f"{height['min']} to {height['max']} high (median {height['median']:g})"
    )
    channels = ", ".join(f"{count:,} of {number}" for number, count in data_facts["channels"].items())
    bits = ", ".join(f"{count:,} of {number}" for number, count in data_facts["bits"].items())
    mean, std = (" ".join(f"{value:.3f}" for value in data_facts[name]) for name in ("mean", "std"))
    lines.append(f"channels: {channels}; bits per channel: {bits}; mean {mean}, standard deviation {std} (white is 1)")
    if data_facts["orientation"]:
        lines.append(f"rotated or mirrored by their EXIF orientation: {sum(data_facts['orientation'].values()):,}")
    if data_facts["classes"]:
        counts = data_facts["classes"].values()
        lines.append(f"{len(counts)} classes of {min(counts):,} to {max(counts):,} images")
    if data_facts["groups"]:
        lines.append(f"{data_facts['groups']:,} groups; a split keeps each group on one side")
    return lines


def _examples(facts: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """File names of each kind of finding."""

    def escaped(key: str) -> list[str]:
        return list(map(escape_unprintable, facts[key]))

    def with_text(rows: list[dict[str, str]], key: str) -> list[str]:
        return [f"{escape_unprintable(row['file'])}: {row[key]}" for row in rows]

    unreadable, ignored = facts["skipped"][: facts["unreadable"]], facts["skipped"][facts["unreadable"] :]
    leakage = facts.get("leakage") or {"exact": [], "near": []}
    exact = [" = ".join(map(escape_unprintable, family)) for family in facts["exact_duplicates"]]
    near = [" ~ ".join(map(escape_unprintable, family)) for family in facts["near_duplicates"]]
    in_both = [f"{escape_unprintable(row['test'])} {sign} {escape_unprintable(row['data'])}"
               for sign, rows in (("=", leakage["exact"]), ("~", leakage["near"])) for row in rows]  # fmt: skip
    found = [
        ("unreadable:", with_text(unreadable, "reason")), ("ignored:", with_text(ignored, "reason")),
        ("exact duplicates (equal in every pixel):", exact), ("near-duplicates:", near),
        ("in the test set and in the data:", in_both), ("very small:", escaped("tiny")),
        ("extreme aspect ratio:", escaped("extreme_aspect")), ("nearly uniform color:", escaped("nearly_uniform")),
        ("notes:", with_text(facts["notes"], "note")),
    ]  # fmt: skip
    return [(title, names) for title, names in found if names]
