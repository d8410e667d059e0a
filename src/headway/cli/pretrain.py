"""Prints the result of ``headway pretrain``."""

from headway.api.pretrain import PretrainResult
from headway.cli.console import print_line


def print_result(result: PretrainResult) -> None:
    """Print the result in two lines."""
    print_line(
        f"{result.task}: {result.steps} steps in {result.seconds:.0f} s "
        f"({result.images_per_second:,.0f} images/s), loss {result.loss:.3f}; the run is in {result.run}"
    )
    print_line(f"next: headway transfer {result.run} --data LABELED --head linear --out MODEL")
