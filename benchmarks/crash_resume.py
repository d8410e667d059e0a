"""Kill real runs with SIGKILL at random moments; resumed, they must end in the same bits.

    python benchmarks/crash_resume.py --kills 100

For each task one run is left undisturbed. Then runs of the same command are killed, each attempt after a random time,
and resumed with ``--resume`` until they finish; new runs begin until the number of kills is reached. Every finished run
must have the weights of the undisturbed one, to the bit, and each step once in its log. An attempt is a process of its
own, forked from one that has only imported the libraries, which saves seconds per attempt.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TASKS = ("rotation", "dino", "mae")
SMALL_OPTIONS = {
    "dino": {"num-prototypes": 64, "hidden-dim": 64, "num-local-crops": 2},
    "mae": {"decoder-dim": 32, "decoder-depth": 1},
}
"""Options of each task (``--recipe.task.NAME``) that make a step fast."""


def attempt(words: list[str], log: Path, seconds: float | None) -> int | None:
    """Run a command in a process of its own; return its exit code, or None if it was killed after so many seconds."""
    child = os.fork()
    if not child:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        from headway.cli import main

        os._exit(main(words))
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if deadline is not None and time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]  # it may have ended just before the kill
            return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
        time.sleep(0.002)


def killed_phase(run: Path) -> str:
    """In which phase the kill came, by the files in the run folder."""
    if not (run / "run.json").exists():
        return "before the record"
    unfinished = [path for folder in (run, run / "state") if folder.is_dir() for path in folder.glob(".*.tmp")]
    if unfinished:
        return "while writing a file"
    steps = [path for path in (run / "state").glob("[0-9]*")] if (run / "state").is_dir() else []
    return "while training" if steps else "before the first step"


def kill_and_resume(task: str, args: argparse.Namespace, kills: int, folder: Path, rng: random.Random) -> Counter[str]:
    """Kill runs of one task so many times; count the phases of the kills. Exits if bits differ."""
    words = ["pretrain", task, "--data", str(folder / "photos"), "--backbone", "vit_nano", "--patch", "8"]
    words += ["--steps", str(args.steps), "--save-every", "3", "--recipe.batch-size", "16"]
    for name, value in SMALL_OPTIONS.get(task, {}).items():
        words += [f"--recipe.task.{name}", str(value)]
    log = folder / f"{task}.log"
    for name in ("choices", "whole"):  # the first measures choices and leaves them in the cache for the others
        start = time.monotonic()
        if attempt([*words, "--out", str(folder / task / name)], log, None):
            sys.exit(f"{task}: the undisturbed run failed\n{log.read_text()[-2000:]}")
    duration, phases, done = time.monotonic() - start, Counter[str](), 0
    expected = (folder / task / "whole" / "model.safetensors").read_bytes()
    finished = 0
    while done < kills or not finished:
        run = folder / task / f"run{finished}"
        code = None
        while code is None:
            seconds = rng.uniform(0, duration) if done < kills else None
            code = attempt([*words, "--out", str(run), "--resume"], log, seconds)
            if code is None:
                done += 1
                phases[killed_phase(run)] += 1
        if code:
            sys.exit(f"{task}: exit code {code} after a kill\n{log.read_text()[-2000:]}")
        if (run / "model.safetensors").read_bytes() != expected:
            sys.exit(f"{task}: the weights in {run} are not those of the undisturbed run")
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        steps = [line["step"] for line in lines if "loss" in line]
        if steps != sorted(set(steps)) or steps[-1] != args.steps:
            sys.exit(f"{task}: the log of {run} counts {steps}")
        finished += 1
        if finished > 1:
            shutil.rmtree(run)
    print(f"{task}: {done} kills, {finished} runs finished, all in the same bits ({dict(phases)})", flush=True)
    return phases


def main() -> None:
    """Kill, resume and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", default=",".join(TASKS))
    args = parser.parse_args()
    tasks, rng = args.tasks.split(","), random.Random(args.seed)
    import lightning_fabric
    import torch
    import tyro

    import headway.train.pretrain
    from headway.synthetic import write_folder

    assert lightning_fabric and tyro and headway.train.pretrain
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HEADWAY_CACHE"] = str(folder / "cache")
        write_folder(folder / "photos", 64, 32)
        phases: Counter[str] = Counter()
        for number, task in enumerate(tasks):
            kills = args.kills * (number + 1) // len(tasks) - args.kills * number // len(tasks)
            phases += kill_and_resume(task, args, kills, folder, rng)
    total = sum(phases.values())
    print(f"{total} kills at random moments, every run ended in the bits of the undisturbed one: {dict(phases)}")


if __name__ == "__main__":
    main()
