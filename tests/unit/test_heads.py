"""Heads that are trained by steps, layers that move less or not at all, and what the task makes of labels."""

import copy
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from headway.downstream.heads import AttentivePooling, fresh_head, head_from, read
from headway.downstream.layers import depths, hold_first, layer_rules
from headway.downstream.supervised import Supervised, SupervisedTask, rest
from headway.downstream.transfer import check
from headway.downstream.tune import ALONE, FINE_TUNE, RECIPES, supervise
from headway.draws import Draws, seeded
from headway.errors import HeadwayError
from headway.measure.balance import class_weights
from headway.protocol import Batch, Clock
from headway.train.optim import make_optimizer
from tests.small import LARGE, SIDE, pictures, small_backbone

LABELS = torch.arange(12) % 2


def test_attentive_pooling_equals_a_loop():
    with seeded(0):
        head = AttentivePooling(128, 3).eval()
        patches = torch.randn(2, 5, 128)
    keys, values = head.attention.key(head.norm(patches)), head.attention.value(head.norm(patches))
    query = head.attention.query(head.query)[0]
    said = []
    for b in range(2):
        seen = []
        for h in range(2):  # two attention heads of width 64
            part = slice(64 * h, 64 * (h + 1))
            scores = torch.stack([query[part] @ keys[b, n, part] / 8 for n in range(5)]).softmax(0)
            seen.append(sum(scores[n] * values[b, n, part] for n in range(5)))
        said.append(head.output(head.attention.output(torch.cat(seen))))
    torch.testing.assert_close(head(patches), torch.stack(said), atol=1e-5, rtol=1e-5)
    shuffled = patches[:, torch.randperm(5)]
    torch.testing.assert_close(head(shuffled), head(patches))


@pytest.mark.parametrize("kind", ["attentive", "mlp", "linear"])
def test_heads_alone_leave_the_backbone_to_the_bit_and_are_rebuilt_from_weights(kind):
    network = small_backbone()
    head = fresh_head(kind, 16, 2, seed=0)
    assert torch.equal(next(fresh_head(kind, 16, 2, seed=0).parameters()), next(head.parameters()))
    trained = supervise(
        network, head, pictures(12), LABELS, ("a", "b"), SIDE, choices=replace(ALONE, epochs=0, least=3), kind=kind
    )
    for before, after in zip(network.state_dict().values(), trained.backbone.state_dict().values(), strict=True):
        assert torch.equal(before, after)
    assert all(not torch.equal(b, a) for b, a in zip(head.parameters(), trained.head.parameters(), strict=True))
    again = head_from(kind, trained.head.state_dict(), 2)
    features = network.eval()(torch.rand(2, 3, SIDE, SIDE))
    assert torch.equal(read(again, features), read(trained.head, features))


@pytest.mark.parametrize(
    "name", ["vit", "timm:vit_tiny_patch16_224", "timm:resnet10t", "timm:convnext_atto", "timm:poolformer_s12"]
)
def test_depths_rise_from_the_stem_to_the_last_block(name):
    network = small_backbone(name, side=SIDE if name == "vit" else LARGE)
    places = depths(network)
    assert places.keys() == {n for n, _ in network.named_parameters()}
    assert min(places.values()) == 0 and set(places.values()) == set(range(max(places.values()) + 1))
    rules = layer_rules(network, 0.5)
    last = max(places.values())
    for parameter, depth in places.items():
        rule = next(rule for rule in rules if re.search(rule.pattern, f"backbone.{parameter}"))
        assert rule.rate == 0.5 ** (last + 1 - depth)
        assert rule.decay == (0.0 if parameter.endswith("bias") else rule.decay)
    if name == "vit":
        assert places["stem.project.weight" if "stem.project.weight" in places else next(iter(places))] == 0
        assert places["positions"] == 0 and places["blocks.0.norm1.weight"] == 1 and places["norm.weight"] == last == 2


def test_parts_are_numbered_where_timm_does_not_group_them():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.zeros(1))
            self.stem, self.norm_pre = nn.Linear(2, 2), nn.LayerNorm(2)
            self.nothing, self.stages = nn.Identity(), nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
            self.join, self.norm = nn.Linear(2, 2), nn.LayerNorm(2)

    backbone = nn.ModuleDict({"network": Network(), "finish": nn.LayerNorm(2)})
    places = {name.removesuffix(".weight"): depth for name, depth in depths(backbone).items() if "bias" not in name}
    assert places == {
        "network.position": 0, "network.stem": 0, "network.norm_pre": 0, "network.stages.0": 1, "network.stages.1": 2,
        "network.stages.2": 3, "network.join": 4, "network.norm": 4, "finish": 4,
    }  # fmt: skip


def test_rates_reach_the_optimizer():
    network = small_backbone()
    learner = nn.ModuleDict({"backbone": network, "task": nn.ModuleDict({"head": nn.Linear(16, 2)})})
    rules = (*layer_rules(network, 0.5), *FINE_TUNE.optim.rules)
    groups = make_optimizer(learner, replace(FINE_TUNE.optim, rules=rules)).param_groups
    rates = {id(p): group["rate"] for group in groups for p in group["params"]}
    assert rates[id(network.positions)] == 0.125 and rates[id(network.blocks[0].mlp.widen.weight)] == 0.25
    assert rates[id(network.norm.weight)] == 0.5 and rates[id(learner["task"]["head"].weight)] == 1.0


