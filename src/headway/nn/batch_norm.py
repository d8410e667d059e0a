"""Batch normalization over the batch of all processes.

Ioffe and Szegedy, "Batch normalization", 2015 (https://arxiv.org/abs/1502.03167). torch's SyncBatchNorm does not run
on CPUs. This one sums over processes through ``headway.distributed``, so that N processes normalize as one would.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.distributed import all_sum, world_size
from headway.nn.numerics import at_least_fp32


class BatchNorm(nn.Module):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias, per channel, for B C as well as B C H W.

    Keys of the state dict, running statistics and results equal those of torch.nn.BatchNorm1d and 2d.

    Args:
        num_features: C.
        eps: Added to the variance.
        momentum: Weight of the newest batch in the running statistics.
        affine: Whether there are a learned ``weight`` and ``bias``.
        activation: Applied to the result, for networks that fuse norm and activation; it has no parameters.
    """

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        activation: nn.Module | None = None,
    ):
        super().__init__()
        self.eps, self.momentum, self.activation = eps, momentum, activation
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """B C or B C H W -> the same.

        Raises:
            ValueError: In training, all processes together hold a single value of each channel.
        """
        if self.training:
            self.num_batches_tracked.add_(1)
        if self.training and world_size() > 1:
            y = self._forward_distributed(x)
        else:
            if self.training:
                _check_num_values(x.shape[0] * x.shape[2:].numel())
            statistics = (self.running_mean, self.running_var)
            y = F.batch_norm(x, *statistics, self.weight, self.bias, self.training, self.momentum, self.eps)
        return y if self.activation is None else self.activation(y)

    def _forward_distributed(self, x: Tensor) -> Tensor:
        """Normalize in two passes: first the mean, then the squared deviations, each summed over all processes."""
        values, per_channel = at_least_fp32(x), (-1, *[1] * (x.dim() - 2))
        reduced_dims = [dim for dim in range(x.dim()) if dim != 1]
        local = x.shape[0] * x.shape[2:].numel()
        sums = all_sum(torch.cat([values.sum(reduced_dims), values.new_tensor([local])]))  # C+1
        count = sums[-1].detach()
        if local <= 1:  # reading the count synchronizes with the device; two local values make that unnecessary
            _check_num_values(int(count))
        mean = sums[:-1] / count  # C
        centered = values - mean.view(per_channel)
        variance = all_sum(centered.square().sum(reduced_dims)) / count  # C
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            unbiased = variance * (count / (count - 1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        y = centered * (variance + self.eps).rsqrt().view(per_channel)
        if self.weight is not None and self.bias is not None:
            y = y * self.weight.view(per_channel) + self.bias.view(per_channel)
        return y.to(x.dtype)


def _check_num_values(count: int) -> None:
    if count <= 1:
        raise ValueError(
            f"batch norm in training needs 2 values or more of each channel over all processes, got {count}: "
            "use a larger batch, or .eval()"
        )


def convert_sync_batch_norm(module: nn.Module) -> nn.Module:
    """Replace every torch BatchNorm1d and 2d inside ``module`` by ours; weights, statistics and mode are kept.

    Returns:
        ``module``, changed in place; the replacement where ``module`` itself is a batch norm.

    Raises:
        ValueError: A batch norm has no running statistics, or a cumulative average; ours supports neither.
    """
    if not isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        for name, child in module.named_children():
            setattr(module, name, convert_sync_batch_norm(child))
        return module
    if not module.track_running_stats or module.momentum is None:
        raise ValueError(f"cannot synchronize {module}: it must track running statistics with a fixed momentum")
    ours = BatchNorm(
        module.num_features,
        eps=module.eps,
        momentum=module.momentum,
        affine=module.affine,
        activation=getattr(module, "act", None),  # timm fuses norm and activation
    )
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(ours, name, getattr(module, name))
    return ours.train(module.training)
