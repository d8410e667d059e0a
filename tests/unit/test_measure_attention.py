"""What is said of attention is what the network did: weights, rollout, distance, entropy, and a silenced head."""

import math

import pytest
import torch
from timm.layers import Attention
from torch import nn

from headway.backbones.load import build_backbone
from headway.backbones.timm_vit import from_timm
from headway.errors import HeadwayError
from headway.measure.attention import distance, entropy, importance, profile, rollout, seen_from
from headway.measure.listen import attentions_of, look, silenced, steps_of
from headway.nn.attention import use_form
from headway.protocol import Features

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
def theirs():
    torch.manual_seed(0)
    backbone = build_backbone(TIMM, size=32)
    del backbone.network.blocks[2:]
    backbone.depth = 2
    return backbone.double().eval()


@pytest.mark.parametrize("form", ["plain", "fused"])
@pytest.mark.parametrize("choices", [{}, {"class_token": True, "registers": 2}, {"positions": "rotary"}], ids=str)
def test_looking_sees_every_step_and_leaves_no_trace(choices, form):
    network, images = vit(**choices), rand(2, 3, 16, 16)
    use_form(network, form)
    before = network(images).pooled
    network.train()
    seen = look(network, images)
    assert network.training and not hooks(network) and network.blocks[0].attention.form == form
    network.eval()
    assert torch.equal(network(images).pooled, before)
    assert seen.prefix == 3 * bool(choices.get("registers")) and seen.grid == (4, 4)
    for layer, found in enumerate(seen.weights):
        attention, x, steps, output = steps_of(network, images, layer)
        assert found.shape == (2, 3, seen.prefix + 16, seen.prefix + 16)
        torch.testing.assert_close(found, steps.weights)
        torch.testing.assert_close(found.sum(-1), torch.ones_like(found[..., 0]))
        torch.testing.assert_close(steps.output, output)
        assert attention is network.blocks[layer].attention and x.shape == output.shape
    assert not hooks(network)


def test_timms_weights_are_those_of_the_same_network_as_ours(theirs):
    images = rand(1, 3, 32, 32)
    ours = from_timm(theirs.network, theirs.inputs)
    fused = [attention.fused_attn for attention in attentions_of(theirs)]
    seen, reference = look(theirs, images), look(ours, images)
    assert seen.prefix == reference.prefix == 1 and seen.grid == reference.grid == (2, 2)
    for one, two in zip(seen.weights, reference.weights, strict=True):
        torch.testing.assert_close(one, two)
    attention, _, steps, output = steps_of(theirs, images, 1)
    torch.testing.assert_close(steps.weights, seen.weights[1])
    torch.testing.assert_close(steps.output, output)
    assert attention.qkv is theirs.network.blocks[1].attn.qkv
    assert not hooks(theirs) and [a.fused_attn for a in attentions_of(theirs)] == fused


def test_other_kinds_of_timms_attention():
    rotary = build_backbone("timm:eva02_tiny_patch14_224", size=28)
    seen = look(rotary, torch.rand(1, 3, 28, 28))
    assert seen.weights[0].shape == (1, 3, 5, 5)
    with pytest.raises(HeadwayError, match="is not plain multi-head attention"):
        steps_of(rotary, torch.rand(1, 3, 28, 28), 0)
    with pytest.raises(HeadwayError, match="resnet10t has no attention to look at: take a ViT"):
        look(build_backbone("timm:resnet10t", size=32), torch.rand(1, 3, 32, 32))


