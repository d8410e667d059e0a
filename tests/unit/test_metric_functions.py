import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.metrics.intervals import accuracy, accuracy_interval, paired_interval, wilson_interval
from headway.metrics.knn import knn_scores
from headway.metrics.representation import alignment, effective_rank, feature_std, uniformity


def test_accuracy_is_in_per_cent():
    assert accuracy(torch.tensor([True, True, False, True])) == 75.0


def test_wilson_equals_its_formula():
    k, n, z = 37, 50, 1.959963984540054
    center, half = (k + z * z / 2) / (n + z * z), z * (k * (n - k) / n + z * z / 4) ** 0.5 / (n + z * z)
    assert wilson_interval(k, n) == pytest.approx((100 * (center - half), 100 * (center + half)))
    assert wilson_interval(50, 50)[1] == pytest.approx(100)
    assert 90 < wilson_interval(50, 50)[0] < 100
    with pytest.raises(ValueError, match="k"):
        wilson_interval(51, 50)


@pytest.mark.parametrize("draw_std", [0.0, 0.02, 0.1])
def test_the_paired_interval_covers_label_draws_and_images(draw_std):
    """Crossed effects: 95 % intervals contain the true mean in at least 93 % of 300 experiments."""
    rng, covered, truth = np.random.default_rng(0), 0, 0.05
    for _ in range(300):
        draws = draw_std * rng.normal(size=(5, 1))
        images = 0.2 * rng.normal(size=(1, 1000))
        _, low, high = paired_interval(truth + draws + images + 0.4 * rng.normal(size=(5, 1000)))
        covered += low <= 100 * truth <= high
    assert covered >= 0.93 * 300


def test_one_draw_gives_an_interval_over_images():
    values = np.random.default_rng(1).integers(-1, 2, (1, 400)).astype(float)
    mean, low, high = paired_interval(values)
    half = 1.9659 * 100 * values.std(ddof=1) / 20  # t with 399 degrees of freedom
    assert mean == pytest.approx(100 * values.mean())
    assert (low, high) == pytest.approx((mean - half, mean + half), rel=1e-4)


def test_without_variance_the_interval_is_as_wide_as_wilsons():
    low = wilson_interval(10, 10)[0]
    assert paired_interval(np.ones((3, 10)), signed=False) == pytest.approx((100, low, 100))
    assert paired_interval(np.zeros((3, 10)), signed=False) == pytest.approx((0, 0, 100 - low))
    assert paired_interval(np.zeros((3, 10))) == pytest.approx((0, low - 100, 100 - low))
    with pytest.raises(ValueError, match="label draws x test images"):
        paired_interval(np.ones(10))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 6), columns=st.integers(2, 40))
def test_the_interval_contains_the_mean_and_changes_sign_with_it(seed, rows, columns):
    values = np.random.default_rng(seed).integers(-1, 2, (rows, columns))
    mean, low, high = paired_interval(values)
    assert -100 <= low <= mean <= high <= 100
    assert paired_interval(-values) == pytest.approx((-mean, -high, -low), abs=1e-9)


def test_collapsed_and_healthy_features():
    same = torch.ones(50, 8)
    gaussian = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
    assert effective_rank(same) == pytest.approx(1)
    assert effective_rank(gaussian) == pytest.approx(8, abs=0.1)
    assert feature_std(same) == pytest.approx(0, abs=1e-9)
    assert feature_std(gaussian) == pytest.approx(1, abs=0.03)
    assert alignment(gaussian, gaussian) == 0
    assert alignment(gaussian, -gaussian) == pytest.approx(4)
    assert uniformity(same) == pytest.approx(0, abs=1e-9)
    assert uniformity(gaussian) < -2


def test_knn_in_chunks_equals_knn_at_once(monkeypatch):
    x = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    y = torch.arange(60) % 4
    whole = knn_scores(x[:60], y, x[60:], 4)
    monkeypatch.setattr("headway.metrics.knn.MAX_SIMILARITIES", 60 * 7)
    torch.testing.assert_close(knn_scores(x[:60], y, x[60:], 4), whole)
    torch.testing.assert_close(whole.sum(1), torch.ones(40))


def test_knn_refuses_invalid_arguments():
    x, y = torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match="one label per row"):
        knn_scores(x[:0], y[:0], x, 2)
    with pytest.raises(ValueError, match="must be positive"):
        knn_scores(x, y, x, 2, k=0)


def test_images_of_one_group_count_as_one_observation():
    animals = np.repeat(np.arange(8), 50)
    correct = (np.random.default_rng(3).random(8) < 0.6)[
        animals
    ]  # an animal is recognized in all its images or in none
    of_animals = paired_interval(correct[::50][None].astype(float), signed=False)
    assert paired_interval(correct[None].astype(float), signed=False, groups=animals) == pytest.approx(of_animals)
    assert accuracy_interval(torch.from_numpy(correct), animals) == pytest.approx(of_animals[1:])
    singles = np.arange(400)
    values = np.random.default_rng(4).integers(-1, 2, (3, 400)).astype(float)
    assert paired_interval(values, groups=singles[::-1]) == pytest.approx(paired_interval(values))
    assert accuracy_interval(torch.from_numpy(correct), singles) == wilson_interval(int(correct.sum()), 400)
    assert paired_interval(values, groups=np.zeros(400))[1:] == (-100, 100), "one group does not show how groups differ"


def test_intervals_over_groups_of_unequal_size_keep_their_coverage():
    """30 groups of 2 to 40 images, 3 draws: 95 % intervals contain the mean in at least 92 % of 300 experiments."""
    rng, covered, ungrouped, truth = np.random.default_rng(5), 0, 0, 0.05
    for _ in range(300):
        animals = np.repeat(np.arange(30), rng.integers(2, 41, 30))
        values = truth + 0.02 * rng.normal(size=(3, 1)) + 0.3 * rng.normal(size=30)[animals]
        values = values + 0.3 * rng.normal(size=(3, len(animals)))
        mean, low, high = paired_interval(values, groups=animals)
        assert mean == pytest.approx(100 * values.mean())
        covered += low <= 100 * truth <= high
        _, low, high = paired_interval(values)
        ungrouped += low <= 100 * truth <= high
    assert covered >= 0.92 * 300 and ungrouped < 0.8 * 300, "without groups the intervals are too narrow"
