"""Heads that are trained by steps, layer-wise learning rates, frozen layers, and the supervised task."""

import copy
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from headway.backbones.timm_adapter import TimmBackbone
from headway.downstream.finetuning.finetune import train_supervised
from headway.downstream.finetuning.layer_decay import freeze_all_but_last_blocks, layer_decay_rules
from headway.downstream.finetuning.supervised import SupervisedTask, eval_frozen_modules
from headway.downstream.heads.layers import AttentivePooling, apply_head
from headway.downstream.heads.recipes import FINE_TUNE, HEAD_ONLY, SupervisedConfig
from headway.downstream.heads.registry import HEADS
from headway.downstream.labeled_images import LabeledImages
from headway.downstream.targets import MULTILABEL, SINGLE
from headway.downstream.transfer import check_transfer
from headway.metrics.class_weights import class_weights
from headway.protocol import Batch, TrainingClock
from headway.rng import SampleRNG, seeded
from headway.train.engine.optimizer import make_optimizer
from tests.errors import raises
from tests.small import LARGE, SIDE, make_images, small_backbone

LABELS = torch.arange(12) % 2


def test_attentive_pooling_equals_a_loop():
    with seeded(0):
        head = AttentivePooling(128, 3).eval()
        patches = torch.randn(2, 5, 128)
    keys, values = head.attention.key(head.norm(patches)), head.attention.value(head.norm(patches))
    query = head.attention.query(head.query)[0]
    logits = []
    for b in range(2):
        outputs = []
        for h in range(2):  # two attention heads of width 64
            part = slice(64 * h, 64 * (h + 1))
            scores = torch.stack([query[part] @ keys[b, n, part] / 8 for n in range(5)]).softmax(0)
            outputs.append(sum(scores[n] * values[b, n, part] for n in range(5)))
        logits.append(head.output(head.attention.output(torch.cat(outputs))))
    torch.testing.assert_close(head(patches), torch.stack(logits), atol=1e-5, rtol=1e-5)
    shuffled = patches[:, torch.randperm(5)]
    torch.testing.assert_close(head(shuffled), head(patches))


@pytest.mark.parametrize("kind", ["attentive", "mlp", "linear"])
def test_training_a_head_alone_keeps_the_backbone_and_heads_are_rebuilt_from_weights(kind):
    network = small_backbone()
    head = HEADS[kind].build_seeded(16, 2, seed=0)
    assert torch.equal(next(HEADS[kind].build_seeded(16, 2, seed=0).parameters()), next(head.parameters()))
    data = LabeledImages(make_images(12), LABELS, ("a", "b"), SIDE)
    trained = train_supervised(network, head, data, config=replace(HEAD_ONLY, epochs=0, min_steps=3))
    for before, after in zip(network.state_dict().values(), trained.backbone.state_dict().values(), strict=True):
        assert torch.equal(before, after)
    assert all(not torch.equal(b, a) for b, a in zip(head.parameters(), trained.head.parameters(), strict=True))
    again = HEADS[kind].restore(trained.head.state_dict(), 16, 2)
    features = network.eval()(torch.rand(2, 3, SIDE, SIDE))
    assert torch.equal(apply_head(again, features), apply_head(trained.head, features))


@pytest.mark.parametrize(
    "name", ["vit", "timm:vit_tiny_patch16_224", "timm:resnet10t", "timm:convnext_atto", "timm:poolformer_s12"]
)
def test_depths_rise_from_the_stem_to_the_last_block(name):
    network = small_backbone(name, side=SIDE if name == "vit" else LARGE)
    depths = network.layer_depths()
    assert depths.keys() == {n for n, _ in network.named_parameters()}
    assert min(depths.values()) == 0 and set(depths.values()) == set(range(max(depths.values()) + 1))
    rules = layer_decay_rules(network, 0.5)
    last = max(depths.values())
    for parameter, depth in depths.items():
        rule = next(rule for rule in rules if re.search(rule.pattern, f"backbone.{parameter}"))
        assert rule.lr_scale == 0.5 ** (last + 1 - depth)
        assert rule.wd_scale == (0.0 if parameter.endswith("bias") else rule.wd_scale)
    if name == "vit":
        assert depths["stem.project.weight" if "stem.project.weight" in depths else next(iter(depths))] == 0
        assert depths["pos_embed"] == 0 and depths["blocks.0.norm1.weight"] == 1 and depths["norm.weight"] == last == 2


def test_parts_are_numbered_where_timm_does_not_group_them():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.zeros(1))
            self.stem, self.norm_pre = nn.Linear(2, 2), nn.LayerNorm(2)
            self.nothing, self.stages = nn.Identity(), nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
            self.join, self.norm = nn.Linear(2, 2), nn.LayerNorm(2)

    backbone = nn.ModuleDict({"network": Network(), "finish": nn.LayerNorm(2)})
    found = TimmBackbone.layer_depths(backbone)
    depths = {name.removesuffix(".weight"): depth for name, depth in found.items() if "bias" not in name}
    assert depths == {
        "network.position": 0, "network.stem": 0, "network.norm_pre": 0, "network.stages.0": 1, "network.stages.1": 2,
        "network.stages.2": 3, "network.join": 4, "network.norm": 4, "finish": 4,
    }  # fmt: skip


def test_layer_wise_learning_rates_reach_the_optimizer():
    network = small_backbone()
    module = nn.ModuleDict({"backbone": network, "task": nn.ModuleDict({"head": nn.Linear(16, 2)})})
    rules = (*layer_decay_rules(network, 0.5), *FINE_TUNE.optim.rules)
    groups = make_optimizer(module, replace(FINE_TUNE.optim, rules=rules)).param_groups
    rates = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert rates[id(network.pos_embed)] == 0.125 and rates[id(network.blocks[0].mlp.fc1.weight)] == 0.25
    assert rates[id(network.norm.weight)] == 0.5 and rates[id(module["task"]["head"].weight)] == 1.0


