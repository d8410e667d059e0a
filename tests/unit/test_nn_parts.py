"""Blocks, heads, the teacher, precision."""

import pytest
import torch
from torch import nn

from headway.backbones.load import build_backbone
from headway.draws import Draws
from headway.nn.batch_norm import BatchNorm
from headway.nn.block import Block
from headway.nn.heads import PrototypeHead, projector
from headway.nn.numerics import unit, wide
from headway.nn.teacher import Teacher


def test_a_block_adds_what_is_not_dropped():
    torch.manual_seed(0)
    block, x = Block(16, 2, layer_scale=0.1).double(), torch.randn(3, 5, 16, dtype=torch.float64)
    attended = x + block.attention_gamma * block.attention(block.norm1(x))
    expected = attended + block.mlp_gamma * block.mlp(block.norm2(attended))
    torch.testing.assert_close(block(x), expected)
    dropped = torch.tensor([0.0, 2.0, 1.0])
    torch.testing.assert_close(block(x, (dropped, dropped))[0], x[0])
    torch.testing.assert_close(block(x, (dropped, dropped))[2], expected[2])
    assert not torch.allclose(block(x, (dropped, dropped))[1], expected[1])


def test_wide_and_unit():
    assert wide(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert wide(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
    x = torch.randn(4, 3, dtype=torch.bfloat16)
    assert unit(x).dtype == torch.float32
    torch.testing.assert_close(unit(x).norm(dim=-1), torch.ones(4))
    assert unit(torch.zeros(2, 3)).eq(0).all()


def test_projector_is_what_it_says():
    head = projector((8, 16, 4), last_norm=True, last_affine=False)
    assert list(dict(head.named_children())) == ["linear1", "norm1", "relu1", "linear2", "norm2"]
    assert isinstance(head.norm1, BatchNorm) and head.norm2.weight is None
    assert head.linear1.bias is None and head.linear2.bias is None
    torch.testing.assert_close(head(torch.randn(6, 8)).mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    bare = projector((8, 16, 4), norm=False)
    assert bare.linear1.bias is not None and bare.linear2.bias is not None
    with pytest.raises(ValueError, match=r"got \[8\]"):
        projector((8,))


def test_prototypes_are_cosines_and_freeze_by_gradient():
    torch.manual_seed(0)
    head, x = PrototypeHead(8, 5, hidden=16, bottleneck=4), torch.randn(3, 8)
    out = head(x)
    assert out.shape == (3, 5) and out.abs().max() <= 1 + 1e-6
    h = x
    for number, linear in enumerate(head.linears):
        h = linear(h) if number == 2 else nn.functional.gelu(linear(h))
    torch.testing.assert_close(out, nn.functional.cosine_similarity(h[:, None], head.prototypes[None], dim=-1))
    frozen = head(x, freeze=True)
    assert torch.equal(frozen, out)
    frozen.square().sum().backward()
    assert head.prototypes.grad.eq(0).all()
    assert all(linear.weight.grad.abs().sum() > 0 for linear in head.linears)
    head(x).square().sum().backward()
    assert head.prototypes.grad.abs().sum() > 0


def test_a_teacher_is_a_moving_average_without_gradients():
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(3, 4), BatchNorm(4))
    teacher = Teacher(student)
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


def test_a_teacher_refuses_strangers():
    teacher = Teacher(nn.Linear(3, 4))
    with pytest.raises(ValueError, match="differ in 1 parameters, bias"):
        teacher.update(nn.Linear(3, 4, bias=False), 0.9)
    with pytest.raises(ValueError, match=r"\[0, 1\], got 1.5"):
        teacher.update(nn.Linear(3, 4), 1.5)


def test_a_teacher_drops_no_paths():
    torch.manual_seed(0)
    student = build_backbone("vit_nano", size=16, drop_path=0.5).train()
    teacher, images = Teacher(student).train(), torch.rand(4, 3, 16, 16)
    torch.testing.assert_close(teacher(images).pooled, student.eval()(images).pooled)
    student.train()
    with pytest.raises(RuntimeError, match="needs draws"):
        student(images)
    with Draws(0, torch.arange(4)).active():
        assert not torch.allclose(student(images).pooled, teacher(images).pooled)
    assert student.drop_path == 0.5
