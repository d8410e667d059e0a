"""Prints the result of ``headway cluster``."""

from rich.table import Table

from headway.api.cluster import ClusterResult
from headway.cli.console import print_line, print_table


def print_result(result: ClusterResult) -> None:
    """Print the table."""
    table = Table("k-means on", "NMI", "ARI", "accuracy, %")
    for row in result.rows:
        std = f" ± {row['accuracy_std']:.1f}" if row["accuracy_std"] is not None else ""
        table.add_row(row["name"], f"{row['nmi']:.3f}", f"{row['ari']:.3f}", f"{row['accuracy']:.1f}{std}")
    print_table(table)
    print_line(
        f"{result.images:,} images in {result.clusters} clusters, as many as there are classes; mean (and "
        f"standard deviation) over {result.repeats} repeats. K-means used no label. Accuracy: with the best "
        f"one-to-one assignment of clusters to classes; for classes of equal size, chance is slightly above "
        f"{100 / result.clusters:.1f} %."
    )
