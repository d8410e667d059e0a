"""LoRA starts from the network's outputs, keeps its weights, and merges into linear maps with the same outputs."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from headway.downstream.finetuning.finetune import train_supervised
from headway.downstream.heads.recipes import LORA
from headway.downstream.labeled_images import LabeledImages
from headway.downstream.transfer import train_classifier
from headway.nn.lora import LoRALinear, add_lora, merge_lora
from headway.rng import seeded
from tests.errors import raises
from tests.small import LARGE, SIDE, make_images, quick_head, small_backbone


@pytest.fixture
def images():
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def learn(network: nn.Module) -> None:
    """Change the learned parameters, as training would."""
    for part in network.modules():
        if isinstance(part, LoRALinear):
            nn.init.normal_(part.lora_b, std=0.3)


def test_formula():
    base = nn.Linear(5, 4)
    lora = LoRALinear(base, lora_rank=2, alpha=6.0)
    learn(lora)
    x = torch.randn(7, 5)
    expected = torch.stack([row @ base.weight.T + base.bias + 6 / 2 * (lora.lora_b @ (lora.lora_a @ row)) for row in x])
    torch.testing.assert_close(lora(x), expected)
    torch.testing.assert_close(nn.functional.linear(x, lora.weight, lora.bias), expected)
    torch.testing.assert_close(lora.merged()(x), expected)


@pytest.mark.parametrize("name", ["vit", "timm:vit_tiny_patch16_224"])
def test_merged_equals_unmerged_and_the_base_is_kept(name, images):
    side = SIDE if name == "vit" else LARGE
    with seeded(0):
        network = small_backbone(name, side=side).eval()
    images = torch.rand(2, 3, side, side) if side != SIDE else images
    before, kept = network(images), copy.deepcopy(network.state_dict())
    adapted = add_lora(network, lora_rank=2, alpha=4.0)
    assert len(adapted) == 2 * network.depth and all("attn" in n or "attention" in n for n in adapted)
    trainable = [n for n, p in network.named_parameters() if p.requires_grad]
    assert trainable and all(n.endswith((".lora_a", ".lora_b")) for n in trainable)
    assert torch.equal(network(images).pooled, before.pooled)  # B is zero
    learn(network)
    unmerged = network(images)
    assert not torch.allclose(unmerged.pooled, before.pooled, atol=1e-3)
    bases = {n.replace(".base.", "."): t for n, t in network.state_dict().items() if "lora_" not in n}
    assert all(torch.equal(kept[n], t) for n, t in bases.items()) and kept.keys() == bases.keys()
    merge_lora(network)
    torch.testing.assert_close(network(images), unmerged, atol=1e-5, rtol=1e-5)
    assert network.state_dict().keys() == kept.keys()


def test_training_changes_head_and_lora_parameters_only():
    network, head = small_backbone(), nn.Linear(16, 2)
    observed = {}

    def observe(trained, _):
        observed.update({n: p.detach().clone() for n, p in trained.named_parameters()})

    before = copy.deepcopy(network.state_dict())
    config = replace(LORA, epochs=0, min_steps=3)
    data = LabeledImages(make_images(12), torch.arange(12) % 2, ("a", "b"), SIDE)
    tuned = train_supervised(network, head, data, config=config, callback=observe)
    for name, tensor in before.items():
        assert torch.equal(network.state_dict()[name], tensor)
        inside = observed.get(name, observed.get(f"{name.rpartition('.')[0]}.base.{name.rpartition('.')[2]}"))
        assert inside is None or torch.equal(inside, tensor)
    assert any(n.endswith(".lora_b") and t.abs().max() > 0 for n, t in observed.items())
    assert not any(isinstance(part, LoRALinear) for part in tuned.backbone.modules())
    moved = [n for n, t in tuned.backbone.state_dict().items() if not torch.equal(t, before[n])]
    assert moved and all("attention" in n and n.endswith("weight") for n in moved)


def test_networks_that_cannot_be_adapted_are_refused():
    with raises("backbone-unsupported"):
        add_lora(nn.Sequential(nn.Conv2d(3, 4, 1)))
    with raises("value-out-of-range"):
        add_lora(nn.Linear(2, 2), lora_rank=0)
    assert add_lora(nn.Sequential(nn.Linear(2, 2))) == ["0"]  # without attention all linear maps are adapted


def test_loaded_classifier_equals_the_one_in_memory(tmp_path):
    from headway.downstream.classifier import load_classifier

    images = make_images(12)
    data = LabeledImages(images, torch.arange(12) % 2, ("a", "b"), SIDE)
    tuned, _ = train_classifier(small_backbone(), data, quick_head("lora", steps=2))
    tuned.save(tmp_path / "m")
    assert torch.equal(load_classifier(tmp_path / "m").predict_proba(images), tuned.predict_proba(images))