@pytest.mark.parametrize(("name", "blocks"), [("vit", 1), ("timm:resnet10t", 1), ("timm:poolformer_s12", 1)])
def test_only_the_last_blocks_move(name, blocks):
    side = SIDE if name == "vit" else LARGE
    with seeded(0):
        network = small_backbone(name, side=side)
    places, width = depths(network), network.embed_dim
    choices = replace(FINE_TUNE, epochs=0, least=2, blocks=blocks)
    images = pictures(8, side)
    trained = supervise(network, nn.Linear(width, 2), images, LABELS[:8], ("a", "b"), side, choices=choices)
    after = trained.backbone.state_dict()
    for parameter, tensor in network.named_parameters():
        assert torch.equal(tensor, after[parameter]) == (places[parameter] <= max(places.values()) - blocks), parameter
    still = [n for n, _ in network.named_buffers() if n.startswith("network.conv1")]
    assert all(torch.equal(network.state_dict()[n], after[n]) for n in still)  # a still batch norm forgets nothing
    assert all(p.requires_grad for p in trained.backbone.parameters()) and next(network.parameters()).requires_grad
    with pytest.raises(HeadwayError, match="--blocks"):
        hold_first(network, 99)


@pytest.mark.parametrize("head", ["knn", "linear", "attentive", "mlp"])
def test_a_head_that_leaves_the_backbone_asks_for_no_depths(head):
    unknown = nn.Linear(2, 2)
    check(unknown, head, RECIPES.get(head, FINE_TUNE), several=False, folds=0)
    with pytest.raises(AttributeError):
        depths(unknown)


def test_what_stands_still_rests():
    network = small_backbone(drop_path=0.5).train()
    hold_first(network, 1)
    rest(network)
    assert network.training and network.blocks[1].training and not network.blocks[0].training
    network.requires_grad_(False)
    rest(network)
    assert not network.training


def outcome(labels, balance, smoothing=0.1):
    with seeded(0):
        network, head = small_backbone(), nn.Linear(16, 3 if labels.dim() == 1 else labels.shape[1])
    task = SupervisedTask(head, labels, SIDE, Supervised(balance=balance, smoothing=smoothing))
    batch = Batch(pictures(6), torch.arange(6))
    views = task.views(batch, Draws(0, torch.arange(6)))
    logits = head(network(views.images).pooled).double()
    return float(task(network, views, Clock(0, 1, 0.0)).loss.detach()), logits.detach()


@pytest.mark.parametrize("balance", [False, True])
def test_loss_of_one_label_equals_a_loop(balance):
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    loss, logits = outcome(labels, balance)
    total = 0.0
    for i, y in enumerate(labels.tolist()):
        log_p = logits[i].log_softmax(0)
        part = -sum((0.9 * (k == y) + 0.1 / 3) * float(log_p[k]) for k in range(3))
        total += part * (6 / (3 * [3, 2, 1][y]) if balance else 1.0)
    assert loss == pytest.approx(total / 6, rel=1e-5)


@pytest.mark.parametrize("balance", [False, True])
def test_loss_of_several_labels_equals_a_loop(balance):
    labels = torch.tensor([[1, 0], [1, 1], [0, 0], [1, 0], [1, 1], [0, 0.0]])
    loss, logits = outcome(labels, balance)
    has = [4, 2]
    total = 0.0
    for i in range(6):
        for k in range(2):
            y, p = float(labels[i, k]), float(logits[i, k].sigmoid())
            q = 0.9 * y + 0.05
            weight = (6 / (2 * has[k]) if y else 6 / (2 * (6 - has[k]))) if balance else 1.0
            total -= weight * (q * torch.tensor(p).log() + (1 - q) * torch.tensor(1 - p).log())
    assert loss == pytest.approx(float(total) / 12, rel=1e-5)


def test_weights_of_classes():
    assert class_weights(torch.tensor([0, 0, 0, 2])).tolist() == [4 / 6, 0.0, 2.0]  # nobody is of class 1
    weights = class_weights(torch.tensor([[1.0, 1], [0, 1], [0, 1], [0, 1]]))
    assert weights.tolist() == [[2.0, 1.0], [4 / 6, 1.0]]  # all have the second: nothing to balance


def test_accumulated_batches_equal_whole_ones_with_weighted_classes():
    from headway.protocol import Learner
    from headway.train.loop import fit
    from headway.train.plan import Plan

    weights = []
    for accumulate in (1, 3):
        with seeded(0):
            task = SupervisedTask(nn.Linear(16, 3), torch.arange(12) % 5 % 3, SIDE, Supervised(balance=True))
            learner = Learner(copy.deepcopy(small_backbone()), task)
        fit(learner, pictures(12), Plan(steps=4, batch=9, accumulate=accumulate, precision="float64"), FINE_TUNE.optim)
        weights.append(torch.cat([p.detach().flatten() for p in learner.parameters()]))
    torch.testing.assert_close(*weights, atol=1e-10, rtol=0)
