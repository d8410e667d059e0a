"""Prints the result of ``headway export``."""

from headway.api.export import ExportResult
from headway.cli.console import print_line


def print_result(result: ExportResult) -> None:
    """Print the description of the file in a few lines."""
    spec, classes = result.input, f" of {', '.join(result.classes)}" if result.classes else ""
    shape = " x ".join(map(str, spec["shape"]))
    print_line(f"in   {spec['name']}: {spec['type']}, {shape}, in 0 to 1; {spec['preprocessing']}")
    print_line(f"out  {', '.join(result.outputs)}{classes}")
    print_line(f"{result.out}, {result.bytes / 1e6:.1f} MB; its outputs equal Headway's")
