"""Several processes, started by torchrun on the command line."""

import json
import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from headway.cli import main
from headway.synthetic import write_folder

NETWORK = ["--backbone", "vit_nano", "--stem", "conv", "--patch", "8"]


def pretrain(processes, *words):
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "-m", "headway.cli"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command += ["pretrain", *map(str, words), *NETWORK, "--json"]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_folder(folder, 48, 32, seed=0)
    return folder


@pytest.mark.slow
def test_two_processes_with_fsdp_end_in_the_weights_of_one(photos, tmp_path, capsys):
    words = ["simclr", "--data", photos, "--steps", 4, "--recipe.batch-size", 16, "--precision", "float64"]
    assert main(["pretrain", *map(str, words), *NETWORK, "--out", str(tmp_path / "1"), "--json"]) == 0
    done = pretrain(2, *words, "--fsdp", "--out", tmp_path / "2")
    assert done.returncode == 0, done.stderr
    for printed in (capsys.readouterr().out, done.stdout):
        lines = [line for line in printed.splitlines() if line.startswith("{")]
        assert len(lines) == 1 and json.loads(lines[0])["steps"] == 4
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("1", "2"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-9


@pytest.mark.slow
def test_a_budget_gives_all_processes_the_same_number_of_steps(photos, tmp_path):
    done = pretrain(2, "rotation", "--data", photos, "--budget", "8s", "--out", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert record["status"] == "finished" and record["result"]["steps"] == record["plan"]["steps"] > 0
