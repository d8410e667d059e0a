"""Lightning Fabric, and nothing else knows of it: devices, processes and precision."""

import logging
import os
from typing import Any

from headway.distributed import world

PRECISIONS = {"float32": "32-true", "bf16": "bf16-mixed", "float64": "32-true"}
"""Fabric's names. Its float64 would change torch's default, and with it every view; the loop widens weights itself."""


def make_fabric(precision: str = "float32", accelerator: str = "auto") -> Any:
    """A launched Fabric: one process, or those that ``torchrun`` started.

    Args:
        precision: "float32", "bf16" (autocast, weights stay float32) or "float64".
        accelerator: As Fabric names them: "auto", "cpu", "cuda", "mps".
    """
    from lightning_fabric import Fabric  # late: it takes seconds to import
    from lightning_fabric.strategies import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it would announce the precision of every trial
    processes = int(os.environ.get("WORLD_SIZE", 1))
    strategy: Any = "auto"
    if processes > 1:
        # Every process computes the same buffers (statistics are synced), so broadcasting them would only cost time.
        strategy = DDPStrategy(broadcast_buffers=False, find_unused_parameters=False)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    fabric = Fabric(
        accelerator=accelerator,
        strategy=strategy,
        devices=local,
        num_nodes=max(processes // local, 1),
        precision=PRECISIONS[precision],
    )
    fabric.launch()
    assert world() == processes, f"{processes} processes were announced, {world()} came"
    return fabric
