"""LoRA: starts from the network itself, leaves its weights alone, and merges into one that does the same."""

import copy

import pytest
import torch
from torch import nn

from headway.downstream.transfer import transfer
from headway.downstream.tune import LORA, replace, supervise
from headway.draws import seeded
from headway.errors import HeadwayError
from headway.nn.lora import LowRank, adapt, merge
from tests.small import LARGE, SIDE, pictures, small_backbone


@pytest.fixture
def images():
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def learn(network: nn.Module) -> None:
    """Move what is learned, as training would."""
    for part in network.modules():
        if isinstance(part, LowRank):
            nn.init.normal_(part.b, std=0.3)


def test_formula():
    base = nn.Linear(5, 4)
    low = LowRank(base, rank=2, alpha=6.0)
    learn(low)
    x = torch.randn(7, 5)
    expected = torch.stack([row @ base.weight.T + base.bias + 6 / 2 * (low.b @ (low.a @ row)) for row in x])
    torch.testing.assert_close(low(x), expected)
    torch.testing.assert_close(nn.functional.linear(x, low.weight, low.bias), expected)
    torch.testing.assert_close(low.merged()(x), expected)


@pytest.mark.parametrize("name", ["vit", "timm:vit_tiny_patch16_224"])
def test_merged_equals_unmerged_and_the_base_stays(name, images):
    side = SIDE if name == "vit" else LARGE
    with seeded(0):
        network = small_backbone(name, side=side).eval()
    images = torch.rand(2, 3, side, side) if side != SIDE else images
    before, kept = network(images), copy.deepcopy(network.state_dict())
    adapted = adapt(network, rank=2, alpha=4.0)
    assert len(adapted) == 2 * network.depth and all("attn" in n or "attention" in n for n in adapted)
    moving = [n for n, p in network.named_parameters() if p.requires_grad]
    assert moving and all(n.endswith((".a", ".b")) for n in moving)
    assert torch.equal(network(images).pooled, before.pooled)  # B is zero
    learn(network)
    unmerged = network(images)
    assert not torch.allclose(unmerged.pooled, before.pooled, atol=1e-3)
    bases = {n.replace(".base.", "."): t for n, t in network.state_dict().items() if not n.endswith((".a", ".b"))}
    assert all(torch.equal(kept[n], t) for n, t in bases.items()) and kept.keys() == bases.keys()
    merge(network)
    torch.testing.assert_close(network(images), unmerged, atol=1e-5, rtol=1e-5)
    assert network.state_dict().keys() == kept.keys()


def test_training_moves_head_and_low_ranks_alone():
    network, head = small_backbone(), nn.Linear(16, 2)
    watched = {}

    def watch(trained, _):
        watched.update({n: p.detach().clone() for n, p in trained.named_parameters()})

    before = copy.deepcopy(network.state_dict())
    choices = replace(LORA, epochs=0, least=3)
    labels = torch.arange(12) % 2
    tuned = supervise(network, head, pictures(12), labels, ("a", "b"), SIDE, choices=choices, watch=watch)
    for name, tensor in before.items():
        assert torch.equal(network.state_dict()[name], tensor)
        inside = watched.get(name, watched.get(f"{name.rpartition('.')[0]}.base.{name.rpartition('.')[2]}"))
        assert inside is None or torch.equal(inside, tensor)
    assert any(n.endswith(".b") and t.abs().max() > 0 for n, t in watched.items())
    assert not any(isinstance(part, LowRank) for part in tuned.backbone.modules())
    moved = [n for n, t in tuned.backbone.state_dict().items() if not torch.equal(t, before[n])]
    assert moved and all("attention" in n and n.endswith("weight") for n in moved)


def test_what_cannot_be_adapted_is_refused():
    with pytest.raises(HeadwayError, match="no linear maps"):
        adapt(nn.Sequential(nn.Conv2d(3, 4, 1)))
    with pytest.raises(HeadwayError, match="rank"):
        adapt(nn.Linear(2, 2), rank=0)
    assert adapt(nn.Sequential(nn.Linear(2, 2))) == ["0"]  # no attention: all of them


def test_a_saved_one_is_the_one_in_process(tmp_path):
    from headway.downstream.classifier import load_classifier

    images, labels = pictures(12), torch.arange(12) % 2
    choices = replace(LORA, epochs=0, least=2)
    tuned = transfer(small_backbone(), images, labels, ("a", "b"), SIDE, head="lora", fine_tune=choices)
    tuned.save(tmp_path / "m")
    assert torch.equal(load_classifier(tmp_path / "m").probabilities(images), tuned.probabilities(images))