class Windows(nn.Module):
    """A network whose tokens attend within windows of two."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Attention(8, 2)])

    def forward(self, images):
        tokens = images.flatten(2).transpose(1, 2).repeat(1, 1, 8)[..., :8]  # B 4 8
        halves = self.blocks[0](tokens.unflatten(1, (2, 2)).flatten(0, 1)).unflatten(0, (-1, 2)).flatten(1, 2)
        return Features(halves.mean(1), halves, halves[:, :0], (2, 2))


def test_windows_are_refused():
    with pytest.raises(HeadwayError, match="not every token of Windows attends to all others"):
        look(Windows(), torch.rand(1, 3, 2, 2))


def test_a_layer_that_is_not_there():
    with pytest.raises(HeadwayError, match="no layer 2: this network has layers 0 to 1"):
        steps_of(vit(), rand(1, 3, 16, 16), 2)


def test_rollout_is_the_product_of_half_attention_half_identity():
    layers = [weights(2, 3, 4, 4), weights(2, 3, 4, 4).flip(-1)]
    for picture in range(2):
        product = torch.eye(4, dtype=torch.float64)
        for layer in layers:
            mean = sum(layer[picture, head] for head in range(3)) / 3
            product = (0.5 * mean + 0.5 * torch.eye(4, dtype=torch.float64)) @ product
        torch.testing.assert_close(rollout(layers)[picture], product)
    torch.testing.assert_close(rollout(layers).sum(-1), torch.ones(2, 4, dtype=torch.float64))


def test_distance_against_loops_and_entropy_at_its_ends():
    found, (rows, columns) = weights(2, 3, 7, 7), (2, 3)  # a prefix token before six patches
    for head in range(3):
        total = 0.0
        for picture in range(2):
            for q in range(6):
                shares = found[picture, head, 1 + q, 1:] / found[picture, head, 1 + q, 1:].sum()
                for s in range(6):
                    away = math.dist(divmod(q, columns), divmod(s, columns)) * 8
                    total += float(shares[s]) * away / 12
        assert float(distance(found, (rows, columns), 8)[head]) == pytest.approx(total)
    even, single = torch.full((1, 1, 8, 8), 1 / 8), torch.eye(8)[None, None]
    assert entropy(even).item() == pytest.approx(3) and entropy(single).item() == 0
    assert distance(single, (2, 4), 5).item() == 0


def test_profile_does_not_depend_on_how_pictures_are_grouped():
    network, images = vit(class_token=True), rand(11, 3, 16, 16)
    whole, alone = profile(network, images), [profile(network, image[None]) for image in images]
    for kind in ("distance", "entropy"):
        mean = torch.tensor([getattr(one, kind) for one in alone]).mean(0)
        torch.testing.assert_close(torch.tensor(getattr(whole, kind)), mean)


def test_what_is_seen_from_a_token_or_from_all():
    maps = weights(3, 6, 6)
    assert torch.equal(seen_from(maps, 0, 2), maps[:, 0, 2:])
    torch.testing.assert_close(seen_from(maps, None, 2), (maps[:, 2] + maps[:, 3] + maps[:, 4] + maps[:, 5])[:, 2:] / 4)


@pytest.mark.parametrize("kind", ["ours", "timm"])
def test_a_silenced_attention_head_is_one_whose_way_out_is_zero(kind, theirs):
    network, images = (vit(), rand(2, 3, 16, 16)) if kind == "ours" else (theirs, rand(1, 3, 32, 32))
    attention = attentions_of(network)[1]
    whole = network(images).pooled
    with silenced(attention, 1):
        silent = network(images).pooled
    assert torch.equal(network(images).pooled, whole) and not torch.allclose(silent, whole)
    output = attention.output if kind == "ours" else attention.proj
    width = output.in_features // 3
    with torch.no_grad():
        kept = output.weight[:, width : 2 * width].clone()
        output.weight[:, width : 2 * width] = 0
        torch.testing.assert_close(network(images).pooled, silent)
        output.weight[:, width : 2 * width] = kept


def test_importance_counts_what_is_lost():
    network, told = vit(), []
    right = torch.tensor([True] * 6 + [False] * 4)
    answers = iter([right, *[right] * 4, right & (torch.arange(10) > 2), torch.ones(10, dtype=torch.bool)])
    found = importance(network, lambda: next(answers), lambda done, of: told.append((done, of)))
    means = [[round(cell.mean, 6) for cell in row] for row in found.loss]
    assert found.accuracy == 60 and found.pictures == 10 and means == [[0, 0, 0], [0, 30, -40]]
    assert all(cell.low <= cell.mean <= cell.high for row in found.loss for cell in row)
    assert told == [(n, 6) for n in range(1, 7)]
