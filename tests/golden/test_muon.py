"""Muon against torch's, and its orthogonalization against a slow direct version and the true polar factor."""

import pytest
import torch
from torch import nn

from headway.config import Optim, Rule
from headway.downstream.finetuning.layer_decay import layer_decay_rules
from headway.protocol import TrainingClock
from headway.train.engine.muon import NEWTON_SCHULZ_COEFFICIENTS, NEWTON_SCHULZ_STEPS, can_orthogonalize, orthogonalize
from headway.train.engine.optimizer import make_optimizer, set_lr_and_weight_decay
from tests.errors import raises
from tests.small import small_train_module

SHAPES = [(16, 16), (16, 40), (40, 16), (64, 576), (96, 32)]


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalize_equals_the_steps_on_the_matrix_itself(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    x = matrix / matrix.norm()
    for _ in range(NEWTON_SCHULZ_STEPS):
        x = a * x + b * (x @ x.T) @ x + c * (x @ x.T) @ (x @ x.T) @ x
    assert (orthogonalize(matrix) - x).abs().max() < 1e-9
    assert (orthogonalize(matrix.float()) - x).abs().max() < 1e-3
    assert (orthogonalize(matrix.float(), use_bf16=True) - x).norm() < 0.1 * x.norm()


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalize_keeps_directions_and_equalizes_singular_values(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    lengths = torch.linalg.svdvals(orthogonalize(matrix))
    u, old, v = torch.linalg.svd(matrix, full_matrices=False)
    large = lengths[old > 0.1 * old.max()]
    assert large.min() > 0.6 and lengths.max() < 1.3
    inner = u.T @ orthogonalize(matrix) @ v.T
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-9


@pytest.mark.parametrize("matrix", [torch.zeros(16, 20), torch.ones(16, 20), torch.full((20, 16), 1e-30)])
@pytest.mark.parametrize("half", [False, True])
def test_orthogonalize_stays_finite_on_matrices_of_low_rank(matrix, half):
    found = orthogonalize(matrix, half)
    assert found.dtype == torch.float32 and torch.isfinite(found).all() and torch.linalg.matrix_norm(found, 2) < 1.3


@pytest.mark.parametrize("half", [False, True])
def test_steps_are_those_of_torch(half):
    torch.manual_seed(0)
    ours = nn.Linear(48, 32, bias=False)
    theirs = nn.Linear(48, 32, bias=False)
    theirs.load_state_dict(ours.state_dict())
    optim = Optim(method="muon", lr=0.02, weight_decay=0.1, warmup_fraction=0.0, min_lr_ratio=1.0, max_grad_norm=0.0)
    mine = make_optimizer(ours, optim, use_bf16=half)
    its = torch.optim.Muon(theirs.parameters(), lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    begun = ours.weight.detach().clone()
    for step in range(10):
        gradient = torch.randn(32, 48)
        set_lr_and_weight_decay(mine, optim, 256, TrainingClock(step, 10, 0.0))
        for network, optimizer in ((ours, mine), (theirs, its)):
            network.weight.grad = gradient.clone()
            optimizer.step()
    moved = (ours.weight - begun).norm()
    assert (ours.weight - theirs.weight).norm() < 0.02 * moved  # torch's steps are in bfloat16


def test_which_parameters_muon_updates():
    network = nn.ModuleDict(
        {
            "convolve": nn.Conv2d(3, 16, 3),
            "wide": nn.Linear(16, 20),
            "few": nn.Linear(16, 4),
            "norm": nn.LayerNorm(16),
            "prototypes": nn.Linear(16, 32, bias=False),
        }
    )
    optim = Optim(method="muon", rules=(Rule("prototypes"), Rule("norm|bias", wd_scale=0.0)))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = make_optimizer(network, optim).param_groups
    moved = {names[id(p)] for group in groups if group["orthogonal"] for p in group["params"]}
    assert moved == {"convolve.weight", "wide.weight"} and not can_orthogonalize(torch.zeros(400))
    assert sum(len(group["params"]) for group in groups) == len(names)


def test_rules_for_learning_rates_leave_matrices_to_muon():
    module = small_train_module("simclr")
    optimizer = make_optimizer(module, Optim(method="muon", rules=layer_decay_rules(module.backbone, 0.8)))
    by_muon = {
        id(p): group["lr_scale"] for group in optimizer.param_groups if group["orthogonal"] for p in group["params"]
    }
    assert (
        set(by_muon) == {id(p) for p in module.parameters() if can_orthogonalize(p)} and len(set(by_muon.values())) > 2
    )


def test_other_parameters_are_updated_as_by_adamw():
    torch.manual_seed(0)
    networks = [nn.Linear(32, 24), nn.Linear(32, 24)]
    networks[1].load_state_dict(networks[0].state_dict())
    for network, method in zip(networks, ("adamw", "muon"), strict=True):
        optimizer = make_optimizer(network, Optim(method=method, lr=0.01))
        for seed in range(3):
            torch.manual_seed(seed)
            network(torch.randn(8, 32)).square().sum().backward()
            network.weight.grad.zero_()
            optimizer.step()
            optimizer.zero_grad()
    assert torch.equal(networks[0].bias, networks[1].bias)


def test_unknown_methods_are_refused():
    with raises("unknown-name"):
        Optim(method="moun")
