"""Attention maps, rollout, distance, entropy, and ablated attention heads equal slow, obvious computations."""

import math

import pytest
import torch
from timm.layers import Attention
from torch import nn

from headway.attention_viz.analysis import (
    attention_entropy,
    attention_head_importance,
    attention_rollout,
    attention_statistics,
    mean_attention_distance,
    patch_attention,
)
from headway.attention_viz.attention_hooks import (
    ablate_attention_head,
    attention_layers,
    attention_maps,
    trace_attention,
)
from headway.backbones.build import build_backbone
from headway.backbones.timm_vit import from_timm
from headway.nn.attention import set_attention_impl
from headway.protocol import Backbone, Features
from tests.errors import raises

TIMM = "timm:vit_tiny_patch16_224"


def vit(**choices):
    torch.manual_seed(0)
    return build_backbone("vit_nano", size=16, depth=2, **choices).double().eval()


def rand(*shape, seed=1):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def weights(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).mul(3).softmax(-1)


def hooks(network):
    return [hook for m in network.modules() for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]


@pytest.fixture(scope="module")
def timm_backbone():
    torch.manual_seed(0)
    backbone = build_backbone(TIMM, size=32)
    del backbone.network.blocks[2:]
    backbone.depth = 2
    return backbone.double().eval()


@pytest.mark.parametrize("impl", ["manual", "sdpa"])
@pytest.mark.parametrize("choices", [{}, {"class_token": True, "registers": 2}, {"pos_embed": "rotary"}], ids=str)
def test_hooks_record_every_step_and_are_removed(choices, impl):
    network, images = vit(**choices), rand(2, 3, 16, 16)
    set_attention_impl(network, impl)
    before = network(images).pooled
    network.train()
    maps = attention_maps(network, images)
    assert network.training and not hooks(network) and network.blocks[0].attention.impl == impl
    network.eval()
    assert torch.equal(network(images).pooled, before)
    assert maps.num_prefix_tokens == 3 * bool(choices.get("registers")) and maps.grid == (4, 4)
    for layer, found in enumerate(maps.weights):
        attention, x, trace, output = trace_attention(network, images, layer)
        assert found.shape == (2, 3, maps.num_prefix_tokens + 16, maps.num_prefix_tokens + 16)
        torch.testing.assert_close(found, trace.weights)
        torch.testing.assert_close(found.sum(-1), torch.ones_like(found[..., 0]))
        torch.testing.assert_close(trace.output, output)
        assert attention is network.blocks[layer].attention and x.shape == output.shape
    assert not hooks(network)


def test_timm_weights_equal_those_of_our_vit(timm_backbone):
    images = rand(1, 3, 32, 32)
    ours = from_timm(timm_backbone.network, timm_backbone.input_spec)
    fused = [attention.fused_attn for attention in attention_layers(timm_backbone)]
    maps, reference = attention_maps(timm_backbone, images), attention_maps(ours, images)
    assert maps.num_prefix_tokens == reference.num_prefix_tokens == 1 and maps.grid == reference.grid == (2, 2)
    for one, two in zip(maps.weights, reference.weights, strict=True):
        torch.testing.assert_close(one, two)
    attention, _, trace, output = trace_attention(timm_backbone, images, 1)
    torch.testing.assert_close(trace.weights, maps.weights[1])
    torch.testing.assert_close(trace.output, output)
    assert attention.qkv is timm_backbone.network.blocks[1].attn.qkv
    assert not hooks(timm_backbone) and [a.fused_attn for a in attention_layers(timm_backbone)] == fused


def test_other_attention_classes_of_timm():
    rotary = build_backbone("timm:eva02_tiny_patch14_224", size=28)
    maps = attention_maps(rotary, torch.rand(1, 3, 28, 28))
    assert maps.weights[0].shape == (1, 3, 5, 5)
    with raises("backbone-unsupported"):
        trace_attention(rotary, torch.rand(1, 3, 28, 28), 0)
    with raises("backbone-unsupported"):
        attention_maps(build_backbone("timm:resnet10t", size=32), torch.rand(1, 3, 32, 32))


