"""The result of a comparison as plain data, and remarks on how to read its leaderboard."""

from collections.abc import Iterator
from typing import Any

from headway.evaluation.comparison.compare import Comparison
from headway.evaluation.comparison.runner import ComparisonRunner
from headway.evaluation.methods import RAW_PIXELS, UNTRAINED
from headway.evaluation.significance import claim_to_dict
from headway.reports.steps import comparison_steps, slowed_sentence


def comparison_to_dict(comparison: Comparison, runner: ComparisonRunner) -> dict[str, Any]:
    """The result of a comparison as plain data.

    Returns:
        rows, gain, verdict, sentence, continued_baselines, steps, unequal.
    """
    scope, steps = claim_scope(runner.config.labels_per_class, runner.config.seeds), comparison_steps(runner)
    return {
        "rows": comparison.rows,
        **claim_to_dict(comparison.claim, "training from scratch", scope),
        "continued_baselines": {
            name: claim_to_dict(claim, f"{name} as published", scope)
            for name, claim in comparison.continued_baselines.items()
        },
        "steps": steps,
        "unequal": slowed_sentence(steps["pretraining"]),
    }


def remarks(answer: dict[str, Any]) -> Iterator[str]:
    """What a reader of the leaderboard should know."""
    details, rows = answer["details"], {row["name"]: row["accuracy"] for row in answer["rows"]}
    seeds, draws = details["seeds"], details["draws"]
    scope = (
        f"{seeds} pretraining seeds, {plural(seeds * draws, 'draw')} of labels"
        if seeds > 1
        else f"{plural(draws, 'draw')} of labels for this one pretraining"
    )
    unit = "seed" if seeds > 1 else "draw"
    selection = (
        "accounts for the choice of the best method, made on folds of training labels: "
        f"each {unit} is evaluated with the choice of the other {unit}s."
        if max(seeds, draws) > 1
        else "is of the method chosen on folds of the same labels, and does not extend to other labels."
    )
    yield (
        f"Intervals cover {scope} and {details['test_images']:,} test images. Each row has its own; that of the "
        f"verdict {selection}"
    )
    if details["drawn_fraction"] > 0.5:
        yield (
            f"Every draw takes {100 * details['drawn_fraction']:.0f} % of the labeled images, so draws overlap: "
            "the intervals say little about other labels."
        )
    best = rows[answer["gain"]["method"]]
    better = [name for name, accuracy in rows.items() if accuracy > best and name in (RAW_PIXELS, UNTRAINED)]
    if better:
        yield f"Yet a linear layer on {' and on '.join(better)} does better than {answer['gain']['method']}."
    if details["shuffled_labels"]:
        yield "The labels were shuffled, so there was nothing to gain."


def claim_scope(labels_per_class: int, seeds: int) -> str:
    """The conditions for which the result holds."""
    one_run = ", for this one pretraining of each task" if seeds == 1 else ""
    return f"{plural(labels_per_class, 'label')} per class{one_run}"


def plural(count: int, what: str) -> str:
    """A number with its noun."""
    return f"{count} {what}{'s' * (count > 1)}"
