"""Prints the result of ``headway show``."""

from headway.api.show import ShowResult
from headway.cli.console import print_line


def print_result(result: ShowResult) -> None:
    """Print the result in a line."""
    print_line(f"{result.task} on {result.images} images: open {result.out}")