class Windows(Backbone):
    """A network whose tokens attend within windows of two."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Attention(8, 2)])

    @property
    def block_list(self):
        return list(self.blocks)

    def forward(self, images):
        tokens = images.flatten(2).transpose(1, 2).repeat(1, 1, 8)[..., :8]  # B 4 8
        halves = self.blocks[0](tokens.unflatten(1, (2, 2)).flatten(0, 1)).unflatten(0, (-1, 2)).flatten(1, 2)
        return Features(halves.mean(1), halves, halves[:, :0], (2, 2))


def test_windows_are_refused():
    with raises("backbone-unsupported"):
        attention_maps(Windows(), torch.rand(1, 3, 2, 2))


def test_a_layer_that_is_not_there():
    with raises("value-out-of-range"):
        trace_attention(vit(), rand(1, 3, 16, 16), 2)


def test_rollout_is_the_product_of_half_attention_half_identity():
    layers = [weights(2, 3, 4, 4), weights(2, 3, 4, 4).flip(-1)]
    for image in range(2):
        product = torch.eye(4, dtype=torch.float64)
        for layer in layers:
            mean = sum(layer[image, head] for head in range(3)) / 3
            product = (0.5 * mean + 0.5 * torch.eye(4, dtype=torch.float64)) @ product
        torch.testing.assert_close(attention_rollout(layers)[image], product)
    torch.testing.assert_close(attention_rollout(layers).sum(-1), torch.ones(2, 4, dtype=torch.float64))


def test_distance_against_loops_and_entropy_at_its_ends():
    found, (rows, columns) = weights(2, 3, 7, 7), (2, 3)  # a prefix token before six patches
    for head in range(3):
        total = 0.0
        for image in range(2):
            for q in range(6):
                shares = found[image, head, 1 + q, 1:] / found[image, head, 1 + q, 1:].sum()
                for s in range(6):
                    distance = math.dist(divmod(q, columns), divmod(s, columns)) * 8
                    total += float(shares[s]) * distance / 12
        assert float(mean_attention_distance(found, (rows, columns), 8)[head]) == pytest.approx(total)
    uniform, single = torch.full((1, 1, 8, 8), 1 / 8), torch.eye(8)[None, None]
    assert attention_entropy(uniform).item() == pytest.approx(3) and attention_entropy(single).item() == 0
    assert mean_attention_distance(single, (2, 4), 5).item() == 0


def test_statistics_do_not_depend_on_the_batch():
    network, images = vit(class_token=True), rand(11, 3, 16, 16)
    together, singly = (
        attention_statistics(network, images),
        [attention_statistics(network, image[None]) for image in images],
    )
    for kind in ("distance", "entropy"):
        mean = torch.tensor([getattr(one, kind) for one in singly]).mean(0)
        torch.testing.assert_close(torch.tensor(getattr(together, kind)), mean)


def test_attention_of_one_token_and_of_all_patches():
    maps = weights(3, 6, 6)
    assert torch.equal(patch_attention(maps, 0, 2), maps[:, 0, 2:])
    torch.testing.assert_close(
        patch_attention(maps, None, 2), (maps[:, 2] + maps[:, 3] + maps[:, 4] + maps[:, 5])[:, 2:] / 4
    )


@pytest.mark.parametrize("kind", ["ours", "timm"])
def test_an_ablated_attention_head_has_zero_output_weights(kind, timm_backbone):
    network, images = (vit(), rand(2, 3, 16, 16)) if kind == "ours" else (timm_backbone, rand(1, 3, 32, 32))
    attention = attention_layers(network)[1]
    intact = network(images).pooled
    with ablate_attention_head(attention, 1):
        ablated = network(images).pooled
    assert torch.equal(network(images).pooled, intact) and not torch.allclose(ablated, intact)
    output = attention.output if kind == "ours" else attention.proj
    d = output.in_features // 3
    with torch.no_grad():
        saved = output.weight[:, d : 2 * d].clone()
        output.weight[:, d : 2 * d] = 0
        torch.testing.assert_close(network(images).pooled, ablated)
        output.weight[:, d : 2 * d] = saved


def test_importance_is_the_accuracy_lost():
    network, calls = vit(), []
    correct = torch.tensor([True] * 6 + [False] * 4)
    answers = iter([correct, *[correct] * 4, correct & (torch.arange(10) > 2), torch.ones(10, dtype=torch.bool)])
    found = attention_head_importance(network, lambda: next(answers), lambda done, of: calls.append((done, of)))
    means = [[round(cell.mean, 6) for cell in row] for row in found.accuracy_drop]
    assert found.accuracy == 60 and found.images == 10 and means == [[0, 0, 0], [0, 30, -40]]
    assert all(cell.low <= cell.mean <= cell.high for row in found.accuracy_drop for cell in row)
    assert calls == [(n, 6) for n in range(1, 7)]
