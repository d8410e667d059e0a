import pytest
import torch

from headway.metrics.linear_probe import (
    DEFAULT_INVERSE_L2,
    INVERSE_L2_GRID,
    fit_linear,
    linear_probe,
)


def blobs(count: int, dim: int, num_classes: int, distance: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    y = torch.arange(count) % num_classes
    return torch.randn(count, dim, generator=g) + distance * torch.randn(num_classes, dim, generator=g)[y], y


def test_float32_reaches_the_solution_of_float64(monkeypatch):
    x, y = blobs(400, 12, 3)
    float64 = fit_linear(x, y, 3, 0.1).logits(x).softmax(1)
    monkeypatch.setattr("headway.metrics.logistic_regression.MAX_FLOAT64_NUMEL", 0)
    float32 = fit_linear(x, y, 3, 0.1).logits(x).softmax(1)
    torch.testing.assert_close(float32, float64, atol=1e-3, rtol=0)


def test_scale_and_shift_of_features_change_nothing():
    x, y = blobs(120, 6, 3)
    moved = x * torch.logspace(-4, 4, 6) + 100 * torch.logspace(-4, 4, 6)
    here, there = fit_linear(x.double(), y, 3, 0.1), fit_linear(moved.double(), y, 3, 0.1)
    torch.testing.assert_close(there.logits(moved.double()), here.logits(x.double()), atol=1e-3, rtol=0)


def test_a_constant_coordinate_does_no_harm():
    x, y = blobs(60, 5, 2)
    padded = torch.cat([x, torch.full((60, 2), 7.3), torch.zeros(60, 1)], 1)
    torch.testing.assert_close(
        fit_linear(padded, y, 2, 1.0).logits(padded), fit_linear(x, y, 2, 1.0).logits(x), atol=1e-3, rtol=0
    )
    assert fit_linear(torch.ones(3, 5), torch.tensor([0, 1, 1]), 2, 1.0).logits(torch.ones(1, 5)).argmax() == 1
    constant = fit_linear(torch.ones(6, 3), torch.tensor([0, 0, 0, 0, 1, 1]), 2, 1.0)
    probs = constant.logits(torch.ones(1, 3)).softmax(1)
    torch.testing.assert_close(probs, torch.tensor([[4 / 6, 2 / 6]]), atol=1e-4, rtol=0)


def test_noise_gets_a_strong_penalty_and_signal_a_weak_one():
    x, y = blobs(600, 20, 3, distance=0.15)
    clear, labels = blobs(600, 20, 3, distance=3.0)
    assert linear_probe(x, y, 3)[1] < linear_probe(clear, labels, 3)[1]


def test_the_choice_is_a_function_of_labels_and_seed():
    x, y = blobs(90, 8, 3)
    first, second = linear_probe(x, y, 3, seed=4), linear_probe(x, y, 3, seed=4)
    assert first[1] == second[1]
    assert first[1] in INVERSE_L2_GRID
    assert torch.equal(first[0].weight, second[0].weight)
    assert first[0].weight.shape == (3, 8)
    assert first[0].weight.dtype == x.dtype


@pytest.mark.parametrize("labels_per_class", [1, 2, 3])
def test_very_few_labels(labels_per_class):
    x, y = blobs(4 * labels_per_class, 30, 4, distance=3.0)
    probe, chosen = linear_probe(x, y, 4)
    assert (probe.logits(x).argmax(1) == y).all()
    assert (chosen == DEFAULT_INVERSE_L2) or labels_per_class > 1


def test_a_class_without_labels_is_never_predicted():
    x, y = blobs(60, 5, 2)
    probe, _ = linear_probe(x, y * 2, 3)  # class 1 has no labels
    assert set(probe.logits(x).argmax(1).tolist()) == {0, 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([0, 1, 2])}, "labels must lie"),
        ({"labels": torch.tensor([0, 1])}, "features must be N D"),
        ({"features": torch.tensor([[1.0], [float("nan")], [0.0]])}, "NaN or infinity"),
        ({"inverse_l2": 0.0}, "must be positive"),
    ],
)
def test_invalid_arguments_are_refused(change, message):
    given = {"features": torch.randn(3, 1), "labels": torch.tensor([0, 1, 1]), "num_classes": 2, "inverse_l2": 1.0}
    with pytest.raises(ValueError, match=message):
        fit_linear(**(given | change))
