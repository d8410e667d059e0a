"""Lightning Fabric: devices, processes, precision and sharding. No other file knows of it."""

import logging
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from headway.distributed import is_single_process, world_size
from headway.utils.launcher import LauncherEnv, launcher_env


def make_fabric(accelerator: str = "auto", *, fsdp: bool = False) -> Any:
    """Launch a Fabric: one process, or those that ``torchrun`` or ``srun`` started, unless within ``single_process``.

    It computes in float32 until ``set_precision`` changes that.

    Args:
        accelerator: As Fabric names them: "auto", "cpu", "cuda", "mps".
        fsdp: Shard the weights over the processes (FSDP2) where there are several.
    """
    from lightning_fabric import Fabric  # imported late, since it takes seconds
    from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it would announce every Fabric that is made
    processes, local = LauncherEnv(1, 1) if is_single_process() else launcher_env()
    strategy: Any = "auto"
    if processes > 1 and fsdp:
        strategy = ModelParallelStrategy(apply_fsdp, data_parallel_size=processes, tensor_parallel_size=1)
    elif processes > 1:
        # Every process computes the same buffers (statistics are synced), so broadcasting them would only cost time.
        strategy = DDPStrategy(broadcast_buffers=False, find_unused_parameters=False)
    fabric = Fabric(
        accelerator=accelerator,
        strategy=strategy,
        devices=[torch.cuda.current_device()] if is_single_process() and torch.cuda.is_available() else local,
        num_nodes=max(processes // local, 1),
        precision="32-true",
    )
    isolate_restart_attempt(fabric, processes, local)
    fabric.launch()
    assert world_size() == processes, f"the launcher announced {processes} processes, {world_size()} arrived"
    return fabric


def set_precision(fabric: Any, precision: str) -> None:
    """Set the precision of all further forward passes, so that one Fabric serves the trials and the run.

    Args:
        fabric: From ``make_fabric``.
        precision: "float32"; "bf16" (autocast, the weights stay float32); or "float64", for which the engine converts
            the weights itself: Fabric's float64 would change torch's default dtype, and with it every view.
    """
    from lightning_fabric.plugins import MixedPrecision, Precision

    bf16 = precision == "bf16"
    fabric.strategy.precision = MixedPrecision("bf16-mixed", fabric.device.type) if bf16 else Precision()


def isolate_restart_attempt(fabric: Any, processes: int, local_processes: int) -> None:
    """Give the processes that torchrun has restarted on one machine a rendezvous of their own.

    On one machine torchrun keeps the same store over all attempts, so that a process may receive the address of a dead
    one, and then be refused or wait forever. On several machines its rendezvous makes a new store for each attempt, and
    the machines may count attempts differently; nothing is done there.
    """
    attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    if not attempt or processes == 1 or processes != local_processes or dist.is_initialized():
        return
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), processes, is_master=False)
    dist.init_process_group(
        "nccl" if fabric.device.type == "cuda" else "gloo", store=dist.PrefixStore(f"attempt {attempt}", store),
        rank=int(os.environ["RANK"]), world_size=processes,
    )  # fmt: skip


def wrap(
    fabric: Any, train_module: nn.Module, make_optimizer: Callable[[], Any], *, fsdp: bool = False
) -> tuple[Any, Any]:
    """Wrap a module and its optimizer with Fabric.

    Args:
        fabric: From ``make_fabric``.
        train_module: On its device.
        make_optimizer: Makes the optimizer; it is called once the weights lie where they stay.
        fsdp: As in ``make_fabric``.
    """
    if not (fsdp and world_size() > 1):
        return fabric.setup(train_module, make_optimizer(), _reapply_compile=False)
    wrapped = fabric.setup_module(train_module, _reapply_compile=False)
    return wrapped, fabric.setup_optimizers(make_optimizer())


def apply_fsdp(train_module: nn.Module, mesh: Any) -> nn.Module:
    """Shard with FSDP2: each block is a unit of its own, the rest is one. EMA teachers are sharded as students are.

    Zhao et al., "PyTorch FSDP", 2023 (https://arxiv.org/abs/2304.11277).
    """
    from torch.distributed.fsdp import fully_shard

    line = mesh["data_parallel"]
    for name, part in train_module.named_modules():
        if name.endswith(".blocks") and isinstance(part, (nn.ModuleList, nn.Sequential)):  # of decoders as well
            for block in part:
                fully_shard(block, mesh=line)
    fully_shard(train_module, mesh=line)
    return train_module


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole of a tensor that FSDP2 may have sharded; every process must call."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def shard_like(full: Tensor, like: Any) -> Tensor:
    """A whole tensor on the device of ``like``, and reduced to this process's shard where ``like`` is sharded."""
    if not hasattr(like, "placements"):
        return full.to(like.device)
    from torch.distributed.tensor import distribute_tensor

    mesh = like.device_mesh
    return distribute_tensor(full.to(mesh.device_type), mesh, like.placements, src_data_rank=None)
