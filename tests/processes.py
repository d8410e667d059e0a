"""Several processes that run functions for tests: gloo groups, started once since that takes seconds, and teams."""

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from headway.distributed import rank
from headway.worker_team import worker_team


class Workers:
    """``size`` processes with ranks; ``run`` calls one function on all of them."""

    def __init__(self, size: int):
        context = multiprocessing.get_context("spawn")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        pipes = [context.Pipe() for _ in range(size)]
        self.pipes = [mine for mine, _ in pipes]
        self.processes = [
            context.Process(target=_serve, args=(rank, size, port, theirs), daemon=True)
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process in self.processes:
            process.start()

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """The results of ``function(*arguments)`` on each rank; the first error is raised here."""
        for pipe in self.pipes:
            pipe.send((function, arguments))
        answers = [pipe.recv() for pipe in self.pipes]
        for _, fault in answers:
            if fault:
                raise AssertionError(f"a worker failed:\n{fault}")
        return [answer for answer, _ in answers]

    def close(self) -> None:
        """End the processes."""
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.processes:
            process.join(timeout=20)


def _serve(rank: int, size: int, port: int, pipe: Any) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), LOCAL_WORLD_SIZE=str(size),
        GROUP_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_RUN_ID="tests",
    )  # fmt: skip
    import torch

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    while (job := pipe.recv()) is not None:
        function, arguments = job
        try:
            pipe.send((function(*arguments), None))
        except BaseException:
            pipe.send((None, traceback.format_exc()))
    torch.distributed.destroy_process_group()


def run_in_team(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The results of ``function(*arguments)`` on each rank of a ``worker_team``."""
    with TemporaryDirectory() as folder:
        with worker_team(size):
            own = Path(folder, str(rank()))
            own.write_bytes(pickle.dumps(function(*arguments)))
        return [pickle.loads(Path(folder, str(number)).read_bytes()) for number in range(size)]


def is_running(process: int) -> bool:
    """Whether a process, which is no longer our child once we have waited for it, exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
