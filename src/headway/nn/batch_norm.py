"""Batch normalisation over the batch of all processes.

Ioffe and Szegedy, "Batch normalization", 2015 (https://arxiv.org/abs/1502.03167). torch's own SyncBatchNorm refuses the
processor; this one takes its sums from ``headway.distributed``, so that N processes normalise as one would.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.distributed import all_sum, world
from headway.nn.numerics import wide


class BatchNorm(nn.Module):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias, per channel, for B C as well as B C H W.

    Keys of the state dict, running statistics and results are those of torch.nn.BatchNorm1d and 2d.

    Args:
        channels: C.
        eps: Added to the variance.
        momentum: Weight of the newest batch in the running statistics.
        affine: Whether ``weight`` and ``bias`` are learned; without it there are none.
        then: Applied to the result, for networks that keep an activation inside of their norm; it has no parameters.
    """

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        then: nn.Module | None = None,
    ):
        super().__init__()
        self.eps, self.momentum, self.then = eps, momentum, then
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """B C or B C H W -> the same.

        Raises:
            ValueError: In training, where all processes together hold a single value of each channel.
        """
        if self.training:
            self.num_batches_tracked.add_(1)
        if self.training and world() > 1:
            y = self._over_processes(x)
        else:
            if self.training:
                _refuse_single(x.shape[0] * x.shape[2:].numel())
            statistics = (self.running_mean, self.running_var)
            y = F.batch_norm(x, *statistics, self.weight, self.bias, self.training, self.momentum, self.eps)
        return y if self.then is None else self.then(y)

    def _over_processes(self, x: Tensor) -> Tensor:
        """Two passes: the mean, then the squares about it, each summed over all processes."""
        values, per_channel = wide(x), (-1, *[1] * (x.dim() - 2))
        others = [dim for dim in range(x.dim()) if dim != 1]
        local = x.shape[0] * x.shape[2:].numel()
        sums = all_sum(torch.cat([values.sum(others), values.new_tensor([local])]))  # C+1
        count = sums[-1].detach()
        if local <= 1:  # reading the count waits for the device; with two values of one's own there is no need
            _refuse_single(int(count))
        mean = sums[:-1] / count  # C
        centred = values - mean.view(per_channel)
        variance = all_sum(centred.square().sum(others)) / count  # C
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            unbiased = variance * (count / (count - 1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        y = centred * (variance + self.eps).rsqrt().view(per_channel)
        if self.weight is not None and self.bias is not None:
            y = y * self.weight.view(per_channel) + self.bias.view(per_channel)
        return y.to(x.dtype)


def _refuse_single(count: int) -> None:
    if count <= 1:
        raise ValueError(
            f"batch norm in training needs 2 values or more of each channel over all processes, got {count}: "
            "use a larger batch, or .eval()"
        )


def sync_batch_norms(module: nn.Module) -> nn.Module:
    """Replace every torch BatchNorm1d and 2d inside ``module`` by ours, keeping weights, statistics and mode.

    Returns:
        ``module`` itself, changed in place (or the replacement, where it is a batch norm).

    Raises:
        ValueError: For a batch norm without running statistics or with a cumulative average, which ours doesn't do.
    """
    if not isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        for name, child in module.named_children():
            setattr(module, name, sync_batch_norms(child))
        return module
    if not module.track_running_stats or module.momentum is None:
        raise ValueError(f"cannot synchronise {module}: it must track running statistics with a fixed momentum")
    ours = BatchNorm(
        module.num_features,
        eps=module.eps,
        momentum=module.momentum,
        affine=module.affine,
        then=getattr(module, "act", None),  # timm fuses norm and activation
    )
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(ours, name, getattr(module, name))
    return ours.train(module.training)
