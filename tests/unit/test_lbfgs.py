"""L-BFGS finds the minimum, and remembers."""

from collections import deque

import pytest
import torch

from headway.measure.lbfgs import LENGTH, minimise


def quadratic(seed: int, size: int = 30, spread: float = 3.0):
    """A quadratic with eigenvalues from 10^-spread to 1, its minimum, and a list that counts calls."""
    g = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(size, size, generator=g, dtype=torch.float64))[0]
    matrix = basis @ torch.diag(torch.logspace(-spread, 0, size, dtype=torch.float64)) @ basis.T
    lowest, calls = torch.randn(size, generator=g, dtype=torch.float64), []

    def function(point):
        calls.append(1)
        slope = matrix @ (point - lowest)
        return float((point - lowest) @ slope / 2), slope

    return function, lowest, calls


def test_it_finds_the_minimum_of_what_bends_unevenly():
    function, lowest, _ = quadratic(0)
    found = minimise(function, torch.zeros(30, dtype=torch.float64), 1e-9)
    torch.testing.assert_close(found, lowest, atol=1e-5, rtol=0)


def test_a_memory_of_a_like_problem_saves_steps():
    function, _, calls = quadratic(1)
    start, memory = torch.zeros(30, dtype=torch.float64), deque(maxlen=LENGTH)
    minimise(function, start, 1e-6, memory)
    alone, remembered = len(calls), len(memory)
    minimise(function, start + 0.1, 1e-6, memory)
    assert remembered == LENGTH and len(calls) - alone < alone


def test_a_memory_that_misleads_is_forgotten_and_steps_are_shortened():
    memory = deque([(torch.tensor([1.0], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64))])

    def steep(point):  # a step by minus the gradient leads far beyond the minimum
        return float(50 * point.square().sum()), 100 * point

    found = minimise(steep, torch.ones(1, dtype=torch.float64), 1e-8, memory)
    assert float(found) == pytest.approx(0, abs=1e-8) and all(float(s @ y) > 0 for s, y in memory)


def test_where_numbers_hold_no_better_point_it_stops():
    calls = []

    def noisy(point):
        calls.append(1)
        return float(len(calls)), torch.ones_like(point)

    start = torch.zeros(2, dtype=torch.float64)
    assert torch.equal(minimise(noisy, start, 1e-9), start) and len(calls) < 30
