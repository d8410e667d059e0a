"""EMA teacher: a copy of the student whose weights are an exponential moving average of the student's.

    teacher <- momentum * teacher + (1 - momentum) * student          after every step

One rule holds for every task. The momentum rises to 1 along half a cosine. It starts at ``momentum``, but at most at

    1 - 1 / (ema_horizon * steps)

so that the initial weights are forgotten after ``ema_horizon``, a fraction of the run. Papers give ``momentum`` for
100,000 steps and more, where it is the lower of the two; in a run of minutes, a teacher with the paper's momentum would
hardly change. Where something else prevents collapse (a predictor, negatives, centering, balanced assignments), 1/40 of
the run is enough. Where only the slowness of the teacher prevents it (data2vec, I-JEPA), it is 1/4.

Tarvainen and Valpola, "Mean teachers are better role models", 2017 (https://arxiv.org/abs/1703.01780); He et al.,
"Momentum contrast", 2020 (https://arxiv.org/abs/1911.05722).
"""

import copy
from typing import Any

import torch
from torch import nn

from headway.protocol import Backbone, TrainingClock
from headway.schedule import cosine

CENTER_SPEEDUP = 25.0
"""How many times faster the center of the teacher's outputs forgets than the teacher itself."""


class EMATeacher(nn.Module):
    """The exponential moving average of a module; it is called like the module.

    Build it before the student is sharded. In training mode its batch norms use the statistics of the batch, as in MoCo
    and BYOL. It never applies drop-path; timm networks have it disabled from the start.

    Args:
        student: The module to copy; it is not changed.
    """

    def __init__(self, student: nn.Module):
        super().__init__()
        self.network = copy.deepcopy(student).requires_grad_(False)
        for part in self.network.modules():
            if isinstance(part, Backbone):
                part.drop_path = 0.0

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the copied module without gradients."""
        return self.network(*args, **kwargs)

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float) -> None:
        """Move the parameters towards the student's, and copy the student's buffers.

        Args:
            student: A module with the architecture of the copied one.
            momentum: In [0, 1]. 1 leaves the teacher unchanged, 0 makes it equal to the student.

        Raises:
            ValueError: The architectures differ, or the momentum is outside of [0, 1].
        """
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"a teacher's momentum lies in [0, 1], got {momentum}")
        theirs, ours = dict(student.named_parameters()), dict(self.network.named_parameters())
        if theirs.keys() != ours.keys():
            different = sorted(theirs.keys() ^ ours.keys())
            raise ValueError(f"teacher and student differ in {len(different)} parameters, {different[0]} among them")
        torch._foreach_lerp_(list(ours.values()), [theirs[name] for name in ours], 1.0 - momentum)
        for buffer, source in zip(self.network.buffers(), student.buffers(), strict=True):
            buffer.copy_(source)


def teacher_momentum(clock: TrainingClock, momentum: float, ema_horizon: float) -> float:
    """Return the momentum at this step, by the rule at the top of this file.

    Args:
        clock: The position in the run.
        momentum: In [0, 1], the value at the start of a long run.
        ema_horizon: Fraction of the run; it corresponds to at least one step.
    """
    return cosine(clock.progress, min(momentum, 1 - 1 / max(ema_horizon * clock.total_steps, 1.0)), 1.0)


def update_teachers(config: Any, clock: TrainingClock, *pairs: tuple[EMATeacher, Any]) -> float:
    """Move teachers towards their students, and return the momentum of this step.

    Args:
        config: Its ``momentum`` and ``ema_horizon`` count.
        clock: The position in the run.
        pairs: Each teacher with its student.
    """
    momentum = teacher_momentum(clock, config.momentum, config.ema_horizon)
    for teacher, student in pairs:
        teacher.update(student, momentum)
    return momentum


def center_momentum(teacher_momentum: float, max_momentum: float) -> float:
    """Return the momentum of the center that is subtracted from the teacher's outputs.

    A center that lags behind its teacher lets one prototype take all images. With the values of DINO's paper (0.9
    beside 0.996) the center forgets CENTER_SPEEDUP times as fast as the teacher; here this also holds in short runs.

    Args:
        teacher_momentum: The teacher's momentum at this step.
        max_momentum: Upper limit; with 1 the center never changes.
    """
    if max_momentum == 1.0:
        return max_momentum
    return min(max_momentum, max(1.0 - CENTER_SPEEDUP * (1.0 - teacher_momentum), 0.0))
