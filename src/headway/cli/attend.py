"""Prints the result of ``headway attend``."""

from headway.api.attend import AttendResult, AttendStepsResult
from headway.cli.console import print_line


def print_result(result: AttendResult | AttendStepsResult) -> None:
    """Print the result in a few lines."""
    if isinstance(result, AttendStepsResult):
        head = f"layer {result.layer}, attention head {result.attention_head}"
        return print_line(f"{head}, {result.token}: open {result.out}")
    heads = result.attention_heads
    print_line(f"{result.images} images, {result.layers} layers of {heads} attention heads")
    for title, rows in (("distance in pixels", result.distance), ("entropy in bits", result.entropy)):
        print_line(f"{title}, by layer: " + ", ".join(f"{sum(row) / heads:.1f}" for row in rows))
    if result.importance:
        drops = [(drop, i + 1, j + 1) for i, row in enumerate(result.importance) for j, drop in enumerate(row)]
        drop, i, j = max(drops)
        print_line(
            f"accuracy {result.accuracy:.1f} % on {result.held_out} held-out images; the largest drop "
            f"({drop:+.1f} points) is without attention head {j} of layer {i}"
        )
    print_line(f"open {result.out}")
