"""Claims: three verdicts, paired intervals, no selection bias, and no selection on the test set."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import norm

from headway.evaluation.significance import (
    Claim,
    best_on_folds,
    claim_sentence,
    leaderboard,
    make_claim,
    replicates,
    verdict_from_interval,
)
from headway.reports.leaderboard import remarks

SCRATCH = "from scratch"
OWN, DRAW, BOTH, NOISE = 0.5, 0.10, 0.06, 0.6
"""Standard deviations of a latent skill: of an image with a method, of a label draw for all methods and for one method,
and of one training. A standard deviation of 0.08 is about two points."""


class World(NamedTuple):
    """How much is repeated, and the standard deviations of pretraining seeds and of the difficulty of images."""

    seeds: int = 3
    draws: int = 2
    tasks: int = 4
    seed: float = 0.08
    image: float = 1.0
    images: int = 500
    held_out: int = 100

    def expected(self, skill):
        """Accuracy in percent over all seeds, draws and images."""
        variance = self.image**2 + OWN**2 + self.seed**2 + DRAW**2 + BOTH**2 + NOISE**2
        return 100 * norm.cdf(np.asarray(skill) / variance**0.5)


def experiment(rng, skills, world):
    """Correct answers and fold accuracies of methods with these skills; the first one trains from scratch."""
    k, (seeds, draws) = len(skills), world[:2]
    skill = np.asarray(skills)[:, None, None] + world.seed * rng.normal(size=(k, seeds, 1))
    skill = skill + DRAW * rng.normal(size=(1, seeds, draws)) + BOTH * rng.normal(size=(k, seeds, draws))  # k S R
    difficulty = world.image * rng.normal(size=(1, 1, 1, world.images)) + OWN * rng.normal(size=(k, 1, 1, world.images))
    correct = skill[..., None] + difficulty + NOISE * rng.normal(size=(k, seeds, draws, world.images)) > 0  # k S R n
    fold = norm.cdf(skill / (world.image**2 + OWN**2 + NOISE**2) ** 0.5)
    fold = rng.binomial(world.held_out, fold) / world.held_out  # k S R
    names = [SCRATCH, *(f"task {i}" for i in range(1, k))]
    tables = {name: replicates(correct[i]) for i, name in enumerate(names)}
    return tables, {name: replicates(fold[i][..., None])[:, 0] for i, name in enumerate(names) if i}


def truth(skills, found, world):
    """Expected gain in points of the selected methods."""
    gains = world.expected(skills) - world.expected(skills[0])
    return float(np.mean([gains[int(name.removeprefix("task "))] for name in found.chosen_methods]))


@pytest.mark.parametrize(
    ("world", "least"),
    [
        (World(), 60),
        (World(draws=4, tasks=2, image=0.3, images=1000), 60),
        (World(tasks=8, seed=0.2, images=1000, held_out=300), 20),
        (World(seeds=5, draws=1, tasks=8), 60),
        (World(seeds=2, tasks=2), 0),  # t with one degree of freedom
        (World(seeds=1, draws=4, tasks=3, seed=0.0), 60),  # it claims nothing about other seeds
    ],
)
def test_200_nulls_and_200_effects(world, least):
    """At most 18 nulls end other than in "cannot tell"; the intervals hold at least 180 of the effects."""
    rng = np.random.default_rng(0)
    false, covered, seen = 0, 0, 0
    for _ in range(200):
        base = rng.uniform(-1.0, 0.3)
        false += make_claim(*experiment(rng, [base] * (world.tasks + 1), world), SCRATCH).verdict != "cannot tell"
        better = [base, *(base + rng.uniform(-0.1, 0.4) for _ in range(world.tasks))]
        found = make_claim(*experiment(rng, better, world), SCRATCH)
        covered += found.low <= truth(better, found, world) <= found.high
        seen += found.verdict == "helped"
    assert false <= 18
    assert covered >= 180
    assert seen >= least, "an interval that never excludes zero is of no use"


def test_without_cross_fitting_the_claim_would_be_biased():
    """The best of eight, selected on folds of the same replicates that it is tested on, has a positive bias."""
    rng, naive, cross_fitted = np.random.default_rng(1), 0.0, 0.0
    for _ in range(150):
        correct, folds = experiment(rng, [-0.3] * 9, World(draws=1, images=200, held_out=400))
        best = best_on_folds(folds, range(3))
        naive += 100 * float((correct[best] - correct[SCRATCH]).mean())
        cross_fitted += make_claim(correct, folds, SCRATCH).points
    assert naive / 150 > 0.8 and abs(cross_fitted / 150) < 0.6


def test_a_task_that_destroys_features_never_helps():
    rng = np.random.default_rng(2)
    ends = [make_claim(*experiment(rng, [-0.2, -1.0, -1.1], World()), SCRATCH).verdict for _ in range(40)]
    assert "helped" not in ends and ends.count("hurt") > 20


def test_permuted_test_labels_change_no_selection():
    rng = np.random.default_rng(3)
    correct, folds = experiment(rng, [-0.2, -0.1, 0.1, 0.0], World())
    first = make_claim(correct, folds, SCRATCH)
    other = make_claim({name: 1 - table[:, rng.permutation(500)] for name, table in correct.items()}, folds, SCRATCH)
    assert (first.method, first.chosen_methods) == (other.method, other.chosen_methods) and first.points != other.points


def test_replicates_are_seeds_or_the_draws_of_the_only_one():
    table = np.random.default_rng(0).integers(0, 2, (3, 2, 5))
    np.testing.assert_allclose(replicates(table), (table[:, 0] + table[:, 1]) / 2)
    np.testing.assert_array_equal(replicates(table[:1]), table[0])
    with pytest.raises(ValueError, match="seeds x draws"):
        replicates(table[0])


def test_rows_are_sorted_and_paired():
    correct, _ = experiment(np.random.default_rng(4), [-0.2, 0.3], World())
    best, base = leaderboard(correct, SCRATCH)
    assert best["name"] == "task 1" and base["gain"] is None and best["low"] < best["accuracy"] < best["high"]
    assert best["gain"]["points"] == pytest.approx(best["accuracy"] - base["accuracy"])


def test_the_claim_as_a_sentence():
    claim = Claim(7.2, 4.8, 9.6, verdict_from_interval(4.8, 9.6), 2.4, "jigsaw", ("jigsaw",))
    words = ("training from scratch", "10 labels per class")
    assert claim_sentence(claim, *words) == (
        "jigsaw helped: +7.2 points (95 %: 4.8 to 9.6) over training from scratch at 10 labels per class"
    )
    assert "jigsaw hurt: -7.2" in claim_sentence(
        claim._replace(points=-7.2, low=-9.6, high=-4.8, verdict=verdict_from_interval(-9.6, -4.8)), *words
    )
    open_ = claim._replace(points=1.0, low=-2.0, high=4.0, verdict=verdict_from_interval(-2.0, 4.0), half_width=3.0)
    assert claim_sentence(open_, *words).startswith("cannot tell below 3.0 points: more labels or seeds would")
    split = claim._replace(chosen_methods=("jigsaw", "rotation", "jigsaw"))
    assert claim_sentence(split, *words).startswith("jigsaw or rotation helped: +7.2"), "the gain belongs to both"


@pytest.mark.parametrize(
    ("seeds", "draws", "words"),
    [(3, 1, "3 draws of labels"), (3, 1, "choice of the other seeds"), (1, 2, "choice of the other draws"),
     (1, 1, "1 draw of labels"), (1, 1, "does not extend to other labels")],
)  # fmt: skip
def test_the_remark_describes_the_comparison(seeds, draws, words):
    details = {"seeds": seeds, "draws": draws, "test_images": 9, "drawn_fraction": 0.1, "shuffled_labels": False}
    rows = [{"name": "a", "accuracy": 50.0}]
    assert words in next(remarks({"details": details, "rows": rows, "gain": {"method": "a"}}))
