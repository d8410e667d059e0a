"""Prints the result of ``headway predict``."""

from headway.api.predict import PredictResult
from headway.cli.console import print_line
from headway.downstream.classifier import UNSURE


def print_result(result: PredictResult) -> None:
    """Print the number of images of each label."""
    for label, count in sorted([*result.labels.items(), (UNSURE, result.unsure)], key=lambda item: -item[1]):
        if count:
            print_line(f"{count:>8,}  {label}")
    print_line(f"{result.images:,} images classified, {result.skipped:,} skipped; the table is {result.out}")
