"""Batch normalization over the batch of all processes.

Ioffe and Szegedy, "Batch normalization", 2015 (https://arxiv.org/abs/1502.03167). torch's SyncBatchNorm does not run
on CPUs. This one sums over processes through ``headway.distributed``, so that N processes normalize as one would.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.distributed import all_gather, all_sum, world_size
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
        """Normalize by the mean and variance over all processes."""
        local = x.shape[0] * x.shape[2:].numel()
        y, mean, variance, count = _NormalizeOverProcesses.apply(x, self.weight, self.bias, self.eps)
        if local <= 1:  # reading the count synchronizes with the device; two local values make that unnecessary
            _check_num_values(int(count))
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((variance * (count / (count - 1))).to(self.running_var.dtype), self.momentum)
        return y


class _NormalizeOverProcesses(torch.autograd.Function):
    """Batch norm whose statistics, and their gradients, are over the batch of all processes.

    y = xhat w + b with xhat = (x - mean) / sqrt(variance + eps), and for dy = dL/dy and N values of each channel

        dL/dx = w / sqrt(variance + eps) (dy - sum(dy) / N - xhat sum(dy xhat) / N),

    where mean, variance and both sums are over all processes. torch's own kernels of batch norm compute the local
    statistics, y, and the local sums; ``Tensor.sum`` over all dimensions but one takes twenty times as long on a CPU.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scale = torch.ones(x.shape[1], dtype=at_least_fp32(x).dtype, device=x.device)  # C; its type is the statistics'
        means, variances = torch.batch_norm_update_stats(x, scale, scale.clone(), 0.0)
        local = scale.new_tensor([x.shape[0] * x.shape[2:].numel()])
        parts = all_gather(torch.cat([local, means, variances]))  # processes 1+2C
        counts, means, variances = parts.split([1, x.shape[1], x.shape[1]], 1)
        count = counts.sum()
        mean = (counts * means).sum(0) / count  # C
        variance = (counts * (variances + (means - mean).square())).sum(0) / count  # C
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean, variance, count = ctx.saved_tensors
        dx, dw, db = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )  # as if the statistics were constants: dy w / sqrt(variance + eps), sum(dy xhat), sum(dy)
        over_all = all_sum(torch.cat([dw, db])) / count
        inverse = (variance + ctx.eps).rsqrt()  # C
        slope = over_all[: len(dw)] * inverse * inverse * (1 if weight is None else weight)  # C
        offset = over_all[len(dw) :] * inverse * (1 if weight is None else weight) - slope * mean  # C
        shape = (-1, *[1] * (x.dim() - 2))
        dx.sub_(offset.view(shape).to(dx.dtype)).addcmul_(x, slope.view(shape).to(dx.dtype), value=-1)
        return dx, None if weight is None else dw, None if weight is None else db, None


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
