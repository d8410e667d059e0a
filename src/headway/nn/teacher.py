"""A teacher: a slow copy of the student that never learns by gradient.

    teacher <- momentum * teacher + (1 - momentum) * student          after every step

with one rule for every task: momentum rises by half a cosine from ``momentum`` to 1, but starts no higher than

    1 - 1 / (memory * steps)

so that what the teacher was born with is forgotten after ``memory``, a share of the run. Papers give ``momentum`` for
100,000 steps and more, where it is the lower of the two; in a run of minutes a teacher so slow would never move. Where
something else forbids collapse (a predictor, negatives, a centre, balance), a fortieth of the run will do; where the
teacher's slowness alone does (data2vec, I-JEPA), it is a quarter.

Tarvainen and Valpola, "Mean teachers are better role models", 2017 (https://arxiv.org/abs/1703.01780); He et al.,
"Momentum contrast", 2020 (https://arxiv.org/abs/1911.05722).
"""

import copy
from typing import Any

import torch
from torch import nn

from headway.protocol import Clock
from headway.schedule import cosine

QUICKER = 25.0
"""How much more quickly a centre of answers forgets than the teacher that gives them."""


class Teacher(nn.Module):
    """The exponential moving average of a module, called like the module itself.

    Build it before the student is sharded. In training mode its batch norms use the statistics of the batch, as in MoCo
    and BYOL; it drops no paths in any mode; a network of timm's drops none to begin with.

    Args:
        student: What to copy; it is left as it is.
    """

    def __init__(self, student: nn.Module):
        super().__init__()
        self.network = copy.deepcopy(student).requires_grad_(False)
        part: Any
        for part in self.network.modules():
            if isinstance(getattr(part, "drop_path", None), float):
                part.drop_path = 0.0

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the copy makes of it, without gradients."""
        return self.network(*args, **kwargs)

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float) -> None:
        """Move the parameters towards the student's and take over its buffers.

        Args:
            student: Of the same architecture as the copied one.
            momentum: In [0, 1]: 1 keeps the teacher as it is, 0 makes it the student.

        Raises:
            ValueError: For another architecture, or a momentum outside of [0, 1].
        """
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"a teacher's momentum lies in [0, 1], got {momentum}")
        pupils, masters = dict(student.named_parameters()), dict(self.network.named_parameters())
        if pupils.keys() != masters.keys():
            odd = sorted(pupils.keys() ^ masters.keys())
            raise ValueError(f"teacher and student differ in {len(odd)} parameters, {odd[0]} among them")
        torch._foreach_lerp_(list(masters.values()), [pupils[name] for name in masters], 1.0 - momentum)
        for mine, its in zip(self.network.buffers(), student.buffers(), strict=True):
            mine.copy_(its)


def teacher_momentum(clock: Clock, momentum: float, memory: float) -> float:
    """The momentum in force, by the rule above.

    Args:
        clock: Where the run is.
        momentum: In [0, 1], at the start of a long run.
        memory: Share of the run; one step at least is remembered.
    """
    return cosine(clock.progress, min(momentum, 1 - 1 / max(memory * clock.total, 1.0)), 1.0)


def centre_momentum(teacher: float, most: float) -> float:
    """The momentum of a centre that is taken off a teacher's answers.

    A centre that lags behind its teacher lets one prototype take all. In DINO's paper (0.9 beside 0.996) it forgets
    QUICKER times as quickly; so it does here where short runs make the teacher quick.

    Args:
        teacher: The teacher's momentum in force.
        most: What it may be at most; 1: the centre stands still.
    """
    return most if most == 1.0 else min(most, max(1.0 - QUICKER * (1.0 - teacher), 0.0))
