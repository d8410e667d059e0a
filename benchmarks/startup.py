"""Processor time until a verb that trains nothing is done, as a multiple of importing torch in the same run.

    python benchmarks/startup.py                         # --help of every verb; check, tasks and show on 16 images

Each command runs in a new process on one thread; the commands are interleaved, and medians of --repeats are reported.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from headway.cli.verbs import VERBS
from headway.synthetic import DrawnAnimals

NUM_IMAGES, SIDE = 16, 96


def processor_seconds(command: list[str], exit_codes: tuple[int, ...]) -> float:
    """User and system seconds of a command. Raises RuntimeError where it exits with another code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in exit_codes:
        raise RuntimeError(f"{' '.join(command)} exits with {done.returncode}: {done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images, out = Path(folder, "images"), Path(folder, "show.png")
        images.mkdir()
        source = DrawnAnimals(NUM_IMAGES, SIDE, 0)
        for i in range(NUM_IMAGES):
            Image.fromarray(source.image(i).permute(1, 2, 0).numpy()).save(images / f"{i}.jpg")
        headway = [sys.executable, "-m", "headway.cli"]
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            "headway --help": [*headway, "--help"],
            "check": [*headway, "check", str(images)],
            "tasks": [*headway, "tasks"],
            "show": [*headway, "show", "rotation", "--data", str(images), "--out", str(out)],
            **{f"{verb} --help": [*headway, verb, "--help"] for verb in VERBS},
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(args.repeats):
            for name, command in commands.items():
                out.unlink(missing_ok=True)
                seconds[name].append(processor_seconds(command, (0, 1) if name == "check" else (0,)))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    rows = {name: {"seconds": time, "ratio": time / medians["import torch"]} for name, time in medians.items()}
    if args.json:
        print(json.dumps({"repeats": args.repeats, "commands": rows}))
        return
    for name, row in rows.items():
        print(f"{name:<18}{row['seconds']:6.2f} s {row['ratio']:5.2f}")


if __name__ == "__main__":
    main()
