"""Prints the result of ``headway rank``."""

from rich.table import Table

from headway.api.rank import RankResult
from headway.cli.console import print_line, print_table


def print_result(result: RankResult) -> None:
    """Print the order, and how reliable it is."""
    correlations = result.correlations
    has_labels = correlations is not None
    table = Table("")
    table.add_column("run", overflow="fold")
    for column in ("LiDAR", "RankMe", "alpha", *(("linear probe, %", "95 %") if has_labels else ())):
        table.add_column(column, no_wrap=True)
    for i, row in enumerate(result.rows, 1):
        alpha = "-" if row["alpha"] is None else f"{row['alpha']:.2f}"
        probe = [f"{row['accuracy']:.1f}", f"{row['low']:.1f} to {row['high']:.1f}"] if has_labels else []
        table.add_row(str(i), row["run"], f"{row['lidar']:.1f}", f"{row['rankme']:.1f}", alpha, *probe)
    print_table(table)
    print_line(f"Best first by {result.by}. LiDAR and RankMe: higher is better; alpha: nearer to 1.")
    for row in result.reference:
        where = f"{row['data']}, {row['cpu_seconds']:g} CPU seconds per run, {row['tasks']} tasks"
        print_line(f"Measured on {where}: {correlation_sentence(row['spearman'], row['runs'])}")
    if correlations is not None:
        print_line("Here: " + correlation_sentence(correlations, result.n))


def correlation_sentence(spearman: dict[str, float | None], num_runs: int) -> str:
    """How well the metrics order runs of known accuracy."""
    if all(value is None for value in spearman.values()):
        return f"{num_runs} runs are too few, or too similar, to measure how well these metrics order them."
    numbers = ", ".join(f"{name} {value:+.2f}" for name, value in spearman.items() if value is not None)
    chance = min(1.96 / (num_runs - 1) ** 0.5, 1.0)
    return (
        f"Spearman's rank correlation with the linear probe over {num_runs} runs: {numbers} (of alpha's nearness to "
        f"1). By chance it lies within {chance:.2f} of 0 in 95 of 100 cases."
    )
