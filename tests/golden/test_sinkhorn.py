"""Balanced assignments equal loops, also at extremes and over processes."""

import math

import pytest
import torch

from headway.distributed import rank
from headway.losses.sinkhorn import sinkhorn

CUTS = {2: [0, 5, 7], 3: [0, 4, 4, 7]}  # uneven; the second of three processes has no row


def scores():
    return torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).clamp(-1, 1)


def part_of(world):
    start, end = CUTS[world][rank() : rank() + 2]
    return sinkhorn(scores()[start:end])


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_against_loops(iterations):
    q = [[math.exp(value / 0.05) for value in row] for row in scores().tolist()]
    for _ in range(iterations):
        columns = [sum(row[k] for row in q) for k in range(4)]
        q = [[row[k] / columns[k] / 4 for k in range(4)] for row in q]
        q = [[value / sum(row) / 7 for value in row] for row in q]
    expected = torch.tensor([[value / sum(row) for value in row] for row in q], dtype=torch.float64)
    assert torch.allclose(sinkhorn(scores(), 0.05, iterations), expected, atol=1e-12)


def test_many_iterations_balance_exactly():
    shares = sinkhorn(scores(), 0.5, 200)
    assert torch.allclose(shares.sum(1), torch.ones(7, dtype=torch.float64))
    assert torch.allclose(shares.sum(0), torch.full((4,), 7 / 4, dtype=torch.float64))


def test_scores_for_one_prototype_are_still_balanced():
    crowded = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)) * 0.01
    crowded[:, 3] += 1
    assert sinkhorn(crowded, num_iterations=0).mean(0)[3] > 0.99
    assert sinkhorn(crowded).mean(0).max() < 0.2


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_finite_at_extremes_and_not_rounded_by_autocast(scale):
    extreme = (torch.randn(6, 5, generator=torch.Generator().manual_seed(0)) * scale).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        shares = sinkhorn(extreme.bfloat16())
    assert shares.dtype == torch.float32 and not shares.requires_grad
    assert torch.isfinite(shares).all() and torch.allclose(shares.sum(1), torch.ones(6), atol=1e-5)


@pytest.mark.parametrize("world", CUTS)
def test_processes_equal_one_with_unequal_shares(world, workers):
    together = torch.cat(workers(world).run(part_of, world))
    assert torch.allclose(together, sinkhorn(scores()), atol=1e-12)
