"""Lightning Fabric, and nothing else knows of it: devices, processes, precision, and who holds which weights."""

import logging
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import distributed as dist
from torch import nn

from headway.distributed import is_alone, world
from headway.errors import HeadwayError

PRECISIONS = {"float32": "32-true", "bf16": "bf16-mixed", "float64": "32-true"}
"""Fabric's names. Its float64 would change torch's default, and with it every view; the loop widens weights itself."""


class Announced(NamedTuple):
    """The processes that a launcher says there are.

    Attributes:
        processes: Over all machines.
        local: On this one.
    """

    processes: int
    local: int


def announced() -> Announced:
    """What torchrun, or SLURM's srun, says in the environment; one process where neither does.

    Raises:
        HeadwayError: srun with tasks that it does not count by machine, which Fabric needs.
    """
    given = os.environ
    if is_alone():
        return Announced(1, 1)
    if "WORLD_SIZE" in given:  # torchrun goes before SLURM, since it may run inside of it
        processes = int(given["WORLD_SIZE"])
        return Announced(processes, int(given.get("LOCAL_WORLD_SIZE", processes)))
    if "SLURM_PROCID" in given and given.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        processes = int(given.get("SLURM_NTASKS", 1))
        if processes > 1 and "SLURM_NTASKS_PER_NODE" not in given:
            raise HeadwayError(f"srun starts {processes} tasks but not so many a machine; give --ntasks-per-node")
        return Announced(processes, int(given.get("SLURM_NTASKS_PER_NODE", 1)))
    return Announced(1, 1)


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
    processes, local = announced()
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
