"""The processes that a launcher, torchrun or SLURM, has started for this run."""

import os
from typing import NamedTuple

from headway.errors import HeadwayError


class LauncherEnv(NamedTuple):
    """Numbers of processes, as a launcher announces them.

    Attributes:
        world_size: Over all machines.
        local_world_size: On this machine.
    """

    world_size: int
    local_world_size: int


def launcher_env() -> LauncherEnv:
    """What torchrun, or SLURM's srun, announces in the environment; one process where neither does.

    Raises:
        HeadwayError: srun without a number of tasks per machine, which Fabric needs.
    """
    given = os.environ
    if "WORLD_SIZE" in given:  # torchrun comes before SLURM, since it may run inside it
        processes = int(given["WORLD_SIZE"])
        return LauncherEnv(processes, int(given.get("LOCAL_WORLD_SIZE", processes)))
    if "SLURM_PROCID" in given and given.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        processes = int(given.get("SLURM_NTASKS", 1))
        if processes > 1 and "SLURM_NTASKS_PER_NODE" not in given:
            raise HeadwayError(
                "processes-unsupported",
                f"srun starts {processes} tasks without a number per machine; give --ntasks-per-node",
            )
        return LauncherEnv(processes, int(given.get("SLURM_NTASKS_PER_NODE", 1)))
    return LauncherEnv(1, 1)
