"""Prints the result of ``headway curve``."""

from rich.table import Table

from headway.api.curve import CurveResult
from headway.cli.console import print_line, print_table
from headway.reports.curve_files import INTERVAL_NOTE, METHODS
from headway.reports.steps import steps_sentence
from headway.train.run_dir.seen_images import transductive_note


def print_result(result: CurveResult) -> None:
    """Print the table."""
    title = f"accuracy in percent against labels per class ({result.head} head)"
    table = Table("per class", "labels", *METHODS, "gain", title=title)
    row_of = {(row["labels_per_class"], row["name"]): row for row in result.rows}
    for gain in result.gains:
        rows = [row_of[gain["labels_per_class"], name] for name in METHODS]
        numbers = [f"{row['accuracy']:.1f}\n{row['low']:.1f} to {row['high']:.1f}" for row in rows]
        difference = f"{gain['points']:+.1f}\n{gain['low']:.1f} to {gain['high']:.1f}"
        table.add_row(str(gain["labels_per_class"]), f"{rows[0]['labels']:,}", *numbers, difference)
    print_table(table)
    print_line(INTERVAL_NOTE.format(result.test_images) + " Gain: over training from scratch, paired.")
    pretraining = result.steps["pretraining"]
    named = [{"name": "of this run", **pretraining}] if pretraining else []
    print_line(steps_sentence(named, result.steps["on_labels"]))
    if result.unequal:
        print_line(result.unequal)
    if remark := transductive_note(result.transductive, result.test_images):
        print_line(remark)
    if result.out:
        print_line(f"In {result.out}: curve.csv, curve.svg, report.json.")
