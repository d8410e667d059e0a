"""Prints the result of ``headway demo``."""

from rich.console import Console
from rich.table import Table

from headway.api.demo import DemoResult
from headway.reports.demo_outputs import OUTPUT_FILES, SYNTHETIC_DATA, sentence


def print_result(result: DemoResult) -> None:
    """Print the table, the gain in one sentence, and the commands to continue with."""
    console, details, gain = Console(highlight=False, markup=False), result.details, result.gain
    table = Table("", "accuracy, %", "95 %", title=f"{details['labels_per_class']} labels per class")
    for row in result.rows:
        table.add_row(row["name"], f"{row['accuracy']:.1f}", f"{row['low']:.1f} to {row['high']:.1f}")
    console.print(table)
    console.print(sentence(gain, details, result.steps))
    console.print(f"\nEverything is in {result.out}:")
    for name, description in OUTPUT_FILES.items():
        console.print(f"  {name:<22}{description}")
    console.print(
        "\nContinue with your own images (photos: any folder; labeled: one folder per class):"
        if details["data"] == SYNTHETIC_DATA else "\nContinue with these images, and with others (photos):"
    )  # fmt: skip
    for command in details["commands"]:
        console.print(f"  {command}", soft_wrap=True)
