"""Prints the result of ``headway embed``."""

from headway.api.embed import EmbedResult
from headway.cli.console import print_line


def print_result(result: EmbedResult) -> None:
    """Print the result in a line."""
    print_line(f"{result.images:,} images x {result.embed_dim} features in {result.out}, {result.skipped:,} skipped")
