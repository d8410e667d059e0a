"""`kill -9` at random moments of real runs, which must end in the same bits: `python benchmarks/kill.py --kills 100`.

For each task one run goes through undisturbed; then runs of the same command are killed, each attempt after a random
time, and go on with `--resume` until they finish, until there were as many kills as asked for. Every finished run must
have the first one's weights, to the bit, and each step once in its log. An attempt is a process of its own (forked from
one that has only imported the libraries, which saves seconds each time), and the kill is the operating system's.
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
SMALL = {
    "dino": [
        "--recipe.task.num-prototypes",
        "64",
        "--recipe.task.hidden-dim",
        "64",
        "--recipe.task.num-local-crops",
        "2",
    ],
    "mae": ["--recipe.task.decoder-dim", "32", "--recipe.task.decoder-depth", "1"],
}


def attempt(words: list[str], log: Path, seconds: float | None) -> int | None:
    """Run a command in a process of its own; its exit code, or None where it was killed after so many seconds."""
    child = os.fork()
    if not child:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        from headway.cli import main

        os._exit(main(words))
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if until is not None and time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]  # it may have come to its end just before
            return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
        time.sleep(0.002)


def where(run: Path) -> str:
    """What the kill found, by what lies in the run folder."""
    if not (run / "run.json").exists():
        return "before the record"
    torn = [path for folder in (run, run / "state") if folder.is_dir() for path in folder.glob(".*.tmp")]
    if torn:
        return "while writing a file"
    steps = [path for path in (run / "state").glob("[0-9]*")] if (run / "state").is_dir() else []
    return "while training" if steps else "before the first step"


def one_task(task: str, arguments: argparse.Namespace, kills: int, folder: Path, chance: random.Random) -> Counter:
    """Kill runs of one task so often; what the kills found. Exits where bits differ."""
    words = ["pretrain", task, "--data", str(folder / "photos"), "--backbone", "vit_nano", "--patch", "8"]
    words += ["--steps", str(arguments.steps), "--save-every", "3", "--recipe.batch-size", "16", *SMALL.get(task, [])]
    log = folder / f"{task}.log"
    for name in ("choices", "whole"):  # the first measures choices and leaves them in the cache for the others
        began = time.monotonic()
        if attempt([*words, "--out", str(folder / task / name)], log, None):
            sys.exit(f"{task}: the undisturbed run failed\n{log.read_text()[-2000:]}")
    whole, found, done = time.monotonic() - began, Counter(), 0
    expected = (folder / task / "whole" / "model.safetensors").read_bytes()
    finished = 0
    while done < kills or not finished:
        run = folder / task / f"run{finished}"
        code = None
        while code is None:
            seconds = chance.uniform(0, whole) if done < kills else None
            code = attempt([*words, "--out", str(run), "--resume"], log, seconds)
            if code is None:
                done += 1
                found[where(run)] += 1
        if code:
            sys.exit(f"{task}: exit code {code} after a kill\n{log.read_text()[-2000:]}")
        if (run / "model.safetensors").read_bytes() != expected:
            sys.exit(f"{task}: the weights in {run} are not those of the undisturbed run")
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        steps = [line["step"] for line in lines if "loss" in line]
        if steps != sorted(set(steps)) or steps[-1] != arguments.steps:
            sys.exit(f"{task}: the log of {run} counts {steps}")
        finished += 1
        if finished > 1:
            shutil.rmtree(run)
    print(f"{task}: {done} kills, {finished} runs finished, all in the same bits ({dict(found)})", flush=True)
    return found


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", default=",".join(TASKS))
    arguments = parser.parse_args()
    tasks, chance = arguments.tasks.split(","), random.Random(arguments.seed)
    import lightning_fabric
    import torch
    import tyro

    import headway.cli.pretrain
    from headway.synthetic import write_folder

    assert lightning_fabric and tyro and headway.cli.pretrain
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HEADWAY_CACHE"] = str(folder / "cache")
        write_folder(folder / "photos", 64, 32)
        found: Counter = Counter()
        for number, task in enumerate(tasks):
            share = arguments.kills * (number + 1) // len(tasks) - arguments.kills * number // len(tasks)
            found += one_task(task, arguments, share, folder, chance)
    total = sum(found.values())
    print(f"{total} kills at random moments, every run ended in the bits of the undisturbed one: {dict(found)}")


if __name__ == "__main__":
    main()