@pytest.mark.parametrize(("name", "blocks"), [("vit", 1), ("timm:resnet10t", 1), ("timm:poolformer_s12", 1)])
def test_only_the_last_blocks_are_trained(name, blocks):
    side = SIDE if name == "vit" else LARGE
    with seeded(0):
        network = small_backbone(name, side=side)
    depths = network.layer_depths()
    config = replace(FINE_TUNE, epochs=0, min_steps=2, trainable_blocks=blocks)
    data = LabeledImages(make_images(8, side), LABELS[:8], ("a", "b"), side)
    trained = train_supervised(network, nn.Linear(network.embed_dim, 2), data, config=config)
    after = trained.backbone.state_dict()
    for parameter, tensor in network.named_parameters():
        assert torch.equal(tensor, after[parameter]) == (depths[parameter] <= max(depths.values()) - blocks), parameter
    frozen = [n for n, _ in network.named_buffers() if n.startswith("network.conv1")]
    assert all(
        torch.equal(network.state_dict()[n], after[n]) for n in frozen
    )  # frozen batch norms keep their statistics
    assert all(p.requires_grad for p in trained.backbone.parameters()) and next(network.parameters()).requires_grad
    with raises("value-out-of-range", "--blocks"):
        freeze_all_but_last_blocks(network, 99)


@pytest.mark.parametrize("head", [name for name, head in HEADS.items() if head.recipe in (None, HEAD_ONLY)])
def test_a_head_on_a_frozen_backbone_needs_no_depths(head, monkeypatch):
    def unknown(network):
        raise NotImplementedError

    network = small_backbone()
    monkeypatch.setattr(type(network), "layer_depths", unknown)
    check_transfer(network, HEADS[head])
    with pytest.raises(NotImplementedError):
        check_transfer(network, HEADS["finetune"])


def test_frozen_modules_are_in_eval_mode():
    network = small_backbone(drop_path=0.5).train()
    freeze_all_but_last_blocks(network, 1)
    eval_frozen_modules(network)
    assert network.training and network.blocks[1].training and not network.blocks[0].training
    network.requires_grad_(False)
    eval_frozen_modules(network)
    assert not network.training


def loss_and_logits(labels, balance, smoothing=0.1):
    with seeded(0):
        network, head = small_backbone(), nn.Linear(16, 3 if labels.dim() == 1 else labels.shape[1])
    target = SINGLE if labels.dim() == 1 else MULTILABEL
    config = SupervisedConfig(balance_classes=balance, label_smoothing=smoothing)
    task = SupervisedTask(head, labels, SIDE, config, target)
    batch = Batch(make_images(6), torch.arange(6))
    views = task.make_views(batch, SampleRNG(0, torch.arange(6)))
    logits = head(network(views.images).pooled).double()
    return float(task(network, views, TrainingClock(0, 1, 0.0)).loss.detach()), logits.detach()


@pytest.mark.parametrize("balance", [False, True])
def test_loss_of_one_label_equals_a_loop(balance):
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    loss, logits = loss_and_logits(labels, balance)
    total = 0.0
    for i, y in enumerate(labels.tolist()):
        log_p = logits[i].log_softmax(0)
        part = -sum((0.9 * (k == y) + 0.1 / 3) * float(log_p[k]) for k in range(3))
        total += part * (6 / (3 * [3, 2, 1][y]) if balance else 1.0)
    assert loss == pytest.approx(total / 6, rel=1e-5)


@pytest.mark.parametrize("balance", [False, True])
def test_loss_of_several_labels_equals_a_loop(balance):
    labels = torch.tensor([[1, 0], [1, 1], [0, 0], [1, 0], [1, 1], [0, 0.0]])
    loss, logits = loss_and_logits(labels, balance)
    counts = [4, 2]
    total = 0.0
    for i in range(6):
        for k in range(2):
            y, p = float(labels[i, k]), float(logits[i, k].sigmoid())
            q = 0.9 * y + 0.05
            weight = (6 / (2 * counts[k]) if y else 6 / (2 * (6 - counts[k]))) if balance else 1.0
            total -= weight * (q * torch.tensor(p).log() + (1 - q) * torch.tensor(1 - p).log())
    assert loss == pytest.approx(float(total) / 12, rel=1e-5)


def test_class_weights():
    assert class_weights(torch.tensor([0, 0, 0, 2])).tolist() == [4 / 6, 0.0, 2.0]  # no image is of class 1
    weights = class_weights(torch.tensor([[1.0, 1], [0, 1], [0, 1], [0, 1]]))
    assert weights.tolist() == [[2.0, 1.0], [4 / 6, 1.0]]  # all images have the second label


def test_accumulated_batches_equal_whole_ones_with_class_weights():
    from headway.protocol import TrainModule
    from headway.train.config import Plan
    from headway.train.loop.loop import fit

    weights = []
    for accumulate in (1, 3):
        with seeded(0):
            task = SupervisedTask(
                nn.Linear(16, 3), torch.arange(12) % 5 % 3, SIDE, SupervisedConfig(balance_classes=True)
            )
            module = TrainModule(copy.deepcopy(small_backbone()), task)
        fit(
            module,
            make_images(12),
            Plan(steps=4, batch_size=9, grad_accum=accumulate, precision="float64"),
            FINE_TUNE.optim,
        )
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    torch.testing.assert_close(*weights, atol=1e-10, rtol=0)
