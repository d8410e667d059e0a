"""Claims: three-valued, paired, honest about the best of many, and blind to the test set where they choose."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import norm

from headway.reports.leaderboard import remarks
from headway.verdict.claim import Claim, best_on_folds, claim, leaderboard, replicates, sentence, verdict_of

SCRATCH = "from scratch"
OWN, DRAW, BOTH, NOISE = 0.5, 0.10, 0.06, 0.6
"""Spreads of a latent skill: a picture's quirk with a contender, luck of a label draw for everybody and for one
contender, and of one training. A spread of 0.08 is about two points."""


class World(NamedTuple):
    """How much is repeated, and how much the luck of a pretraining seed and the difficulty of a picture matter."""

    seeds: int = 3
    draws: int = 2
    tasks: int = 4
    seed: float = 0.08
    picture: float = 1.0
    pictures: int = 500
    held: int = 100

    def expected(self, skill):
        """Accuracy in per cent over all seeds, draws and pictures."""
        spread = self.picture**2 + OWN**2 + self.seed**2 + DRAW**2 + BOTH**2 + NOISE**2
        return 100 * norm.cdf(np.asarray(skill) / spread**0.5)


def experiment(rng, skills, world):
    """Right/wrong tables and fold scores of contenders of these latent skills; the first is training from scratch."""
    k, (seeds, draws) = len(skills), world[:2]
    luck = np.asarray(skills)[:, None, None] + world.seed * rng.normal(size=(k, seeds, 1))
    luck = luck + DRAW * rng.normal(size=(1, seeds, draws)) + BOTH * rng.normal(size=(k, seeds, draws))  # k S R
    hard = world.picture * rng.normal(size=(1, 1, 1, world.pictures)) + OWN * rng.normal(size=(k, 1, 1, world.pictures))
    right = luck[..., None] + hard + NOISE * rng.normal(size=(k, seeds, draws, world.pictures)) > 0  # k S R n
    fold = norm.cdf(luck / (world.picture**2 + OWN**2 + NOISE**2) ** 0.5)
    fold = rng.binomial(world.held, fold) / world.held  # k S R
    names = [SCRATCH, *(f"task {i}" for i in range(1, k))]
    tables = {name: replicates(right[i]) for i, name in enumerate(names)}
    return tables, {name: replicates(fold[i][..., None])[:, 0] for i, name in enumerate(names) if i}


def truth(skills, found, world):
    """Expected gain in points of what was chosen."""
    gains = world.expected(skills) - world.expected(skills[0])
    return float(np.mean([gains[int(name.removeprefix("task "))] for name in found.chosen]))


@pytest.mark.parametrize(
    ("world", "least"),
    [
        (World(), 60),
        (World(draws=4, tasks=2, picture=0.3, pictures=1000), 60),
        (World(tasks=8, seed=0.2, pictures=1000, held=300), 20),
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
        false += claim(*experiment(rng, [base] * (world.tasks + 1), world), SCRATCH).verdict != "cannot tell"
        better = [base, *(base + rng.uniform(-0.1, 0.4) for _ in range(world.tasks))]
        found = claim(*experiment(rng, better, world), SCRATCH)
        covered += found.low <= truth(better, found, world) <= found.high
        seen += found.verdict == "helped"
    assert false <= 18
    assert covered >= 180
    assert seen >= least, "an interval that never tells is no use"


def test_claiming_the_winner_on_its_own_seeds_would_be_noticed():
    """The best of eight by folds of the very replicates it is claimed on: luck is claimed with it."""
    rng, naive, honest = np.random.default_rng(1), 0.0, 0.0
    for _ in range(150):
        right, folds = experiment(rng, [-0.3] * 9, World(draws=1, pictures=200, held=400))
        winner = best_on_folds(folds, range(3))
        naive += 100 * float((right[winner] - right[SCRATCH]).mean())
        honest += claim(right, folds, SCRATCH).points
    assert naive / 150 > 0.8 and abs(honest / 150) < 0.6


def test_a_task_that_destroys_features_never_helps():
    rng = np.random.default_rng(2)
    ends = [claim(*experiment(rng, [-0.2, -1.0, -1.1], World()), SCRATCH).verdict for _ in range(40)]
    assert "helped" not in ends and ends.count("hurt") > 20


def test_permuted_test_labels_change_no_choice():
    rng = np.random.default_rng(3)
    right, folds = experiment(rng, [-0.2, -0.1, 0.1, 0.0], World())
    first = claim(right, folds, SCRATCH)
    other = claim({name: 1 - table[:, rng.permutation(500)] for name, table in right.items()}, folds, SCRATCH)
    assert (first.contender, first.chosen) == (other.contender, other.chosen) and first.points != other.points


def test_replicates_are_seeds_or_the_draws_of_the_only_one():
    table = np.random.default_rng(0).integers(0, 2, (3, 2, 5))
    np.testing.assert_allclose(replicates(table), (table[:, 0] + table[:, 1]) / 2)
    np.testing.assert_array_equal(replicates(table[:1]), table[0])
    with pytest.raises(ValueError, match="seeds x draws"):
        replicates(table[0])


def test_rows_are_sorted_and_paired():
    right, _ = experiment(np.random.default_rng(4), [-0.2, 0.3], World())
    best, base = leaderboard(right, SCRATCH)
    assert best["name"] == "task 1" and base["gain"] is None and best["low"] < best["accuracy"] < best["high"]
    assert best["gain"]["points"] == pytest.approx(best["accuracy"] - base["accuracy"])


def test_one_plain_sentence():
    found = Claim(7.2, 4.8, 9.6, verdict_of(4.8, 9.6), 2.4, "jigsaw", ("jigsaw",))
    words = ("training from scratch", "10 labels a class")
    assert sentence(found, *words) == (
        "jigsaw helped: +7.2 points (95 %: 4.8 to 9.6) over training from scratch at 10 labels a class"
    )
    assert "jigsaw hurt: -7.2" in sentence(
        found._replace(points=-7.2, low=-9.6, high=-4.8, verdict=verdict_of(-9.6, -4.8)), *words
    )
    open_ = found._replace(points=1.0, low=-2.0, high=4.0, verdict=verdict_of(-2.0, 4.0), below=3.0)
    assert sentence(open_, *words).startswith("cannot tell below 3.0 points: more labels or seeds would")
    split = found._replace(chosen=("jigsaw", "rotation", "jigsaw"))
    assert sentence(split, *words).startswith("jigsaw or rotation helped: +7.2"), "the number belongs to both"


@pytest.mark.parametrize(
    ("seeds", "draws", "words"),
    [(3, 1, "3 draws of labels"), (3, 1, "folds of other seeds"), (1, 2, "folds of other draws"),
     (1, 1, "1 draw of labels"), (1, 1, "says nothing about other labels")],
)  # fmt: skip
def test_the_remark_says_what_was_done(seeds, draws, words):
    details = {"seeds": seeds, "draws": draws, "test_pictures": 9, "drawn_share": 0.1, "shuffled_labels": False}
    rows = [{"name": "a", "accuracy": 50.0}]
    assert words in next(remarks({"details": details, "rows": rows, "gain": {"contender": "a"}}))
