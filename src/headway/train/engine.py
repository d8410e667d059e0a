"""Lightning Fabric, and nothing else knows of it: devices, processes, precision, and who holds which weights."""

import logging
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed as dist
from torch import nn

from headway.distributed import Announced, announced, is_alone, world

PRECISIONS = {"float32": "32-true", "bf16": "bf16-mixed", "float64": "32-true"}
"""Fabric's names. Its float64 would change torch's default, and with it every view; the loop widens weights itself."""


def make_fabric(precision: str = "float32", accelerator: str = "auto", *, shard: bool = False) -> Any:
    """A launched Fabric: one process, or those that ``torchrun`` or ``srun`` started, unless this one is alone.

    Args:
        precision: "float32", "bf16" (autocast, weights stay float32) or "float64".
        accelerator: As Fabric names them: "auto", "cpu", "cuda", "mps".
        shard: Cut weights over the processes (FSDP2) where there are several.
    """
    from lightning_fabric import Fabric  # late: it takes seconds to import
    from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it would announce the precision of every trial
    processes, local = Announced(1, 1) if is_alone() else announced()
    strategy: Any = "auto"
    if processes > 1 and shard:
        strategy = ModelParallelStrategy(cut_over_processes, data_parallel_size=processes, tensor_parallel_size=1)
    elif processes > 1:
        # Every process computes the same buffers (statistics are synced), so broadcasting them would only cost time.
        strategy = DDPStrategy(broadcast_buffers=False, find_unused_parameters=False)
    fabric = Fabric(
        accelerator=accelerator,
        strategy=strategy,
        devices=[torch.cuda.current_device()] if is_alone() and torch.cuda.is_available() else local,
        num_nodes=max(processes // local, 1),
        precision=PRECISIONS[precision],
    )
    meet_anew(fabric, processes, local)
    fabric.launch()
    assert world() == processes, f"{processes} processes were announced, {world()} came"
    return fabric


def meet_anew(fabric: Any, processes: int, local: int) -> None:
    """Let processes that torchrun has started again on one machine meet where nobody of an earlier attempt was.

    torchrun keeps one store over all attempts there, so that a process may be given the address of a dead one, and be
    refused or wait without end. On several machines its rendezvous makes a new store each time, and attempts may be
    counted differently; nothing is done then.
    """
    attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    if not attempt or processes == 1 or processes != local or dist.is_initialized():
        return
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), processes, is_master=False)
    dist.init_process_group(
        "nccl" if fabric.device.type == "cuda" else "gloo", store=dist.PrefixStore(f"attempt {attempt}", store),
        rank=int(os.environ["RANK"]), world_size=processes,
    )  # fmt: skip


def wrap(fabric: Any, learner: nn.Module, make: Callable[[], Any], *, shard: bool = False) -> tuple[Any, Any]:
    """The learner and its optimizer as Fabric wraps them.

    Args:
        fabric: From ``make_fabric``.
        learner: On its device.
        make: Makes the optimizer; called once weights lie where they stay.
        shard: As in ``make_fabric``.
    """
    if not (shard and world() > 1):
        return fabric.setup(learner, make(), _reapply_compile=False)
    wrapped = fabric.setup_module(learner, _reapply_compile=False)
    return wrapped, fabric.setup_optimizers(make())


def cut_over_processes(learner: nn.Module, mesh: Any) -> nn.Module:
    """FSDP2: every block is gathered when it is needed; the rest stays together. Teachers are cut as students are.

    Zhao et al., "PyTorch FSDP", 2023 (https://arxiv.org/abs/2304.11277).
    """
    from torch.distributed.fsdp import fully_shard

    line = mesh["data_parallel"]
    for module in learner.modules():
        if isinstance(blocks := getattr(module, "blocks", None), (nn.ModuleList, nn.Sequential)):
            for block in blocks:
                fully_shard(block, mesh=line)
    fully_shard(learner, mesh=line)
    return learner
