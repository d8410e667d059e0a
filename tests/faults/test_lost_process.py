"""A lost process ends the run with one line; torchrun --max-restarts resumes from the last checkpoint."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
from safetensors.torch import load_file

import headway
from headway.data.dataset import image_store
from headway.pretext import TASKS
from headway.synthetic import write_folder
from headway.utils.launcher import launcher_env

RECIPE = """
    import os, signal
    from pathlib import Path
    from dataclasses import dataclass, replace
    from headway.distributed import rank
    from headway.pretext.rotation import RECIPE as plain, Rotation, RotationTask


    @dataclass(frozen=True)
    class Config(Rotation):
        def build(self, backbone, data_info):
            task = RotationTask(self, backbone.embed_dim, data_info.input_size)
            honest, mark = task.after_step, Path("killed")

            def after_step(network, step_stats, clock):
                trained = network.training and clock.total_steps == 10  # not in the measurements
                if clock.step == 5 and trained and rank() == 1 and not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                honest(network, step_stats, clock)

            task.after_step = after_step
            return task

    RECIPE = replace(plain, task=Config(), batch_size=16)
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_folder(folder, 32, 32)
    return folder


@pytest.mark.slow
def test_a_restart_resumes_to_the_same_weights_after_one_line(photos, tmp_path):
    (tmp_path / "mine.py").write_text(textwrap.dedent(RECIPE))
    words = ["--backbone", "vit_nano", "--stem", "conv", "--patch", 8, "--precision", "float64", "--steps", 10]
    words = ["pretrain", "mine:RECIPE", "--data", photos, "--out", "r", "--resume", "--save-every", 2, *words]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1"]
    command += ["--monitor-interval=0.1", "-m", "headway.cli", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "killed").exists()
    lines = [line for line in done.stderr.splitlines() if line.startswith("headway pretrain:")]
    assert len(lines) == 1 and "another process of this run is gone" in lines[0] and "--resume" in lines[0]
    out = tmp_path / "whole"
    recipe = replace(TASKS["rotation"], batch_size=16)
    headway.pretrain(
        "rotation", data=photos, out=out, backbone="vit_nano", stem="conv", patch=8, precision="float64", steps=10,
        recipe=recipe,
    )  # fmt: skip
    one, two = (load_file(folder / "model.safetensors") for folder in (out, tmp_path / "r"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-9
    log = (tmp_path / "r" / "log.jsonl").read_text().splitlines()
    steps = [line["step"] for line in map(json.loads, log) if "loss" in line]
    assert steps == sorted(set(steps)) and steps[-1] == 10


SLURM = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "headway", "SLURM_NODELIST": "127.0.0.1", "SLURM_NODEID": "0"}


@pytest.mark.slow
def test_slurm_tasks_become_processes():
    code = (
        "from headway.distributed import all_gather_int, rank, world_size\n"
        "from headway.train.engine.fabric import make_fabric\n"
        "f = make_fabric(accelerator='cpu')\n"
        "print(rank(), world_size(), f.global_rank, f.world_size, all_gather_int(rank() + 5))\n"
    )
    started = []
    for number in range(2):
        tasks = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_PROCID": str(number)}
        environment = {**os.environ, **SLURM, **tasks, "SLURM_LOCALID": str(number), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        started.append(process)
    answers = [process.communicate(timeout=120)[0].split("\n")[0] for process in started]
    assert answers == ["0 2 0 2 [5, 6]", "1 2 1 2 [5, 6]"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, (1, 1)),
        ({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, (8, 4)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4"}, (8, 4)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_JOB_NAME": "bash"}, (1, 1)),
        ({"WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, (2, 2)),  # torchrun inside a SLURM job
    ],
)
def test_launchers_announce_their_processes(given, found, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "WORLD_", "LOCAL_"))]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert launcher_env() == found
    monkeypatch.setattr(image_store, "_container_memory_limit", lambda: 1 << 20)
    assert image_store.memory_budget() == (1 << 18) // found[1], "each process of a machine has its own images"
