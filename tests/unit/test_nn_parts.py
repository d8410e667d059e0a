"""Transformer block, projection heads, EMA teacher, precision."""

import pytest
import torch
from torch import nn

from headway.backbones.build import build_backbone
from headway.nn.batch_norm import BatchNorm
from headway.nn.block import Block
from headway.nn.numerics import at_least_fp32, l2_normalize
from headway.nn.projection_heads import PrototypeHead, projector
from headway.nn.teacher import EMATeacher
from headway.rng import SampleRNG


def test_block_adds_branches_that_drop_path_keeps():
    torch.manual_seed(0)
    block, x = Block(16, 2, layer_scale=0.1).double(), torch.randn(3, 5, 16, dtype=torch.float64)
    attended = x + block.attention_gamma * block.attention(block.norm1(x))
    expected = attended + block.mlp_gamma * block.mlp(block.norm2(attended))
    torch.testing.assert_close(block(x), expected)
    scales = torch.tensor([0.0, 2.0, 1.0])
    torch.testing.assert_close(block(x, (scales, scales))[0], x[0])
    torch.testing.assert_close(block(x, (scales, scales))[2], expected[2])
    assert not torch.allclose(block(x, (scales, scales))[1], expected[1])


def test_at_least_fp32_and_l2_normalize():
    assert at_least_fp32(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert at_least_fp32(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
    x = torch.randn(4, 3, dtype=torch.bfloat16)
    assert l2_normalize(x).dtype == torch.float32
    torch.testing.assert_close(l2_normalize(x).norm(dim=-1), torch.ones(4))
    assert l2_normalize(torch.zeros(2, 3)).eq(0).all()


def test_projector_has_the_requested_layers():
    head = projector((8, 16, 4), last_norm=True, last_affine=False)
    assert list(dict(head.named_children())) == ["linear1", "norm1", "relu1", "linear2", "norm2"]
    assert isinstance(head.norm1, BatchNorm) and head.norm2.weight is None
    assert head.linear1.bias is None and head.linear2.bias is None
    torch.testing.assert_close(head(torch.randn(6, 8)).mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    without_norm = projector((8, 16, 4), norm=False)
    assert without_norm.linear1.bias is not None and without_norm.linear2.bias is not None
    with pytest.raises(ValueError, match=r"got \[8\]"):
        projector((8,))


def test_prototype_head_outputs_cosines_and_can_freeze_prototypes():
    torch.manual_seed(0)
    head, x = PrototypeHead(8, 5, hidden_dim=16, bottleneck_dim=4), torch.randn(3, 8)
    out = head(x)
    assert out.shape == (3, 5) and out.abs().max() <= 1 + 1e-6
    h = x
    for layer, linear in enumerate(head.linears):
        h = linear(h) if layer == 2 else nn.functional.gelu(linear(h))
    torch.testing.assert_close(out, nn.functional.cosine_similarity(h[:, None], head.prototypes[None], dim=-1))
    frozen = head(x, freeze_prototypes=True)
    assert torch.equal(frozen, out)
    frozen.square().sum().backward()
    assert head.prototypes.grad.eq(0).all()
    assert all(linear.weight.grad.abs().sum() > 0 for linear in head.linears)
    head(x).square().sum().backward()
    assert head.prototypes.grad.abs().sum() > 0


def test_teacher_is_a_moving_average_without_gradients():
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(3, 4), BatchNorm(4))
    teacher = EMATeacher(student)
    before = {name: p.clone() for name, p in teacher.network.named_parameters()}
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))
    student(torch.randn(5, 3))
    teacher.update(student, 0.9)
    for name, parameter in student.named_parameters():
        now = teacher.network.get_parameter(name)
        torch.testing.assert_close(now, 0.9 * before[name] + 0.1 * parameter)
        assert not now.requires_grad and parameter.requires_grad
    torch.testing.assert_close(teacher.network[1].running_mean, student[1].running_mean)
    assert teacher.network[1].running_mean is not student[1].running_mean
    out = teacher(torch.randn(5, 3, requires_grad=True))
    assert not out.requires_grad
    teacher.update(student, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), student.parameters(), strict=True))


def test_teacher_refuses_other_architectures():
    teacher = EMATeacher(nn.Linear(3, 4))
    with pytest.raises(ValueError, match="differ in 1 parameters, bias"):
        teacher.update(nn.Linear(3, 4, bias=False), 0.9)
    with pytest.raises(ValueError, match=r"\[0, 1\], got 1.5"):
        teacher.update(nn.Linear(3, 4), 1.5)


def test_teacher_never_applies_drop_path():
    torch.manual_seed(0)
    student = build_backbone("vit_nano", size=16, drop_path=0.5).train()
    teacher, images = EMATeacher(student).train(), torch.rand(4, 3, 16, 16)
    torch.testing.assert_close(teacher(images).pooled, student.eval()(images).pooled)
    student.train()
    with pytest.raises(RuntimeError, match="needs an RNG"):
        student(images)
    with SampleRNG(0, torch.arange(4)).use_for_dropout():
        assert not torch.allclose(student(images).pooled, teacher(images).pooled)
    assert student.drop_path == 0.5
